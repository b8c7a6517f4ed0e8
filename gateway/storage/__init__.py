"""The port to the bytes: opened for reading with a grant alone, written whole or not at all.

A member of the family is a module with `async open_storage(settings: Settings, clock: Clock) -> Storage`, found by the
scheme of the `storage` setting. Members raise `StorageUnavailable`, `StorageFault`, `StorageTimeout`, `StorageFull`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from policies.model import Grant

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Stored:
    """What the storage holds under a key. `modified` is in seconds since 1970; `version` changes with the bytes."""

    key: str
    size: int
    version: str
    modified: float


class Sink(Protocol):
    """Where one new object's bytes go. Until `commit` returned, nothing of it can be read by anyone."""

    async def write(self, data: Buffer) -> None: ...

    async def commit(self) -> Stored: ...


class Storage(Protocol):
    """Where the objects live. An object never changes under its key; it is written once and deleted once."""

    def read(self, grant: Grant, wanted: range) -> AbstractAsyncContextManager[AsyncIterator[Buffer]]:
        """Open the bytes `wanted` (step 1) of the object that the grant names, as buffers in order.

        It raises `StorageFault`, entered at the latest, when the object is missing, is another version or is shorter
        than `wanted`.
        Leaving at any point frees everything.
        """
        ...

    def create(self, key: str, media_type: str) -> AbstractAsyncContextManager[Sink]:
        """Open a sink for a new object; leaving without `commit` leaves nothing behind."""
        ...

    async def stat(self, key: str) -> Stored | None: ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove the objects; one that is not there is no error."""
        ...

    def list(self, after: str = "") -> AsyncIterator[Stored]:
        """Every object whose key is greater than `after`, in ascending order of the keys' UTF-8 bytes."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Resident(Protocol):
    """A storage some of whose bytes lie in this process's memory maps: they need no waiting."""

    def resident(self, grant: Grant, wanted: range) -> memoryview | None:
        """Return the bytes `wanted`, or None when they must be waited for by `Storage.read`."""
        ...


class Landing(Protocol):
    """Where a reader wants bytes received, who hears of them at once. Positions are those in the object."""

    def room(self, position: int) -> memoryview | None:
        """Give memory for the bytes from `position` on; None: there is none."""
        ...

    def landed(self, position: int, count: int) -> None:
        """Hear that so many bytes are there. They are handed out as all others are, afterwards."""
        ...


@runtime_checkable
class Placing(Protocol):
    """A storage that receives bytes where the reader wants them, which spares it a copy."""

    def read_into(
        self, grant: Grant, wanted: range, landing: Landing | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Buffer]]:
        """Do as `Storage.read`. Nothing lands before the head was checked: the bytes are of the version asked for."""
        ...


class Feed(Protocol):
    """The bytes of one read, taken as they come and never waited for."""

    def take(self) -> Buffer | None:
        """Return the next bytes. None: they are not there, and when it is worth asking again `ready` is called.

        Raises what `Storage.read` raises. The bytes never change, however long somebody holds them.
        """
        ...

    def close(self) -> None:
        """Free everything; `ready` is not called any more."""
        ...


@runtime_checkable
class Feeding(Protocol):
    """A storage whose bytes are handed on without a task that waits for them."""

    def feed(self, grant: Grant, wanted: range, ready: Callable[[], None]) -> Feed | None:
        """Begin to read; see `Storage.read`, which does it where this returns None.

        `ready` is never called out of a call of the feed's own.
        """
        ...


@runtime_checkable
class Unfinished(Protocol):
    """A storage in which a killed writer can leave parts of an object that no `list` shows."""

    async def discard_unfinished(self, before: float) -> int:
        """Remove what was begun before `before` (seconds since 1970) and never committed; return how many."""
        ...


@runtime_checkable
class Copying(Protocol):
    """A storage that copies an object by itself."""

    async def copy(self, source_key: str, key: str) -> Stored:
        """Make `key` a whole copy of `source_key`. Raises `StorageFault` when there is no such object."""
        ...


@runtime_checkable
class Presigning(Protocol):
    """A storage that lets the holder of a URL read one object for a while, without us."""

    async def presign(
        self,
        grant: Grant,
        *,
        expires_in: float,
        media_type: str | None = None,
        disposition: str | None = None,
        cache_control: str | None = None,
    ) -> str:
        """Sign a URL for GET alone; the other arguments are headers that its answers shall carry.

        It lives `expires_in` seconds, shorter when the storage's own credentials end first. No version is pinned.
        """
        ...
