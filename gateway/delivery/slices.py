"""The local slice cache: a storage before a remote one, read out of memory maps what was fetched once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from gateway.clock import Clock
from gateway.delivery.slice_cache import SliceCache
from gateway.delivery.slice_files import Mapped
from gateway.delivery.slice_fills import Abandoned, Fill, Key, Known, Ticket
from gateway.delivery.slice_maps import SliceMaps
from gateway.delivery.slice_store import SliceStore
from gateway.errors import AssetgateError, CannotStart
from gateway.settings import Cache
from gateway.storage import Buffer, Presigning, Resident, Sink, Storage, Stored, Unfinished
from policies.model import Action, Grant

STEP: Final = (
    256 * 1024
)  # bytes of one buffer: large enough to outweigh the loop's work for it, small enough to be fair
PATIENCE: Final = 2.0  # seconds that a connection to the storage waits for a slow reader before it is given back
_MOST_NOTED: Final = 10_000  # objects whose sizes and reads are remembered
_MOST_AHEAD: Final = 16  # objects that are read ahead of their readers at once


async def cached(storage: Storage, settings: Cache, clock: Clock) -> Storage:
    """Put the cache before a storage, unless its bytes lie here already or the cache is off. Raises `CannotStart`."""
    if isinstance(storage, Resident) or not settings.max_bytes:
        return storage
    try:
        return await open_slices(storage, settings, clock)
    except CannotStart:
        await storage.close()
        raise


async def open_slices(storage: Storage, settings: Cache, clock: Clock, patience: float = PATIENCE) -> Slices:
    """Open the folder `cache.path`, making it. Raises `CannotStart`."""
    folder = Path(settings.path)
    store = SliceStore(folder, settings.max_bytes, clock)
    try:
        await asyncio.to_thread(store.start)
    except OSError as error:
        raise CannotStart(f"cache.path: {folder} cannot be written to: {error.strerror}") from error
    kind = PresigningSlices if isinstance(storage, Presigning) else Slices
    return kind(storage, store, settings, patience)


class Told(NamedTuple):
    """Bytes that the storage sent into the cache; those that it takes of the disk, and of this worker's memory."""

    fetched: int
    disk: int
    memory: int


