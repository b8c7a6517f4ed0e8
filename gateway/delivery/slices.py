"""The local slice cache: a storage before a remote one, read out of memory maps what was fetched once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from gateway.clock import Clock
from gateway.delivery.slice_cache import SliceCache
from gateway.delivery.slice_feed import SliceFeed
from gateway.delivery.slice_fills import Key, Known
from gateway.delivery.slice_maps import SliceMaps
from gateway.delivery.slice_store import SliceStore
from gateway.errors import AssetgateError, CannotStart
from gateway.settings import Cache
from gateway.storage import Buffer, Presigning, Resident, Sink, Storage, Stored, Unfinished
from policies.model import Action, Grant

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
    """A `Storage`, `Resident` and `Feeding`.

    Every read brings its own grant: shared bytes never mean a shared permission.
    """

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
        if found.is_young:
            self._note_read(known)
        self._cache.count(known, index, found, is_hit=True)
        return found.view[start:stop]

    def feed(self, grant: Grant, wanted: range, ready: Callable[[], None]) -> SliceFeed | None:
        size = grant.subject.size
        known = self._known_for(grant, wanted, size) if size is not None else None
        return self._feed(known, grant, wanted, ready) if known is not None else None

    @asynccontextmanager
    async def read(self, grant: Grant, wanted: range) -> AsyncIterator[AsyncIterator[Buffer]]:
        size = grant.subject.size if grant.subject.size is not None else await self._size_of(grant)
        known = self._known_for(grant, wanted, size) if size is not None else None
        if known is None:
            async with self._storage.read(grant, wanted) as buffers:
                yield buffers
            return
        ready = asyncio.Event()
        feed = self._feed(known, grant, wanted, ready.set)
        try:
            first = await _taken(feed, ready)  # what is wrong is to be said before the first byte
            async with aclosing(_pieces(first, feed, ready, len(wanted))) as buffers:
                yield buffers
        finally:
            await feed.leave()

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

    def _feed(self, known: Known, grant: Grant, wanted: range, ready: Callable[[], None]) -> SliceFeed:
        return SliceFeed(self._cache, known, grant, wanted, ready, partial(self._read_ahead, known, grant, wanted))

    def _known_for(self, grant: Grant, wanted: range, size: int) -> Known | None:
        """Find what is known of the object. None: the read is the storage's alone, and so is what is wrong with it."""
        subject = grant.subject
        if grant.action is not Action.READ or not subject.version or not wanted:
            return None
        key = subject.locator, subject.version
        known = self._known.get(key)
        if known is None:
            known = self._maps.know(key, size)
        if wanted.stop > known.size or size != known.size:
            return None
        self._note_read(known)
        return known

    def _note_read(self, known: Known) -> None:
        """Count the reads of an object until there are enough for the disk."""
        if known.is_admitted:
            return
        count = self._reads.pop(known.key, 0) + 1
        known.is_admitted = count >= self._settings.admit_after
        if not known.is_admitted:
            self._reads[known.key] = count
            if len(self._reads) > _MOST_NOTED:
                self._reads.popitem(last=False)

    async def _size_of(self, grant: Grant) -> int | None:
        """Ask the storage how long an object is, where the grant does not say."""
        key = grant.subject.locator, grant.subject.version
        if grant.action is not Action.READ or not key[1]:
            return None
        if key not in self._sizes:
            stored = await self._storage.stat(key[0])
            if stored is None or stored.version != key[1]:
                return None
            self._sizes[key] = stored.size
            if len(self._sizes) > _MOST_NOTED:
                self._sizes.popitem(last=False)
        return self._sizes[key]

    def _read_ahead(self, known: Known, grant: Grant, wanted: range) -> None:
        """Fetch on behind a reader that asks for one range after the other."""
        is_next, known.read_up_to = wanted.start == known.read_up_to, wanted.stop
        first = (wanted.stop - 1) // self._slice_bytes + 1
        last = min(first + known.window, -(-known.size // self._slice_bytes)) - 1
        if not is_next or not wanted.start or last < first or known.is_ahead or len(self._ahead) >= _MOST_AHEAD:
            return
        known.is_ahead = True
        ahead = range(first * known.slice_bytes, min((last + 1) * known.slice_bytes, known.size))
        task = asyncio.create_task(self._fetch_ahead(known, grant, ahead))
        self._ahead.add(task)
        task.add_done_callback(self._ahead.discard)

    async def _fetch_ahead(self, known: Known, grant: Grant, wanted: range) -> None:
        ready = asyncio.Event()
        feed = SliceFeed(self._cache, known, grant, wanted, ready.set)
        try:
            # Whoever comes to read these bytes is told what is wrong with them.
            with suppress(AssetgateError):
                at = wanted.start
                while at < wanted.stop and not self._cache.keeps_nothing:
                    at += len(await _taken(feed, ready))
        finally:
            known.is_ahead = False
            await feed.leave()


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


async def _taken(feed: SliceFeed, ready: asyncio.Event) -> memoryview:
    """Wait for the next piece. `ready` is what the feed calls."""
    while True:
        ready.clear()
        piece = feed.take()
        if piece is not None:
            return piece
        await ready.wait()


async def _pieces(first: memoryview, feed: SliceFeed, ready: asyncio.Event, count: int) -> AsyncGenerator[Buffer, None]:
    yield first
    at = len(first)
    while at < count:
        piece = await _taken(feed, ready)
        yield piece
        at += len(piece)
