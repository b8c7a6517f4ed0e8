"""What brings slices: a read of the storage over many in a row, or the following of another worker's."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.delivery.slice_files import Followed, Mapped, Part
from gateway.delivery.slice_fills import EMPTY, Abandoned, Fill, Known, next_call
from gateway.errors import AssetgateError, StorageFault
from gateway.storage import Buffer, Placing, Storage
from policies.model import Grant

NEARLY: Final = 256 * 1024  # bytes; with no more than these to come, a slice is finished though nobody waits for it
AHEAD: Final = 1  # slices claimed before the one at hand is done, so that no other worker begins them in between
_LOOK_AGAIN: Final = 0.002  # seconds between two looks at what another worker writes


class Keeping(Protocol):
    """What a fetch needs of the cache."""

    patience: float
    placing: Placing | None  # the storage, where it can receive bytes in their place
    fetched: int  # bytes that the storage sent

    async def claim(self, known: Known, index: int, since: int) -> Part | None: ...

    async def write(self, part: Part, offset: int, data: memoryview) -> bool: ...

    async def keep(self, known: Known, index: int, part: Part) -> None: ...

    def keep_young(self, known: Known, index: int, view: memoryview) -> None: ...

    def memory(self, length: int) -> bytearray: ...

    def give_up(self, part: Part) -> None: ...


@dataclass(slots=True)
class _Claimed:
    index: int
    fill: Fill
    part: Part | None  # None: it is kept in memory alone, and if it is not young, for those who wait for it now
    is_young: bool = False
    taken: int = 0  # bytes; those that landed may be more


class Fetch:
    """One read of the storage, over as many missing slices in a row as somebody is going to want."""

    def __init__(self, storage: Storage, keeping: Keeping, known: Known, grant: Grant, span: range, since: int) -> None:
        self._storage = storage
        self._keeping = keeping
        self._known = known
        self._grant = grant
        self._first = span.start
        self._last = span.stop - 1
        self._since = since
        self._claimed: deque[_Claimed] = deque()
        self._claiming: asyncio.Task[None] | None = None
        self._is_private = False
        self._trouble: Exception = Abandoned()
        self.next = span.start
        known.sources.add(self)
        self.task: asyncio.Task[None]

    def begin(self, part: Part | None, *, is_young: bool = False) -> None:
        self._take_on(part, is_young=is_young)
        self.task = asyncio.create_task(self._run())
        # Not in its own hands: a task that is cancelled before its first step never takes one.
        self.task.add_done_callback(self._ended)

    def goes_on_with(self, index: int) -> bool:
        return index == self.next <= self._last

    def is_of_use(self) -> bool:
        if not self._claimed:
            return bool(self._known.tickets)
        at_hand = self._claimed[0]
        nearly = at_hand.fill.length - at_hand.fill.filled <= NEARLY and at_hand.fill.filled > 0
        asked_for = at_hand.fill.is_asked_for and (at_hand.is_young or at_hand.part is not None)
        return nearly or asked_for or any(self._known.wants(claimed.index) for claimed in self._claimed)

    async def _run(self) -> None:
        known = self._known
        wanted = range(self._first * known.slice_bytes, min((self._last + 1) * known.slice_bytes, known.size))
        try:
            async with self._read(wanted) as buffers:
                self._claim_ahead()
                async for buffer in buffers:
                    self._keeping.fetched += len(buffer)
                    if not await self._take(memoryview(buffer)):
                        break
                else:
                    self._trouble = StorageFault("The storage sent too few bytes")
        except Exception as error:  # noqa: BLE001 - every reader gets it, and each answers for itself
            # Its frames hold the bytes that were read last; of what we raised ourselves they tell nothing.
            self._trouble = error.with_traceback(None) if isinstance(error, AssetgateError) else error
        finally:
            if self._claiming is not None:
                self._claiming.cancel()
                await asyncio.wait({self._claiming})

    def _read(self, wanted: range) -> AbstractAsyncContextManager[AsyncIterator[Buffer]]:
        placing = self._keeping.placing
        return placing.read_into(self._grant, wanted, self) if placing else self._storage.read(self._grant, wanted)

    def room(self, position: int) -> memoryview | None:
        """Where the storage may put what it sends: into a slice that is on its way to memory alone."""
        fill, start = self._fill_at(position)
        return fill.room(start) if fill is not None else None

    def landed(self, position: int, count: int) -> None:
        """Let those who wait have it now, while it is in the processor's cache."""
        fill, start = self._fill_at(position)
        if fill is not None and fill.filled == start:
            fill.advance(start + count)

    def _fill_at(self, position: int) -> tuple[Fill | None, int]:
        index, start = divmod(position, self._known.slice_bytes)
        for claimed in self._claimed:
            if claimed.index == index and claimed.part is None:
                return claimed.fill, start
        return None, start

    async def _take(self, data: memoryview) -> bool:
        """Put bytes where they belong; False when no more are wanted."""
        while data:
            if not self._claimed and not await self._resume():
                return False
            claimed = self._claimed[0]
            piece = data[: claimed.fill.length - claimed.taken]
            await self._write(claimed, piece)
            data = data[len(piece) :]
            if claimed.taken == claimed.fill.length:
                await self._finish(claimed)
                if not self.is_of_use():
                    return False
        return bool(self._claimed) or self.next <= self._last

    async def _write(self, claimed: _Claimed, piece: memoryview) -> None:
        fill, at = claimed.fill, claimed.taken
        if claimed.part is not None and not await self._keeping.write(claimed.part, at, piece):
            # The disk does not take it: those who wait get the rest from memory, and nothing is kept.
            written, fill.view = fill.view[:at], EMPTY
            fill.room(0)[:at] = written
            claimed.part = None
        if claimed.part is None:
            fill.put(at, piece)
        claimed.taken = at + len(piece)
        if claimed.taken > fill.filled:
            fill.advance(claimed.taken)

    async def _finish(self, claimed: _Claimed) -> None:
        known = self._known
        if claimed.part is not None:
            await self._keeping.keep(known, claimed.index, claimed.part)
        elif claimed.is_young:
            self._keeping.keep_young(known, claimed.index, claimed.fill.view)
        else:
            known.slices[claimed.index] = Mapped(claimed.fill.view, b"")
            known.forget_private()
        self._claimed.popleft()
        known.remove(claimed.index, claimed.fill)
        if not self._claimed and self._claiming is not None:
            await asyncio.wait({self._claiming})
        self._claim_ahead()

    def _claim_ahead(self) -> None:
        """Claim what comes next while somebody is going to want it, before another worker begins with it.

        Beside the stream, for to create a file can take longer than a slice does to come.
        """
        known = self._known
        if self._claiming is not None or len(self._claimed) > AHEAD or self.next > self._last or not self._is_wanted():
            return
        if self.next in known.slices or self.next in known.fills or self.next in known.opening:
            self._last = self.next - 1
        elif not known.is_admitted:
            self._take_on(None, is_young=True)
        else:
            self._claiming = asyncio.create_task(self._claim())

    async def _claim(self) -> None:
        known, index = self._known, self.next
        try:
            part = None if self._is_private else await self._keeping.claim(known, index, self._since)
        except Abandoned:
            self._last = index - 1  # others bring it
            known.pulse()
        else:
            self._is_private = part is None
            self._take_on(part)
        finally:
            self._claiming = None

    def _is_wanted(self) -> bool:
        return self._known.wants(self.next, 0 if self._is_private else None)

    async def _resume(self) -> bool:
        """Wait for a reader to come near; False when none did for a while, and the connection is better given back."""
        known = self._known
        try:
            async with asyncio.timeout(self._keeping.patience):
                while known.tickets and self.next <= self._last and not self._is_wanted():
                    await next_call(known.waiting)
        except TimeoutError:
            return False
        self._claim_ahead()
        if self._claiming is not None:
            await asyncio.wait({self._claiming})
        return bool(self._claimed)

    def _take_on(self, part: Part | None, *, is_young: bool = False) -> None:
        known, index = self._known, self.next
        fill = Fill(known.length_of(index), EMPTY if part is None else part.view, self._keeping.memory)
        known.fills[index] = fill
        self._claimed.append(_Claimed(index, fill, part, is_young))
        self.next = index + 1
        known.pulse()

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._known.sources.discard(self)
        for claimed in self._claimed:
            if claimed.part is not None:
                self._keeping.give_up(claimed.part)
            self._known.remove(claimed.index, claimed.fill)
            claimed.fill.fail(self._trouble)
        self._claimed.clear()
        self._known.pulse()


