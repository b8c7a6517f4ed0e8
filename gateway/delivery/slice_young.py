"""Slices that were read once, in this worker's memory: most are never asked for again, and need no disk."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from gateway.delivery.slice_files import Mapped
from gateway.delivery.slice_fills import Known

_SPARE: Final = 16  # the part of the capacity, one of so many, for the memory of slices that have left


class Young:
    """A queue of bounded bytes before the queues of the disk. What leaves it at its end is forgotten."""

    def __init__(self, capacity: int, slice_bytes: int) -> None:
        self._capacity = capacity
        self._slice_bytes = slice_bytes
        self._bytes = 0
        self._slices: OrderedDict[tuple[Known, int], Mapped] = OrderedDict()
        self._most_spare = capacity // slice_bytes // _SPARE
        self._spare: deque[bytearray] = deque()

    @property
    def bytes(self) -> int:
        """What all of it takes."""
        return self._bytes + len(self._spare) * self._slice_bytes

    def add(self, known: Known, index: int, found: Mapped) -> list[Known]:
        """Take a slice in; return the objects of which others had to leave for it."""
        found.is_young = True
        known.slices[index] = found
        self._slices[known, index] = found
        self._bytes += found.length
        left: list[Known] = []
        while self.bytes > self._capacity:
            (oldest, at), slice_ = next(iter(self._slices.items()))
            self.take(oldest, at)
            slice_.is_young = False
            self._spare_memory(slice_)
            oldest.forget_private()
            left.append(oldest)
        return left

    def memory(self, length: int) -> bytearray:
        """Give memory for a slice; that of one which has left, once nobody reads it, saves clearing new one."""
        while length == self._slice_bytes and self._spare:
            spare = self._spare.popleft()
            if _is_free(spare):
                return spare
        return bytearray(length)

    def _spare_memory(self, left: Mapped) -> None:
        memory = left.view.obj
        if len(self._spare) < self._most_spare and isinstance(memory, bytearray) and len(memory) == self._slice_bytes:
            self._spare.append(memory)

    def take(self, known: Known, index: int) -> Mapped | None:
        """Take a slice out of the queue; whoever does decides what becomes of it."""
        found = self._slices.pop((known, index), None)
        if found is not None:
            self._bytes -= found.length
        return found

    def drop(self, known: Known) -> None:
        """Let go of an object's slices; who reads them reads on."""
        for index in known.slices:
            if found := self.take(known, index):
                found.is_young = False

    def clear(self) -> None:
        self._slices.clear()
        self._spare.clear()
        self._bytes = 0


def _is_free(memory: bytearray) -> bool:
    """Tell whether no view of it is left: with one it cannot be resized."""
    try:
        last = memory.pop()
    except BufferError:
        return False
    memory.append(last)
    return True
