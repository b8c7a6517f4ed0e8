"""Brings a reader the slice that it wants, from wherever it is, and keeps what was fetched for it."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from gateway.delivery import slice_files
from gateway.delivery.ledger import Contended
from gateway.delivery.slice_fetches import Fetch, Following
from gateway.delivery.slice_files import Followed, Mapped, Part
from gateway.delivery.slice_fills import Abandoned, Fill, Known
from gateway.delivery.slice_maps import SliceMaps
from gateway.delivery.slice_store import Claim, SliceStore
from gateway.storage import Placing, Storage
from policies.model import Grant

_INLINE: Final = 128 * 1024  # bytes whose checksum costs less than a turn in a thread
_SLOW: Final = 0.01  # seconds; a disk that held the loop up for so long is written to from threads
_SLOW_FOR: Final = 10.0  # seconds
_THREADS: Final = 4
_MOST_COMMITS: Final = 32  # under way; a disk that is slower than the storage holds the fetches up
_LOOKED_AT: Final = 64  # slices behind a missing one that are looked for before they are all asked of the storage

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Waiting(Protocol):
    """A reader that is told when it is worth looking again."""

    def wake(self) -> None: ...

    def opened(self, opening: asyncio.Task[None]) -> None: ...


class SliceCache:
    """Looks in this order: the maps, what is on its way, the folder, another worker's hands, the storage."""

    def __init__(self, storage: Storage, store: SliceStore, maps: SliceMaps, patience: float) -> None:
        self.patience = patience
        self.fetched = 0
        self.placing: Placing | None = storage if isinstance(storage, Placing) else None
        self._storage = storage
        self._store = store
        self._maps = maps
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="slices")
        self._commits: set[asyncio.Future[Any]] = set()
        self._slow_until = 0.0

    @property
    def keeps_nothing(self) -> bool:
        return self._store.is_paused

    def look(self, known: Known, grant: Grant, index: int, last: int, who: Waiting) -> Mapped | Fill | None:
        """Get a slice, whole or as it comes, for a reader that will want all up to `last`. None: `who` is told."""
        while True:
            got = known.slices.get(index) or known.fills.get(index)
            if got is not None:
                return got
            if opening := known.opening.get(index):
                opening.add_done_callback(who.opened)
                return None
            if known.is_coming(index):
                known.waiting.append(who.wake)
                return None
            self._begin(known, grant, index, last)

    def count(self, known: Known, index: int, got: Mapped, *, is_hit: bool) -> None:
        """Take note that a reader came to a slice; it is no hit where it only goes on with it."""
        if is_hit:
            self._maps.hit(got)
        if got.is_young and known.is_admitted:
            self.promote(known, index, got)

    async def drop(self, keys: tuple[str, ...]) -> None:
        self._maps.detach(keys)
        await self._run(self._store.drop, keys)
        self._maps.forget_gone()

    async def close(self) -> None:
        tasks = self._maps.tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._commits, return_exceptions=True)
        self._maps.close()
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
        began, waits = time.perf_counter(), _waits()
        try:
            if began < self._slow_until:
                await self._run(part.write, offset, data)
            else:
                part.write(offset, data)
        except OSError as trouble:
            part.discard()
            self._store.failed(part.name, trouble)
            return False
        # Both: on a busy machine a write takes long as well when others had the processor in between.
        if time.perf_counter() - began > _SLOW and _waits() > waits:
            self._slow_until = began + _SLOW_FOR
        return True

    async def keep(self, known: Known, index: int, part: Part) -> None:
        """Serve a slice that is complete from now on, and have it proved and named behind that."""
        found = Mapped(part.view, part.name)
        self._maps.remember(known, index, found)
        if part.length <= _INLINE:
            # After the readers, who were woken before.
            asyncio.get_running_loop().call_soon(self._commit, known, found, part)
            return
        while len(self._commits) >= _MOST_COMMITS:
            await asyncio.wait(self._commits, return_when=asyncio.FIRST_COMPLETED)
        commit = asyncio.wrap_future(self._executor.submit(self._store.commit, part))
        self._commits.add(commit)
        commit.add_done_callback(lambda done: self._committed(known, found, done))

    def keep_young(self, known: Known, index: int, view: memoryview) -> None:
        """Serve a slice that is complete out of memory, until it is asked for again or others take its place."""
        found = self._maps.remember_young(known, index, view)
        if known.is_admitted:
            self.promote(known, index, found)

    def promote(self, known: Known, index: int, found: Mapped) -> None:
        """Have a young slice written to the disk, when that has nothing better to do."""
        if len(self._commits) >= _MOST_COMMITS or self._maps.young.take(known, index) is None:
            return
        name, since = slice_files.name_of(known.prefix, index), self._store.ledger.position
        written = asyncio.wrap_future(self._executor.submit(self._store.write, name, found.view, since))
        self._commits.add(written)
        written.add_done_callback(lambda done: self._promoted(known, index, found, done))

    def memory(self, length: int) -> bytearray:
        return self._maps.young.memory(length)

    def give_up(self, part: Part) -> None:
        self._store.discard(part)

    def _begin(self, known: Known, grant: Grant, index: int, last: int) -> None:
        """Set in motion what brings a slice that nobody brings."""
        name = slice_files.name_of(known.prefix, index)
        if self._store.is_noted(name) and self._store.has(name):
            known.opening[index] = asyncio.create_task(self._open(known, grant, index, last))
            return
        if not known.is_admitted:
            span = range(index, self._end_of_missing(known, index, last))
            Fetch(self._storage, self, known, grant, span, self._store.ledger.position).begin(None, is_young=True)
            return
        self._maps.tell_hits()
        since = self._store.ledger.position
        try:
            claimed = self._store.claim(name, known.length_of(index), since)
        except Contended:
            known.opening[index] = asyncio.create_task(self._open(known, grant, index, last))
            return
        self._maps.forget_gone()
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
                self._maps.remember(known, index, found)
                return
            claimed = await self._claim_in_thread(known, index, self._store.ledger.position)
            is_coming = index in known.slices or index in known.fills  # a fetch of ours went on with it meanwhile
            if known.wants(index) and not is_coming:
                self._bring(known, grant, index, last, claimed)
            else:
                self._let_go(claimed)
        finally:
            del known.opening[index]

    def _bring(self, known: Known, grant: Grant, index: int, last: int, claimed: Part | Followed | Claim) -> None:
        if isinstance(claimed, Followed):
            Following(known, index, claimed, self._maps.remember)
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
        self._maps.tell_hits()
        name, length = slice_files.name_of(known.prefix, index), known.length_of(index)
        done = self._executor.submit(self._store.claim, name, length, since, wait=True)
        waiting = asyncio.wrap_future(done)
        try:
            claimed = await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await asyncio.wait({waiting})
            self._let_go(done.result())
            raise
        self._maps.forget_gone()
        return claimed

    def _let_go(self, claimed: Part | Followed | Claim) -> None:
        if isinstance(claimed, Part):
            self.give_up(claimed)
        elif isinstance(claimed, Followed):
            claimed.close()

    def _commit(self, known: Known, found: Mapped, part: Part) -> None:
        if not self._store.commit(part):
            self._maps.make_private(known, found)

    def _promoted(self, known: Known, index: int, found: Mapped, done: asyncio.Future[Mapped | None]) -> None:
        self._commits.discard(done)
        found.is_young = False
        kept = None if done.cancelled() or done.exception() is not None else done.result()
        if kept is not None and known.slices.get(index) is found:
            self._maps.remember(known, index, kept)
        known.forget_private()

    def _committed(self, known: Known, found: Mapped, done: asyncio.Future[bool]) -> None:
        self._commits.discard(done)
        if done.cancelled() or done.exception() is not None or not done.result():
            self._maps.make_private(known, found)

    async def _run(self, step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a step in a thread, to its end even when we are cancelled: what it holds must not be closed under it."""
        done = asyncio.wrap_future(self._executor.submit(step, *args, **kwargs))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            while not done.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({done})
            raise


def _waits() -> int:
    """How often this thread has waited for something, such as the disk."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
