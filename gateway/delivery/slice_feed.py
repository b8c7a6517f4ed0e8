"""One reader's way through the slices of an object: takes what is there, and is called when there is more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.delivery.slice_cache import SliceCache
from gateway.delivery.slice_files import Mapped
from gateway.delivery.slice_fills import Abandoned, Fill, Known, Ticket
from policies.model import Grant

# Bytes of one piece: large enough to outweigh the loop's work for it, small enough to be fair. Half as many went out a
# tenth slower when measured, twice as many no faster.
STEP: Final = 512 * 1024


class SliceFeed:
    """A `Feed`. `begun` is called with the first piece, when it is known what is wrong with a read.

    Without it nobody reads: what is taken is fetched ahead, and counts as not asked for.
    """

    def __init__(
        self,
        cache: SliceCache,
        known: Known,
        grant: Grant,
        wanted: range,
        ready: Callable[[], None],
        begun: Callable[[], None] | None = None,
    ) -> None:
        self._cache = cache
        self._known = known
        self._grant = grant
        self._position = wanted.start
        self._stop = wanted.stop
        self._ready: Callable[[], None] | None = ready
        self._begun = begun
        self._is_new = True
        self._got: Mapped | Fill | None = None  # the slice that is read out of
        self._trouble: BaseException | None = None
        size = known.slice_bytes
        self._ticket = Ticket(wanted.start // size, (wanted.stop - 1) // size)
        known.tickets.add(self._ticket)
        known.pulse()  # a fetch may wait for a reader just here

    def take(self) -> memoryview | None:
        known = self._known
        while self._position < self._stop:
            index, start = divmod(self._position, known.slice_bytes)
            got = self._got or self._next(index, start)
            if got is None:
                return None
            there = got.length if isinstance(got, Mapped) else self._filled(got, start)
            if there is None:
                continue
            if there <= start:
                return None
            whole = min(self._stop - index * known.slice_bytes, got.length)
            end = min(there, start + STEP, whole)
            self._position += end - start
            if end == whole:
                self._got = None
            if self._is_new and self._begun is not None:
                self._begun()
            self._is_new = False
            return got.view[start:end]
        return None

    def close(self) -> None:
        self._leave()

    async def leave(self) -> None:
        """Close, and wait until what nobody else waits for has ended."""
        if ended := self._leave():
            await asyncio.wait(ended)

    def _leave(self) -> list[asyncio.Task[None]]:
        self._ready = self._got = None
        return self._known.leave(self._ticket, satisfied=self._position >= self._stop)

    def _next(self, index: int, start: int) -> Mapped | Fill | None:
        """Come to a slice; None when it has to be waited for before any of it is there."""
        if self._trouble is not None:
            raise self._trouble
        if self._ticket.position != index:
            self._ticket.position = index
            self._known.pulse()  # a fetch may wait for us
        got = self._got = self._cache.look(self._known, self._grant, index, self._ticket.last, self)
        if self._begun is not None and isinstance(got, Mapped):
            self._cache.count(self._known, index, got, is_hit=not start)
        return got

    def _filled(self, fill: Fill, start: int) -> int | None:
        """How much there is of a slice that comes; None: look again. Raises what its fetch ended with."""
        if fill.filled > start:
            return fill.filled
        if fill.trouble is None:
            fill.waiting.append(self.wake)
            return fill.filled
        self._got = None
        if not isinstance(fill.trouble, Abandoned):
            raise fill.trouble
        return None

    def wake(self) -> None:
        if self._ready is not None:
            self._ready()

    def opened(self, opening: asyncio.Task[None]) -> None:
        if not opening.cancelled():
            self._trouble = opening.exception()
        self.wake()
