"""The port to the AI providers: what is asked of them, and what they say, in our words.

A member of the family is a module with `open_provider(settings: Provider, clock: Clock, session: ClientSession)`, which
raises `CannotStart` when a setting is missing or wrong. What a member raises:

    ProviderError                  with `code`, cleaned `message` and the HTTP `status`, if one came
    ├── ProviderRefused            their no: asking again changes nothing
    │   └── JobNotFound            they do not know the job, or know it no longer
    ├── ProviderKeyRefused         our key or our credit is not good: the operator must act; no fault of the task
    └── ProviderUnavailable        ask again, after `retry_after` seconds if given; `uncertain`: they may have begun

A status that a member does not know means "still running, ask again": providers add words without telling (Replicate
added `aborted`, Google `requires_continuation`), so whoever asks keeps a deadline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

Status = Literal["pending", "processing", "success", "failed", "canceled"]
MediaType = Literal["image", "video", "audio", "music"]
Role = Literal["image", "video", "audio", "song", "thumbnail", "cover"]

MAIN_ROLE: Mapping[MediaType, Role] = {"image": "image", "video": "video", "audio": "audio", "music": "song"}
FINISHED: frozenset[Status] = frozenset({"success", "failed", "canceled"})


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What to make. `options` are the provider's own parameters, any refs in them already signed URLs.

    `callback_url` is None for a provider that takes no notifications. `idempotency_key` is ours; no provider takes one
    today, so it names only what has no name of theirs.
    """

    model: str
    prompt: str
    media_type: MediaType
    options: Mapping[str, Any]
    callback_url: str | None
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Handle:
    """A job of ours as its provider knows it, and for whom it runs; `user_id` reaches our log, never the provider."""

    provider_task_id: str
    user_id: str
    model: str
    media_type: MediaType
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MediaItem:
    """One file of a result: at `url`, or here already as `inline` bytes.

    `(role, ordinal)` is the same however often one asks. A thumbnail or cover shows the main item of its ordinal.
    `media_type` is what the provider declares, `details` what it tells besides: title, duration, width, height.
    """

    role: Role
    ordinal: int
    url: str | None = None
    inline: bytes | None = field(default=None, repr=False)
    media_type: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """How a job stands. `retention_ends` (ms since 1970) is when the provider may delete the media; None is unknown."""

    provider_task_id: str
    status: Status
    media: tuple[MediaItem, ...] = ()
    error_code: str | None = None
    error_message: str | None = None
    retention_ends: int | None = None
    progress: float | None = None  # 0 to 1

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


@dataclass(frozen=True, slots=True)
class Notification:
    """An authentic message. `event_id` is equal in every repetition of it.

    `provider_task_id` is None when it concerns no job: a ping, an event of no interest. `hint` is what the message
    claims, without media; the truth is the provider's answer to a query.
    """

    event_id: str
    provider_task_id: str | None
    hint: Status | None = None


class Provider(Protocol):
    """One AI provider. Nothing it holds changes after it was opened, its caches apart."""

    @property
    def result_hosts(self) -> Sequence[str]:
        """Where its results may be fetched from: exact hosts and `*.suffix` forms."""
        ...

    @property
    def accepts_notifications(self) -> bool:
        """Whether authenticity can be judged; if not, the notify route of this provider answers 404."""
        ...

    async def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> Notification:
        """Judge the raw bytes, then read them. Raises `CredentialInvalid`; `Unavailable` if there is no judging now."""
        ...

    async def create(self, request: GenerateRequest) -> Job: ...

    async def query(self, handle: Handle) -> Job: ...

    async def cancel(self, handle: Handle) -> bool:
        """Ask the provider to stop; False when it has no such ability. How it ends is learned by asking."""
        ...

    def fetch_headers(self, url: str, *, refused: bool = False) -> Mapping[str, str]:
        """Return what a download of `url` must carry: credentials, to be used and never stored.

        `refused` says that a download without was answered 401 or 403.
        """
        ...


class Relinked(NamedTuple):
    """A fresh address of a file, and the hosts that are good for this address alone."""

    url: str
    hosts: Sequence[str]


@runtime_checkable
class Relinking(Protocol):
    """A provider that gives a file another address when its first one is refused or gone."""

    async def relink(self, url: str) -> Relinked: ...


class ProviderError(Exception):
    """What went wrong with a provider, fit to be shown to the task's owner."""

    def __init__(self, code: str, message: str = "", *, status: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class ProviderRefused(ProviderError):
    """Asking again changes nothing."""


class JobNotFound(ProviderRefused):
    """The provider does not know the job, or knows it no longer."""


class ProviderKeyRefused(ProviderError):
    """Our key, our rights or our credit: 401, 402, 403 and the like."""


class ProviderUnavailable(ProviderError):
    """Asking again may work. `uncertain` says that a job may have been begun, and paid for, all the same."""

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        status: int | None = None,
        retry_after: float | None = None,
        uncertain: bool = False,
    ) -> None:
        super().__init__(code, message, status=status)
        self.retry_after = retry_after
        self.uncertain = uncertain


def running(task_id: str, status: Status, progress: float | None = None) -> Job:
    return Job(task_id, status, progress=progress)


def succeeded(task_id: str, media: Sequence[MediaItem], retention_ends: int | None) -> Job:
    """Make the job of a success; one that made no media has failed for us."""
    if not media:
        return failed(task_id, "no_media", "The provider reported success and delivered no media")
    return Job(task_id, "success", tuple(media), retention_ends=retention_ends)


def failed(task_id: str, code: str, message: str | None) -> Job:
    return Job(task_id, "failed", error_code=code, error_message=message or None)


def canceled(task_id: str) -> Job:
    return Job(task_id, "canceled", error_code="canceled")
