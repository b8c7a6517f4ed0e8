"""The port to the records: who owns what, in which state, until when.

A member of the family is a module with `async open_metadata(settings: Settings, clock: Clock) -> Metadata`, found by
the scheme of the `metadata` setting. Every method is atomic: it happened whole or not at all. Members raise
`RecordsUnavailable`, `RecordsFault`, `RecordsTimeout`, and `StorageFull` when the disk of an embedded one is full.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

from gateway.metadata.news import News
from gateway.metadata.task_records import TaskRecords
from gateway.model import Asset
from policies.model import State, Visibility


class QuotaExceeded(Exception):
    """The owner would hold more than the quota; `limit` is the name of the one reached."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit


class AssetExists(Exception):
    """A record of that id is there already; nothing was added."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What an owner may hold in pending and ready assets together that have not expired."""

    max_files: int
    max_bytes: int


class Changes(TypedDict, total=False):
    """The fields of a record that can change after it was added."""

    visibility: Visibility
    filename: str | None
    state: State
    purpose: str
    object_key: str
    media_type: str
    size: int
    sha256: str
    object_version: str
    stored: bool
    updated_at: int
    expires_at: int | None
    deleted_at: int | None


@dataclass(frozen=True, slots=True)
class Listing:
    """Which ready assets to list, newest first. `media_type` is `image`, `video`, `audio` or a whole type.

    `after` is the (created_at, id) of the last asset of the page before.
    """

    limit: int
    owner: str | None = None
    purpose: str | None = None
    media_type: str | None = None
    after: tuple[int, str] | None = None


class Assets(Protocol):
    """The records of the assets."""

    async def add(self, asset: Asset, quota: Quota | None = None, now: int = 0) -> int:
        """Add a record; return the bytes that its owner holds already, 0 without a quota: nobody counted then.

        Raises `QuotaExceeded` or `AssetExists`, then adds nothing. `now` (milliseconds) decides which of the owner's
        assets have expired and count no more.
        """
        ...

    async def get(self, ids: Sequence[str]) -> dict[str, Asset]:
        """Return the records among `ids` that exist, by id."""
        ...

    async def change(
        self, asset_id: str, changes: Changes, when: State, quota: Quota | None = None, now: int = 0
    ) -> Asset | None:
        """Change a record that is in the state `when`; return it as it is then, or None if it was not.

        With a quota (and the new `size` among the changes) raises `QuotaExceeded` when the owner would hold too much.
        """
        ...

    async def revoke(self, asset_id: str, at: int) -> Asset | None:
        """Note that tokens issued up to `at` (seconds) are dead; never moves backwards. None: no ready record."""
        ...

    async def claim(self, guest: str, user: str, now: int) -> list[str]:
        """Make `user` the owner of what the owner `guest` has that is pending or ready and unexpired, expiry lifted.

        One transaction; returns the ids, none the second time.
        """
        ...

    async def list(self, listing: Listing) -> list[Asset]: ...


class Housekeeping(Protocol):
    """What the sweeper asks of the records."""

    async def expire(self, now: int, pending_before: int, limit: int) -> list[Asset]:
        """Take assets out of service: ready ones past `expires_at` become expired, pending ones deleted.

        A pending one goes when it was last updated before `pending_before`, or is past its expiry as well. Returns
        those that changed, `limit` at most.
        """
        ...

    async def discard(self, asset_id: str) -> None:
        """Remove the record of a pending asset of which no bytes are stored."""
        ...

    async def unswept(self, limit: int, after: str = "") -> list[Asset]:
        """Expired and deleted assets whose bytes may still be stored, by ascending id.

        Not those whose object another asset, pending or ready, shares: its bytes must stay.
        """
        ...

    async def swept(self, ids: Sequence[str]) -> None:
        """Note that the bytes of these are gone."""
        ...

    async def forget(self, before: int, limit: int) -> int:
        """Remove the records of assets out of service since before `before` (ms) whose bytes are gone."""
        ...

    def stored_keys(self, after: str = "") -> AsyncIterator[tuple[str, str, State]]:
        """Every (object key, asset id, state) that may have bytes, by ascending UTF-8 bytes of the key."""
        ...


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """A migration and when it was applied (milliseconds), or None."""

    name: str
    applied_at: int | None


class Schema(Protocol):
    """The shape of the database and its migrations (see `gateway.metadata.migrations`)."""

    async def upgrade(self) -> Sequence[str]:
        """Apply what is missing, once however many nodes ask at once; return the names. Raises `CannotStart`."""
        ...

    async def status(self) -> Sequence[MigrationStatus]: ...

    async def ping(self) -> None:
        """Return when a statement was answered; raises when the records are away."""
        ...

    async def close(self) -> None: ...


class Metadata(Assets, Housekeeping, Schema, Protocol):
    """All that a member of the family does."""

    @property
    def news(self) -> News:
        """How a memory of its records hears of their changes (see `gateway.metadata.remembered`)."""
        ...

    @property
    def task_records(self) -> TaskRecords:
        """The records of AI tasks (see `gateway.metadata.task_records`)."""
        ...
