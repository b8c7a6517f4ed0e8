"""The port to the records of AI tasks: the tasks, the copying of their results, the notifications seen.

Times are milliseconds since 1970. Every method is atomic, as those of `gateway.metadata` are, and raises what they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Any, Protocol, TypedDict

Json = Mapping[str, Any]


@unique
class Stage(StrEnum):
    """Where a task is on its way through the gateway."""

    CREATING = "creating"  # the provider is being asked to begin, or its answer was lost
    RUNNING = "running"  # the provider works on it
    COPYING = "copying"  # the media are copied into the storage
    DONE = "done"  # nothing of it changes any more


@unique
class CopyState(StrEnum):
    """Where a media item is. A waiting one may be in a worker's hands at this moment."""

    WAITING = "waiting"
    STORED = "stored"
    FAILED = "failed"


@dataclass(frozen=True)
class Task:
    """A task. `options`, `task_info` and `task_result` hold references, never signed URLs.

    `next_ask_at` is when somebody has to look after it, None once it is done. `answer_id` names the answer whose media
    are copied: of several that say "success" at once, one counts.
    """

    id: str
    user_id: str
    provider: str
    media_type: str
    model: str
    prompt: str
    options: Json
    status: str
    stage: Stage
    created_at: int
    updated_at: int
    deadline: int
    task_info: Json = field(default_factory=dict)
    task_result: Json | None = None
    scene: str | None = None
    provider_task_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    idempotency_key: str | None = None
    next_ask_at: int | None = None
    asks: int = 0
    retention_ends: int | None = None
    answer_id: str | None = None


class TaskChanges(TypedDict, total=False):
    """The fields of a task that can change after it was added."""

    provider_task_id: str | None
    status: str
    stage: Stage
    task_info: Json
    task_result: Json | None
    error_code: str | None
    error_message: str | None
    updated_at: int
    idempotency_key: None
    next_ask_at: int | None
    asks: int
    retention_ends: int | None
    answer_id: str | None


@dataclass(frozen=True, slots=True)
class TaskListing:
    """Which of a user's tasks to list, newest first; `after` is the (created_at, id) of the last one before."""

    user_id: str
    limit: int
    after: tuple[int, str] | None = None


@dataclass(frozen=True)
class Copy:
    """One media item on its way into the storage, unique by (provider, provider_task_id, role, ordinal).

    `asset_id` is the asset that it will be, decided before the first attempt. `url` is None for bytes that came inline.
    An empty `purpose` is chosen by the type of the bytes. While leased, `next_try_at` is when the lease ends.
    """

    id: str
    provider: str
    provider_task_id: str
    role: str
    ordinal: int
    url: str | None
    owner: str
    asset_id: str
    created_at: int
    updated_at: int
    next_try_at: int
    retention_ends: int
    task_id: str | None = None
    details: Json = field(default_factory=dict)
    purpose: str = ""
    visibility: str = "private"
    state: CopyState = CopyState.WAITING
    attempts: int = 0
    leased_by: str | None = None
    media_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    reason: str | None = None
    reason_detail: str | None = None


class CopyChanges(TypedDict, total=False):
    """The fields of a copy that can change. Whoever changes one gives its lease back."""

    state: CopyState
    url: str | None
    updated_at: int
    next_try_at: int
    media_type: str
    size: int
    sha256: str
    reason: str | None
    reason_detail: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """A notification as it is remembered. `task_id` is ours, as the callback URL names it, None where it does not."""

    provider: str
    event_id: str
    provider_task_id: str | None
    task_id: str | None
    expires_at: int
    nonce: str


class Tasks(Protocol):
    """The records of the tasks."""

    async def add(self, task: Task) -> Task:
        """Add a task, or return the one of that user that has its idempotency key already."""
        ...

    async def get(self, task_id: str) -> Task | None: ...

    async def change(self, seen: Task, changes: TaskChanges) -> Task | None:
        """Change a task that is in the stage it was seen in; return it, or None if it was not.

        A `next_ask_at` that became earlier since it was seen stays: somebody wants it looked after.
        """
        ...

    async def copy(self, seen: Task, changes: TaskChanges, media: Sequence[Copy]) -> Task | None:
        """Change a task and add the copies of its media, all or nothing; None, and no copy added, if it moved on."""
        ...

    async def claim(self, now: int, until: int, limit: int) -> list[Task]:
        """Take tasks whose `next_ask_at` has come, and put it off to `until`: whoever takes them may die."""
        ...

    async def list(self, listing: TaskListing) -> list[Task]: ...


class Copies(Protocol):
    """The records of the media being copied."""

    async def add(self, copy: Copy) -> Copy:
        """Add a copy of no task, or return the one that is there for the same item."""
        ...

    async def of(self, task_id: str) -> list[Copy]:
        """Every copy of a task, by role and ordinal."""
        ...

    async def claim(self, now: int, until: int, by: str, limit: int) -> list[Copy]:
        """Lease waiting copies until `until`, those first whose retention ends first; each counts an attempt."""
        ...

    async def renew(self, ids: Sequence[str], by: str, until: int) -> set[str]:
        """Lengthen leases; return the ids of those that `by` still has."""
        ...

    async def note(self, copy: Copy, changes: CopyChanges) -> Copy | None:
        """Change a copy and end its lease; None when the lease was lost."""
        ...

    async def oldest(self) -> int | None:
        """When the oldest waiting copy was added."""
        ...


class Events(Protocol):
    """The notifications seen."""

    async def note(self, event: Event, now: int) -> bool:
        """Remember a notification and have its task looked after at once; False, and nothing done, for a replay.

        A task of ours whose provider's id is not known yet takes the one of the event that names it.
        """
        ...

    async def forget(self, now: int) -> int:
        """Remove those that have expired; return how many."""
        ...


@dataclass(frozen=True, slots=True)
class TaskRecords:
    """The three together."""

    tasks: Tasks
    copies: Copies
    events: Events
