"""A board of shared memory beside an SQLite file: whoever changes records pins their ids, all processes read them.

Three counters, then a ring of ids, each in a slot of its own: `intended` numbers the ids pinned so far, `settled` those
whose transaction has ended, `version` moves with every change of the two, and is all that a reader compares.

A writer pins its ids while it holds SQLite's only write lock, before it commits, and settles them afterwards. What lies
between `settled` and `intended` may change at any moment: a reader drops it and remembers nothing that it reads of it.
A writer that is killed between its commit and its note leaves its ids there, distrusted, until the next writer comes,
whose write lock proves that nothing else is under way. So no reader ever trusts what is old, whoever dies when.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.metadata.news import Heard

SLOTS: Final = 1024
SUFFIX: Final = "-news"
_SLOT: Final = 64  # bytes: the longest id
_HEADER: Final = 64  # bytes, a cache line
_SIZE: Final = _HEADER + SLOTS * _SLOT
_VERSION, _INTENDED, _SETTLED = range(3)
_EVERYTHING: Final = [""]  # what is pinned instead of more ids than the ring should take at once


class Bulletin:
    """The board of one database, open in this process."""

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + SUFFIX)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with self._locked():
                # Written, not only sized: a hole in a full disk would kill whoever writes into the map.
                missing = _SIZE - os.fstat(self._file).st_size
                if missing > 0:
                    os.pwrite(self._file, bytes(missing), _SIZE - missing)
            self._map = mmap.mmap(self._file, _SIZE)
        except BaseException:
            os.close(self._file)
            raise
        # One word is stored or loaded at a time, whole: it is aligned.
        self.words = memoryview(self._map)[:_HEADER].cast("Q")

    @contextmanager
    def announced(self, ids: Sequence[str]) -> Iterator[None]:
        """Pin `ids` while the block commits what changed them. The caller holds SQLite's write lock."""
        if not ids:
            yield
            return
        last = self._intend(ids if _fit(ids) else _EVERYTHING)
        try:
            yield
        finally:
            self._settle(last)

    def numbered(self, first: int, last: int) -> list[str] | None:
        """Return the ids numbered from `first` up to `last`, or None when they may be any, or are overwritten."""
        found = [self._slot(number) for number in range(max(first, last - SLOTS), last)]
        # Looked at afterwards: a writer may have come round the ring meanwhile.
        overwritten = self.words[_INTENDED] - first > SLOTS
        return None if overwritten or "" in found else found

    def close(self) -> None:
        """Pin no more. The map lives as long as somebody reads it."""
        os.close(self._file)

    def _intend(self, ids: Sequence[str]) -> int:
        words = self.words
        with self._locked():
            first = words[_INTENDED]
            words[_SETTLED] = first
            for number, asset_id in enumerate(ids, first):
                start = _HEADER + number % SLOTS * _SLOT
                self._map[start : start + _SLOT] = asset_id.encode().ljust(_SLOT, b"\0")
            words[_INTENDED] = first + len(ids)
            words[_VERSION] += 1
        return first + len(ids)

    def _settle(self, last: int) -> None:
        words = self.words
        with self._locked():
            words[_SETTLED] = max(words[_SETTLED], last)
            words[_VERSION] += 1

    def _slot(self, number: int) -> str:
        start = _HEADER + number % SLOTS * _SLOT
        return self._map[start : start + _SLOT].rstrip(b"\0").decode("ascii", "replace")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # The kernel lets go of it when its holder dies.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


class BulletinNews:
    """Reads the board: one comparison of a number while nothing changes."""

    lasting = True
    until = math.inf

    def __init__(self, board: Bulletin) -> None:
        self._board = board
        self._words = board.words
        self._heard: Heard = _nobody
        self._version = -1
        self._settled = 0
        self._in_flight: frozenset[str] | None = frozenset()

    async def open(self, heard: Heard) -> None:
        self._settled = self._words[_SETTLED]
        self._heard = heard
        self.current()

    def current(self) -> bool:
        if self._words[_VERSION] != self._version:
            self._catch_up()
        return True

    def unsettled(self, asset_id: str) -> bool:
        return self._in_flight is None or asset_id in self._in_flight

    async def close(self) -> None: ...

    def _catch_up(self) -> None:
        # The version first: what changes while the rest is read has another one, and is read again.
        self._version, intended, settled = self._words[_VERSION], self._words[_INTENDED], self._words[_SETTLED]
        changed = self._board.numbered(self._settled, intended)
        in_flight = self._board.numbered(settled, intended)
        self._in_flight = None if in_flight is None else frozenset(in_flight)
        self._settled = settled
        for asset_id in [None] if changed is None else changed:
            self._heard(asset_id)


def _fit(ids: Sequence[str]) -> bool:
    return len(ids) <= SLOTS // 2 and all(len(asset_id) <= _SLOT and asset_id.isascii() for asset_id in ids)


def _nobody(_: str | None) -> None: ...
