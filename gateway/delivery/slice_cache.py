"""One worker's part of the slice cache: what it has mapped, what is on its way, and whom it serves from which."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, ParamSpec, TypeVar

from gateway.delivery import slice_files
from gateway.delivery.eviction import MOST_HITS
from gateway.delivery.ledger import Contended, Noted, Step
from gateway.delivery.slice_files import Followed, Mapped, Part
from gateway.delivery.slice_fills import Abandoned, Fetch, Fill, Following, Known
from gateway.delivery.slice_store import Claim, SliceStore
from gateway.storage import Storage
from policies.model import Grant

EXCHANGED: Final = 5.0  # seconds between two looks at what the other workers did
IDLE: Final = 6  # of those; a map unused for one to two such times goes, and with it the space of a removed file
_INLINE: Final = 128 * 1024  # bytes whose checksum costs less than a turn in a thread
_SLOW: Final = 0.02  # seconds; a disk that held the loop up for so long is written to from threads
_SLOW_FOR: Final = 10.0  # seconds
_THREADS: Final = 4
_MOST_MAPS: Final = 16_384  # a quarter of what Linux lets a process map by default
_MOST_COMMITS: Final = 32  # under way; a disk that is slower than the storage holds the fetches up
_LOOKED_AT: Final = 64  # slices behind a missing one that are looked for before they are all asked of the storage

_P = ParamSpec("_P")
_T = TypeVar("_T")
Key = tuple[str, str]  # an object's key and version


class SliceCache:
    """Brings slices: out of its maps, from the folder, from another worker's hands, from the storage."""

    def __init__(self, storage: Storage, store: SliceStore, slice_bytes: int, window: int, patience: float) -> None:
        self.known: dict[Key, Known] = {}
        self.patience = patience
        self._storage = storage
        self._store = store
        self._slice_bytes = slice_bytes
        self._window = window
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="slices")
        self._by_prefix: dict[bytes, Known] = {}
        self._maps: OrderedDict[bytes, Mapped] = OrderedDict()
        self._most_maps = _most_maps()
        self._hits: list[Mapped] = []
        self._commits: set[asyncio.Future[bool]] = set()
        self._slow_until = 0.0
        self._ticks = 0
        self._timer = asyncio.get_running_loop().call_later(EXCHANGED, self._tick)

    @property
    def keeps_nothing(self) -> bool:
        return self._store.is_paused

    def know(self, key: Key, size: int) -> Known:
        known = self.known.get(key)
        if known is None:
            prefix = slice_files.prefix_of(*key, self._slice_bytes)
            known = self.known[key] = self._by_prefix[prefix] = Known(prefix, size, self._slice_bytes, self._window)
        return known

    def hit(self, found: Mapped) -> None:
        """Count that a slice was asked for."""
        found.used = True
        if found.hits < MOST_HITS:
            if not found.hits:
                self._hits.append(found)
            found.hits += 1

    async def obtain(self, known: Known, grant: Grant, index: int, last: int) -> Mapped | Fill:
        """Get a slice, whole or as it comes, for a reader that will want all up to `last`."""
        while True:
            got = known.slices.get(index) or known.fills.get(index)
            if got is not None:
                return got
            if opening := known.opening.get(index):
                await asyncio.wait({opening})
                if not opening.cancelled():
                    opening.result()
            elif known.is_coming(index):
                await known.changed.wait()
            else:
                self._begin(known, grant, index, last)

    async def drop(self, keys: tuple[str, ...]) -> None:
        for key in [key for key in self.known if key[0] in keys]:
            self._detach(key)
        await self._run(self._store.drop, keys)
        self._forget_gone()

    async def close(self) -> None:
        self._timer.cancel()
        tasks = [task for known in self.known.values() for task in known.tasks()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._commits, return_exceptions=True)
        with suppress(Contended):
            self._exchange()
        self.known.clear()
        self._by_prefix.clear()
        self._maps.clear()
        await asyncio.to_thread(self._executor.shutdown)
        self._store.close()

    # What a fetch needs.

    async def claim(self, known: Known, index: int, since: int) -> Part | None:
        """Ask to write a slice. None: it is not to be kept. Raises `Abandoned` when somebody else has it."""
        claimed = await self._claim_in_thread(known, index, since)
        if isinstance(claimed, Part):
            return claimed
        self._let_go(claimed)
        if claimed is Claim.REFUSED:
            return None
        raise Abandoned

    async def write(self, part: Part, offset: int, data: memoryview) -> bool:
        """Write into a slice; False when the disk does not take it, and the slice is given up.

        In the loop, for the page cache takes 256 KiB in a third of the time that a thread's turn costs. After a write
        that had to wait for the disk, in threads for a while.
        """
        began = time.perf_counter()
        try:
            if began < self._slow_until:
                await self._run(part.write, offset, data)
            else:
                part.write(offset, data)
        except OSError as trouble:
            part.discard()
            self._store.failed(part.name, trouble)
            return False
        if time.perf_counter() - began > _SLOW:
            self._slow_until = began + _SLOW_FOR
        return True

    async def keep(self, known: Known, index: int, part: Part) -> None:
        """Serve a slice that is complete from now on, and have it proved and named behind that."""
        found = Mapped(part.view, part.name)
        self._remember(known, index, found)
        if part.length <= _INLINE:
            # After the readers, who were woken before.
            asyncio.get_running_loop().call_soon(self._commit, known, found, part)
            return
        while len(self._commits) >= _MOST_COMMITS:
            await asyncio.wait(self._commits, return_when=asyncio.FIRST_COMPLETED)
        commit = asyncio.wrap_future(self._executor.submit(self._store.commit, part))
        self._commits.add(commit)
        commit.add_done_callback(lambda done: self._committed(known, found, done))

    def give_up(self, part: Part) -> None:
        self._store.discard(part)

    def _begin(self, known: Known, grant: Grant, index: int, last: int) -> None:
        """Set in motion what brings a slice that nobody brings."""
        name = slice_files.name_of(known.prefix, index)
        if self._store.is_noted(name) and self._store.has(name):
            known.opening[index] = asyncio.create_task(self._open(known, grant, index, last))
            return
        self._tell_hits()
        since = self._store.ledger.position
        try:
            claimed = self._store.claim(name, known.length_of(index), since)
        except Contended:
            known.opening[index] = asyncio.create_task(self._open(known, grant, index, last))
            return
        self._forget_gone()
        if claimed is Claim.PRESENT:
            known.opening[index] = asyncio.create_task(self._open(known, grant, index, last))
        else:
            self._bring(known, grant, index, last, claimed)

    async def _open(self, known: Known, grant: Grant, index: int, last: int) -> None:
        """Do the same where it has to be waited for."""
        name, length = slice_files.name_of(known.prefix, index), known.length_of(index)
        try:
            found = await self._run(self._store.find, name, length)
            if found is not None:
                self._remember(known, index, found)
                return
            claimed = await self._claim_in_thread(known, index, self._store.ledger.position)
            if known.wants(index):
                self._bring(known, grant, index, last, claimed)
            else:
                self._let_go(claimed)
        finally:
            del known.opening[index]

    def _bring(self, known: Known, grant: Grant, index: int, last: int, claimed: Part | Followed | Claim) -> None:
        if isinstance(claimed, Followed):
            Following(known, index, claimed, self._remember)
        elif claimed is not Claim.PRESENT:
            span = range(index, self._end_of_missing(known, index, last))
            fetch = Fetch(self._storage, self, known, grant, span, self._store.ledger.position)
            fetch.begin(claimed if isinstance(claimed, Part) else None)

    def _end_of_missing(self, known: Known, index: int, last: int) -> int:
        for after in range(index + 1, min(last, index + _LOOKED_AT) + 1):
            noted = self._store.is_noted(slice_files.name_of(known.prefix, after))
            if noted or after in known.slices or after in known.fills:
                return after
        return last + 1

    async def _claim_in_thread(self, known: Known, index: int, since: int) -> Part | Followed | Claim:
        self._tell_hits()
        name, length = slice_files.name_of(known.prefix, index), known.length_of(index)
        done = self._executor.submit(self._store.claim, name, length, since, wait=True)
        waiting = asyncio.wrap_future(done)
        try:
            claimed = await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await asyncio.wait({waiting})
            self._let_go(done.result())
            raise
        self._forget_gone()
        return claimed

    def _let_go(self, claimed: Part | Followed | Claim) -> None:
        if isinstance(claimed, Part):
            self.give_up(claimed)
        elif isinstance(claimed, Followed):
            claimed.close()

    def _remember(self, known: Known, index: int, found: Mapped) -> None:
        known.slices[index] = found
        if self._by_prefix.get(known.prefix) is not known:
            found.name = b""  # its object was deleted: it is for those who read it now
        elif found.name:
            self._maps[found.name] = found
            self._forget_oldest()

    def _commit(self, known: Known, found: Mapped, part: Part) -> None:
        if not self._store.commit(part):
            self._make_private(known, found)

    def _committed(self, known: Known, found: Mapped, done: asyncio.Future[bool]) -> None:
        self._commits.discard(done)
        if done.cancelled() or done.exception() is not None or not done.result():
            self._make_private(known, found)

    def _make_private(self, known: Known, found: Mapped) -> None:
        self._maps.pop(found.name, None)
        found.name = b""
        known.forget_private()

    def _forget_oldest(self) -> None:
        while len(self._maps) > self._most_maps:
            name, found = self._maps.popitem(last=False)
            if found.used:
                found.used = False
                self._maps[name] = found
            else:
                self._forget(name)

    def _forget_gone(self) -> None:
        gone = self._store.ledger.gone
        while gone:
            self._forget(gone.popleft())

    def _forget(self, name: bytes) -> None:
        self._maps.pop(name, None)
        known = self._by_prefix.get(name[:-4])
        index = int.from_bytes(name[-4:], "big")
        if known is not None and (found := known.slices.get(index)) and found.name == name:
            del known.slices[index]

    def _detach(self, key: Key) -> None:
        """Let nobody new come to an object that is deleted; who reads it reads on."""
        known = self.known.pop(key)
        del self._by_prefix[known.prefix]
        for found in known.slices.values():
            self._maps.pop(found.name, None)
            found.name = b""
        known.forget_private()

    def _tell_hits(self) -> None:
        ledger, hits = self._store.ledger, self._hits
        if not hits:
            return
        self._hits = []
        for found in hits:
            if found.name and ledger.is_unsaturated(found.name):
                ledger.note_later(Noted(Step.HIT, found.name, hits=found.hits))
                found.hits = 0

    def _exchange(self) -> None:
        self._tell_hits()
        self._store.exchange()
        self._forget_gone()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(EXCHANGED, self._tick)
        with suppress(Contended):
            self._exchange()
        self._ticks += 1
        for found in self._maps.values():
            found.hits = 0
        if self._ticks % IDLE == 0:
            self.forget_idle()

    def forget_idle(self) -> None:
        """Forget what nobody asked for since the last time."""
        for name, found in list(self._maps.items()):
            if not found.used:
                self._forget(name)
            found.used = False
        for key, known in list(self.known.items()):
            if known.is_idle:
                del self.known[key]
                del self._by_prefix[known.prefix]

    async def _run(self, step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a step in a thread, to its end even when we are cancelled: what it holds must not be closed under it."""
        done = asyncio.wrap_future(self._executor.submit(step, *args, **kwargs))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait({done})
            raise


def _most_maps() -> int:
    if sys.version_info >= (3, 13):
        return _MOST_MAPS
    # Each is a descriptor as well, and connections need them too.
    return min(_MOST_MAPS, max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8))
