"""What all workers know together of the slices in one folder: a journal that each reads, and writes under one lock.

Whoever begins a slice makes room for it first, in the same turn, so that the bound holds however many workers there are
and no one of them has to live. Each step is noted when it has been done, a slice begun before it is: whoever is killed
in between leaves the count too high, never too low, and eviction mends that.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import zlib
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from gateway.delivery.eviction import MOST_HITS, Queues

_RECORD: Final = struct.Struct("<BBxxI28sI")  # step, hits, bytes, name, checksum
_CHECKED: Final = _RECORD.size - 4
_HEADER: Final = struct.Struct("<8sq")  # the number of the first record: a shorter journal goes on counting
_MAGIC: Final = b"agcache1"
_FEW: Final = 50_000  # records that are not worth a shorter journal
_WORDY: Final = 4  # records for each slice that make it worth while
_CHUNK: Final = 1024 * 1024  # bytes read at once
_MOST_DROPPED: Final = 10_000  # objects; a fetch that is older than the last so many deletions is not kept


class Contended(Exception):
    """Another worker holds the lock, for some microseconds."""


class Step(IntEnum):
    ADD = 1
    ADD_TO_MAIN = 2
    REMEMBER = 3
    HIT = 4
    KEEP = 5
    EVICT = 6
    REMOVE = 7
    DROP = 8  # an object is gone: what was begun before is not kept


class Noted(NamedTuple):
    step: Step
    name: bytes
    size: int = 0
    hits: int = 0

    def packed(self) -> bytes:
        record = _RECORD.pack(self.step, self.hits, self.size, self.name, 0)[:_CHECKED]
        return record + struct.pack("<I", zlib.crc32(record))


class Ledger:
    """One worker's copy of what is known, brought up to date whenever the lock is taken."""

    def __init__(self, folder: Path, capacity: int) -> None:
        self.queues = Queues()
        self.capacity = capacity
        self.position = 0  # how many records were taken in
        self.gone: deque[bytes] = deque()  # what was removed, by anyone: our maps of it are to be forgotten
        self._path = folder / ".journal"
        self._mutex = threading.Lock()
        self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._journal = -1
        self._base = 0
        self._dropped: OrderedDict[bytes, int] = OrderedDict()
        self._later: list[Noted] = []
        self._decided: list[tuple[bytes, bool]] = []

    @contextmanager
    def locked(self, *, wait: bool) -> Iterator[None]:
        """Hold the lock, up to date. Raises `Contended` when it would have to wait, and `OSError`."""
        if not self._mutex.acquire(blocking=wait):
            raise Contended
        try:
            self._take_lock(wait=wait)
            try:
                self._catch_up()
                if self._later:
                    self.note()
                yield
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        finally:
            self._mutex.release()

    def note(self, *steps: Noted) -> None:
        """Do these steps here and note them for the others; under the lock. Raises `OSError`, with nothing done."""
        later, self._later = self._later, []
        steps = (*later, *steps)
        self._append(b"".join(step.packed() for step in steps))
        for step in steps:
            self._do(step)
        self.position += len(steps)
        if self.position - self._base > _FEW + _WORDY * len(self.queues):
            with suppress(OSError):  # on a full disk it goes on growing
                self.rewrite()

    def note_later(self, step: Noted) -> None:
        """Have a step noted the next time that anything is."""
        self._later.append(step)

    def make_room(self, size: int) -> list[bytes]:
        """Decide what has to go for `size` more bytes; the caller removes it, then tells by `note_room`."""
        self._decided = list(self.queues.make_room(size, self.capacity))
        return [name for name, evicted in self._decided if evicted]

    def note_room(self, name: bytes, size: int) -> None:
        """Note what was decided, and the slice that it was for."""
        steps = [Noted(Step.EVICT if evicted else Step.KEEP, decided) for decided, evicted in self._decided]
        # These were done as they were decided; to do them twice would be wrong.
        self._append(b"".join(step.packed() for step in steps))
        self.position += len(steps)
        self.gone.extend(decided for decided, evicted in self._decided if evicted)
        self.note(Noted(Step.ADD, name, size))

    def is_unsaturated(self, name: bytes) -> bool:
        entry = self.queues.find(name)
        return entry is not None and entry.hits < MOST_HITS

    def is_dropped_since(self, wanted: bytes, position: int) -> bool:
        oldest = next(iter(self._dropped.values()), 0) if len(self._dropped) >= _MOST_DROPPED else 0
        return self._dropped.get(wanted, -1) >= position or position < oldest

    def open(self) -> None:
        """Read the journal from its beginning. Raises `OSError`."""
        self.queues = Queues()
        self._close_journal()
        self._journal = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        magic, self._base = _HEADER.unpack(os.pread(self._journal, _HEADER.size, 0).ljust(_HEADER.size, b"\0"))
        if magic != _MAGIC:
            raise OSError("no journal of ours")
        self.position = self._base
        self._take_in()

    def rebuild(self, found: dict[bytes, int]) -> None:
        """Begin anew with the slices found, oldest first, in the order and places that an old journal tells of."""
        with suppress(OSError):
            self.open()
        for queue in (self.queues.small, self.queues.main):
            for name in [name for name, entry in queue.items() if found.get(name) != entry.size]:
                self.queues.remove(name)
        for name, size in found.items():
            self.queues.add(name, size)
        self.gone.clear()
        self.rewrite()

    def rewrite(self) -> None:
        """Write a journal of what is, without how it came to be; under the lock or alone. Raises `OSError`."""
        steps = list(self._summary())
        draft = self._path.with_name(".journal.new")
        base = self.position - len(steps)
        with draft.open("wb") as file:
            file.write(_HEADER.pack(_MAGIC, base) + b"".join(step.packed() for step in steps))
        old = self._journal
        self._journal = os.open(draft, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        draft.rename(self._path)
        if old >= 0:
            os.close(old)
        self._base = base

    def close(self) -> None:
        with self._mutex:
            os.close(self._lock)
            self._close_journal()

    def _close_journal(self) -> None:
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1

    def _take_lock(self, *, wait: bool) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Contended from None

    def _catch_up(self) -> None:
        self._take_in()
        if self._path.stat().st_ino != os.fstat(self._journal).st_ino:
            # Somebody rewrote it: numbered as the old one was, so that we go on where we stopped.
            os.close(self._journal)
            self._journal = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            self._base = _HEADER.unpack(os.pread(self._journal, _HEADER.size, 0))[1]
            self._take_in()

    def _take_in(self) -> None:
        """Do what the others have noted since."""
        while data := os.pread(self._journal, _CHUNK, self._offset()):
            whole = len(data) // _RECORD.size * _RECORD.size
            for at in range(0, whole, _RECORD.size):
                step, hits, size, name, checksum = _RECORD.unpack_from(data, at)
                if zlib.crc32(data[at : at + _CHECKED]) != checksum:
                    return
                self._do(Noted(Step(step), name, size, hits))
                self.position += 1
            if not whole:
                break

    def _offset(self) -> int:
        return _HEADER.size + (self.position - self._base) * _RECORD.size

    def _append(self, records: bytes) -> None:
        offset = self._offset()
        if os.write(self._journal, records) != len(records):
            os.ftruncate(self._journal, offset)  # a full disk; half a record must not stay
            raise OSError(errno.ENOSPC, "the journal cannot grow")

    def _do(self, noted: Noted) -> None:
        queues, name = self.queues, noted.name
        match noted.step:
            case Step.ADD:
                queues.add(name, noted.size, noted.hits)
            case Step.ADD_TO_MAIN:
                queues.add_to_main(name, noted.size, noted.hits)
            case Step.REMEMBER:
                queues.remember(name)
            case Step.HIT:
                queues.hit(name, noted.hits)
            case Step.KEEP:
                queues.keep(name)
            case Step.EVICT:
                queues.evict(name)
                self.gone.append(name)
            case Step.REMOVE:
                queues.remove(name)
                self.gone.append(name)
            case Step.DROP:
                self._drop(name[:16])

    def _drop(self, wanted: bytes) -> None:
        self._dropped.pop(wanted, None)
        self._dropped[wanted] = self.position
        if len(self._dropped) > _MOST_DROPPED:
            self._dropped.popitem(last=False)

    def _summary(self) -> Iterator[Noted]:
        queues = self.queues
        for name, entry in queues.main.items():
            yield Noted(Step.ADD_TO_MAIN, name, entry.size, entry.hits)
        for name, entry in queues.small.items():
            yield Noted(Step.ADD, name, entry.size, entry.hits)
        for name in queues.ghosts:
            yield Noted(Step.REMEMBER, name)