class Slices:
    """A `Storage` and `Resident`. Every read brings its own grant: shared bytes never mean a shared permission."""

    def __init__(self, storage: Storage, store: SliceStore, settings: Cache, patience: float) -> None:
        self._storage = storage
        self._store = store
        self._settings = settings
        self._slice_bytes = settings.slice_bytes
        window = -(-settings.read_ahead // settings.slice_bytes)
        self._maps = SliceMaps(store, settings.slice_bytes, window, settings.memory_bytes)
        self._known = self._maps.known
        self._cache = SliceCache(storage, store, self._maps, patience)
        self._reads: OrderedDict[Key, int] = OrderedDict()
        self._sizes: OrderedDict[Key, int] = OrderedDict()
        self._ahead: set[asyncio.Task[None]] = set()

    def told(self) -> Told:
        """What there is to count of the cache; what was fetched, since the last time."""
        fetched, self._cache.fetched = self._cache.fetched, 0
        return Told(fetched, self._store.ledger.queues.total, self._maps.young.bytes)

    def resident(self, grant: Grant, wanted: range) -> memoryview | None:
        subject = grant.subject
        known = self._known.get((subject.locator, subject.version))
        if known is None or not wanted or grant.action is not Action.READ:
            return None
        index, start = divmod(wanted.start, self._slice_bytes)
        found = known.slices.get(index)
        stop = start + len(wanted)
        if found is None or stop > found.length:
            return None
        self._maps.hit(found)
        if found.is_young:
            self._note_read((subject.locator, subject.version), known)
            self._promote(known, index, found)
        return found.view[start:stop]

    @asynccontextmanager
    async def read(self, grant: Grant, wanted: range) -> AsyncIterator[AsyncIterator[Buffer]]:
        known = await self._known_for(grant, wanted)
        if known is None:
            async with self._storage.read(grant, wanted) as buffers:
                yield buffers
            return
        ticket = Ticket(wanted.start // self._slice_bytes, (wanted.stop - 1) // self._slice_bytes)
        known.tickets.add(ticket)
        pieces = self._pieces(known, grant, wanted, ticket)
        try:
            first = await anext(pieces)  # what is wrong is to be said before the first byte
            self._read_ahead(known, grant, wanted)
            async with aclosing(_from(first, pieces)) as buffers:
                yield buffers
        finally:
            try:
                await pieces.aclose()
            finally:
                await known.leave(ticket)

    def create(self, key: str, media_type: str) -> AbstractAsyncContextManager[Sink]:
        return self._storage.create(key, media_type)

    async def stat(self, key: str) -> Stored | None:
        return await self._storage.stat(key)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove the objects, then their slices: a fetch that begins in between finds nothing to keep."""
        try:
            await self._storage.delete(keys)
        finally:
            await self._cache.drop(tuple(keys))

    def list(self, after: str = "") -> AsyncIterator[Stored]:
        return self._storage.list(after)

    async def discard_unfinished(self, before: float) -> int:
        if isinstance(self._storage, Unfinished):
            return await self._storage.discard_unfinished(before)
        return 0

    async def close(self) -> None:
        for task in self._ahead:
            task.cancel()
        await asyncio.gather(*self._ahead, return_exceptions=True)
        await self._cache.close()
        await self._storage.close()

    async def _known_for(self, grant: Grant, wanted: range) -> Known | None:
        """Find what is known of the object. None: the read is the storage's alone, and so is what is wrong with it."""
        subject = grant.subject
        if grant.action is not Action.READ or not subject.version or not wanted:
            return None
        key = subject.locator, subject.version
        known = self._known.get(key)
        if known is None:
            size = subject.size if subject.size is not None else await self._size_of(key)
            if size is None:
                return None
            known = self._maps.know(key, size)
        if wanted.stop > known.size or subject.size not in {None, known.size}:
            return None
        self._note_read(key, known)
        return known

    def _note_read(self, key: Key, known: Known) -> None:
        """Count the reads of an object until there are enough for the disk."""
        if known.is_admitted:
            return
        count = self._reads.pop(key, 0) + 1
        known.is_admitted = count >= self._settings.admit_after
        if not known.is_admitted:
            self._reads[key] = count
            if len(self._reads) > _MOST_NOTED:
                self._reads.popitem(last=False)

    def _promote(self, known: Known, index: int, found: Mapped) -> None:
        if known.is_admitted:
            self._cache.promote(known, index, found)

    async def _size_of(self, key: Key) -> int | None:
        """Ask the storage how long an object is, where the grant does not say."""
        if key not in self._sizes:
            stored = await self._storage.stat(key[0])
            if stored is None or stored.version != key[1]:
                return None
            self._sizes[key] = stored.size
            if len(self._sizes) > _MOST_NOTED:
                self._sizes.popitem(last=False)
        return self._sizes[key]

    async def _pieces(
        self, known: Known, grant: Grant, wanted: range, ticket: Ticket
    ) -> AsyncGenerator[memoryview, None]:
        position = wanted.start
        while position < wanted.stop:
            index, start = divmod(position, self._slice_bytes)
            stop = min(wanted.stop - index * self._slice_bytes, self._slice_bytes)
            if ticket.position != index:
                ticket.position = index
                known.pulse()  # a fetch may wait for us
            got = await self._cache.obtain(known, grant, index, ticket.last)
            with suppress(Abandoned):
                end = min(stop, await self._readable(known, index, got, start))
                for at in range(start, end, STEP):
                    yield got.view[at : min(at + STEP, end)]
                position = index * self._slice_bytes + end

    async def _readable(self, known: Known, index: int, got: Mapped | Fill, start: int) -> int:
        if isinstance(got, Mapped):
            if not start:
                self._maps.hit(got)
            if got.is_young:
                self._promote(known, index, got)
            return got.length
        return await got.beyond(start)

    def _read_ahead(self, known: Known, grant: Grant, wanted: range) -> None:
        """Fetch on behind a reader that asks for one range after the other."""
        is_next, known.read_up_to = wanted.start == known.read_up_to, wanted.stop
        first = (wanted.stop - 1) // self._slice_bytes + 1
        last = min(first + known.window, -(-known.size // self._slice_bytes)) - 1
        if not is_next or not wanted.start or last < first or known.is_ahead or len(self._ahead) >= _MOST_AHEAD:
            return
        known.is_ahead = True
        task = asyncio.create_task(self._fetch_ahead(known, grant, Ticket(first, last)))
        self._ahead.add(task)
        task.add_done_callback(self._ahead.discard)

    async def _fetch_ahead(self, known: Known, grant: Grant, ticket: Ticket) -> None:
        known.tickets.add(ticket)
        try:
            # Whoever comes to read these bytes is told what is wrong with them.
            with suppress(AssetgateError, Abandoned):
                while ticket.position <= ticket.last and not self._cache.keeps_nothing:
                    got = await self._cache.obtain(known, grant, ticket.position, ticket.last)
                    if isinstance(got, Fill):
                        await got.beyond(got.length - 1)
                    ticket.position += 1
                    known.pulse()
        finally:
            known.is_ahead = False
            await known.leave(ticket)


class PresigningSlices(Slices):
    """The same before a storage that signs URLs of its own."""

    async def presign(
        self,
        grant: Grant,
        *,
        expires_in: float,
        media_type: str | None = None,
        disposition: str | None = None,
        cache_control: str | None = None,
    ) -> str:
        assert isinstance(self._storage, Presigning)  # noqa: S101 - `open_slices` chose this class for it
        return await self._storage.presign(
            grant,
            expires_in=expires_in,
            media_type=media_type,
            disposition=disposition,
            cache_control=cache_control,
        )


async def _from(first: memoryview, rest: AsyncIterator[memoryview]) -> AsyncGenerator[Buffer, None]:
    yield first
    async for piece in rest:
        yield piece