class Following:
    """Brings one slice that another worker writes."""

    def __init__(
        self, known: Known, index: int, followed: Followed, keep: Callable[[Known, int, Mapped], None]
    ) -> None:
        self._known = known
        self._index = index
        self._followed = followed
        self._keep = keep
        self.fill = known.fills[index] = Fill(followed.length, followed.view)
        known.sources.add(self)
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(self._ended)

    def goes_on_with(self, index: int) -> bool:  # noqa: ARG002 - one slice is all it brings
        return False

    def is_of_use(self) -> bool:
        return self.fill.is_asked_for or self._known.wants(self._index)

    async def _run(self) -> None:
        followed = self._followed
        while not self._look() and not followed.is_orphaned():  # noqa: ASYNC110 - between processes no event does
            await asyncio.sleep(_LOOK_AGAIN)
        if self._look():
            self._keep(self._known, self._index, Mapped(followed.view, followed.name))

    def _ended(self, _: asyncio.Task[None]) -> None:
        known = self._known
        self._followed.close()
        known.sources.discard(self)
        known.remove(self._index, self.fill)
        if not self.fill.is_over:
            self.fill.fail(Abandoned())
        known.pulse()

    def _look(self) -> bool:
        filled = self._followed.filled()
        if filled > self.fill.filled:
            self.fill.advance(filled)
        return filled == self.fill.length
