"""Slices that were read once, in this worker's memory: most are never asked for again, and need no disk."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from gateway.delivery.slice_files import Mapped
from gateway.delivery.slice_fills import Known

_MOST_SPARE: Final = 16  # slices that have left and whose memory may be used again


class Young:
    """A queue of bounded bytes before the queues of the disk. What leaves it at its end is forgotten."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.bytes = 0
        self._slices: OrderedDict[tuple[Known, int], Mapped] = OrderedDict()
        self._spare: deque[bytearray] = deque(maxlen=_MOST_SPARE)

    def add(self, known: Known, index: int, found: Mapped) -> list[Known]:
        """Take a slice in; return the objects of which others had to leave for it."""
        found.is_young = True
        known.slices[index] = found
        self._slices[known, index] = found
        self.bytes += found.length
        left: list[Known] = []
        while self.bytes > self._capacity:
            (oldest, at), slice_ = next(iter(self._slices.items()))
            self.take(oldest, at)
            slice_.is_young = False
            if isinstance(slice_.view.obj, bytearray):
                self._spare.append(slice_.view.obj)
            oldest.forget_private()
            left.append(oldest)
        return left

    def memory(self, length: int) -> bytearray:
        """Give memory for a slice; that of one which has left, once nobody reads it, saves clearing new one."""
        while self._spare and len(self._spare[0]) == length:
            spare = self._spare.popleft()
            if _is_free(spare):
                return spare
        return bytearray(length)

    def take(self, known: Known, index: int) -> Mapped | None:
        """Take a slice out of the queue; whoever does decides what becomes of it."""
        found = self._slices.pop((known, index), None)
        if found is not None:
            self.bytes -= found.length
        return found

    def drop(self, known: Known) -> None:
        """Let go of an object's slices; who reads them reads on."""
        for index in known.slices:
            if found := self.take(known, index):
                found.is_young = False

    def clear(self) -> None:
        self._slices.clear()
        self._spare.clear()
        self.bytes = 0


def _is_free(memory: bytearray) -> bool:
    """Tell whether no view of it is left: with one it cannot be resized."""
    try:
        last = memory.pop()
    except BufferError:
        return False
    memory.append(last)
    return True
