"""Which slices to keep when there is room for some alone: S3-FIFO.

Yang, Zhang, Qiu, Yue and Vigfusson, "FIFO queues are all you need for cache eviction", SOSP 2023. What is new passes
through a small queue, and what nobody asked for again in that time leaves by it: a scan of any length costs the
rest nothing. Chosen before W-TinyLFU, for it is three queues, its steps can be written down and done again, and a hit
moves nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

MOST_HITS: Final = 3  # more are not counted: what was popular once does not stay for ever
_SMALL_SHARE: Final = 10  # the small queue has one part in this many of the bytes
_WORTH_KEEPING: Final = 1  # hits that a slice must have more of to go on from the small queue


class Entry:
    """One slice: the bytes that it takes, and how often it was asked for since it last moved."""

    __slots__ = ("hits", "size")

    def __init__(self, size: int, hits: int = 0) -> None:
        self.size = size
        self.hits = hits


class Queues:
    """The three queues, by name. Deciding is one thing and doing another: who repeats what was done has the same."""

    def __init__(self) -> None:
        self.small: OrderedDict[bytes, Entry] = OrderedDict()
        self.main: OrderedDict[bytes, Entry] = OrderedDict()
        self.ghosts: OrderedDict[bytes, None] = OrderedDict()
        self.small_bytes = 0
        self.main_bytes = 0

    def __len__(self) -> int:
        return len(self.small) + len(self.main)

    @property
    def total(self) -> int:
        return self.small_bytes + self.main_bytes

    def find(self, name: bytes) -> Entry | None:
        return self.small.get(name) or self.main.get(name)

    def add(self, name: bytes, size: int, hits: int = 0) -> None:
        """Take a slice in: into the main queue when it left the small one not long ago."""
        if self.find(name) is not None:
            return
        if name in self.ghosts:
            del self.ghosts[name]
            self.add_to_main(name, size, hits)
        else:
            self.small[name] = Entry(size, hits)
            self.small_bytes += size

    def add_to_main(self, name: bytes, size: int, hits: int = 0) -> None:
        self.remove(name)
        self.main[name] = Entry(size, hits)
        self.main_bytes += size

    def hit(self, name: bytes, times: int) -> None:
        entry = self.find(name)
        if entry is not None:
            entry.hits = min(entry.hits + times, MOST_HITS)

    def remove(self, name: bytes) -> None:
        if entry := self.small.pop(name, None):
            self.small_bytes -= entry.size
        elif entry := self.main.pop(name, None):
            self.main_bytes -= entry.size

    def keep(self, name: bytes) -> None:
        """Let the oldest of a queue stay: from the small one it goes on, in the main one it goes round once more."""
        if entry := self.small.get(name):
            self.add_to_main(name, entry.size)
        elif entry := self.main.get(name):
            entry.hits = max(entry.hits - 1, 0)
            self.main.move_to_end(name)

    def evict(self, name: bytes) -> None:
        was_new = name in self.small
        self.remove(name)
        if was_new:
            self.remember(name)

    def remember(self, name: bytes) -> None:
        """Note the name of what left the small queue; as many are noted as there are slices."""
        self.ghosts[name] = None
        while len(self.ghosts) > len(self) + 1:
            self.ghosts.popitem(last=False)

    def make_room(self, size: int, capacity: int) -> Iterator[tuple[bytes, bool]]:
        """Do what it takes for `size` bytes to fit, and tell each step: a name, and whether it was evicted."""
        while len(self) and self.total + size > capacity:
            from_small = self.small_bytes * _SMALL_SHARE >= capacity or not self.main
            name, entry = next(iter((self.small if from_small and self.small else self.main).items()))
            evicted = entry.hits <= (_WORTH_KEEPING if name in self.small else 0)
            (self.evict if evicted else self.keep)(name)
            yield name, evicted
