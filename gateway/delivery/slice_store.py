"""The folder of slices that all workers share: finds them, gives out which to write, keeps them within their bytes."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Final

from gateway.clock import Clock
from gateway.delivery import slice_files
from gateway.delivery.ledger import Ledger, Noted, Step
from gateway.delivery.slice_files import Followed, Mapped, Part

_FOLDER_MODE: Final = 0o700
_PAUSE: Final = 10.0  # seconds that nothing is written after the disk did not take it
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

log = logging.getLogger("assetgate.slices")


class Claim(Enum):
    """What came of asking to write a slice, besides getting it: it is there already, or it is not to be kept."""

    PRESENT = "present"
    REFUSED = "refused"


class SliceStore:
    """All of it is quick but `start`, `find`, `drop` and what is told to wait: these belong into a thread."""

    def __init__(self, folder: Path, capacity: int, clock: Clock) -> None:
        self._folder = folder.absolute()
        self._clock = clock
        self._root = str(self._folder)
        self._capacity = capacity
        self._members = -1
        self._paused_until = 0.0
        self._removed: list[bytes] = []
        self.ledger: Ledger

    def start(self) -> None:
        """Join the workers that use the folder; the first of them tidies it. Raises `OSError`."""
        self._folder.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
        for number in range(slice_files.FOLDERS):
            (self._folder / f"{number:02x}").mkdir(_FOLDER_MODE, exist_ok=True)
        self._members = os.open(self._folder / ".members", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.ledger = Ledger(self._folder, self._capacity)
        if slice_files.lock(self._members):
            self._tidy()
        # Whoever tidies is waited for; who comes in between our two locks tidies before anything is written.
        fcntl.flock(self._members, fcntl.LOCK_SH)
        self.ledger.open()

    def find(self, name: bytes, length: int) -> Mapped | None:
        """Map a slice that is there and whole; a damaged one is removed. None: it has to be fetched."""
        path = slice_files.path_of(self._root, name)
        try:
            found = slice_files.open_whole(path, name, length)
        except FileNotFoundError:
            return None
        except OSError as trouble:
            self._note_trouble(trouble)
            return None
        if found is None:
            log.warning("a damaged slice is fetched again")
            try:
                os.unlink(path)  # noqa: PTH108 - text is what we have
            except OSError as trouble:
                self._note_trouble(trouble)
            self._removed.append(name)
        return found

    @property
    def is_paused(self) -> bool:
        """Whether nothing is kept for now."""
        return bool(self._paused_until) and self._clock() < self._paused_until

    def is_noted(self, name: bytes) -> bool:
        """Tell whether there was such a slice, or one being written, when the ledger was last looked into."""
        return self.ledger.queues.find(name) is not None

    def has(self, name: bytes) -> bool:
        return os.access(slice_files.path_of(self._root, name), os.F_OK)

    def claim(self, name: bytes, length: int, since: int, *, wait: bool = False) -> Part | Followed | Claim:
        """Ask to write a slice, for a fetch that began at position `since` of the ledger. Raises `Contended`."""
        if self.is_paused:
            return Claim.REFUSED
        size = slice_files.disk_use(length)
        if size > self._capacity:
            return Claim.REFUSED
        try:
            with self._turn(wait=wait):
                if self.ledger.is_dropped_since(name[: slice_files.OBJECT], since):
                    return Claim.REFUSED
                return self._claim(slice_files.path_of(self._root, name), name, length, size)
        except OSError as trouble:
            self._note_trouble(trouble)
            return Claim.REFUSED

    def write(self, name: bytes, view: memoryview, since: int) -> Mapped | None:
        """Write a slice that is whole in memory; None when it is not kept, or somebody else does it. For a thread."""
        part = self.claim(name, len(view), since, wait=True)
        if isinstance(part, Followed):
            part.close()
        if not isinstance(part, Part):
            return None
        try:
            part.write(0, view)
        except OSError as trouble:
            part.discard()
            self.failed(name, trouble)
            return None
        return Mapped(part.view, name) if self.commit(part) else None

    def commit(self, part: Part) -> bool:
        """Keep a slice that is written; False when it could not be."""
        try:
            return part.commit()
        except OSError as trouble:
            self.failed(part.name, trouble)
            return False

    def discard(self, part: Part) -> None:
        if part.discard():
            self._removed.append(part.name)

    def failed(self, name: bytes, trouble: OSError) -> None:
        """Take note that a slice could not be written."""
        self._note_trouble(trouble)
        self._removed.append(name)

    def exchange(self) -> None:
        """Tell the others what was noted here, and learn what they did. Raises `Contended`."""
        try:
            with self._turn(wait=False):
                pass
        except OSError as trouble:
            self._note_trouble(trouble)

    def drop(self, keys: Iterable[str]) -> None:
        """Remove what there is of these objects, here and in every worker's hands. Waits for the lock."""
        for wanted in map(slice_files.object_of, keys):
            try:
                with self.ledger.locked(wait=True):
                    names = slice_files.of_object(self._root, wanted)
                    for name in names:
                        slice_files.remove(slice_files.path_of(self._root, name))
                    removed = [Noted(Step.REMOVE, name) for name in names]
                    self.ledger.note(Noted(Step.DROP, wanted.ljust(28, b"\0")), *removed)
            except OSError as trouble:
                self._note_trouble(trouble)

    def close(self) -> None:
        self.ledger.close()
        os.close(self._members)

    def _claim(self, path: str, name: bytes, length: int, size: int) -> Part | Followed | Claim:
        descriptor = slice_files.create_part(path)
        if descriptor is None:
            other = self._other(path, name, length)
            if other is not None:
                return other
            descriptor = slice_files.create_part(path)
        if descriptor is None:
            return Claim.REFUSED
        part: Part | None = None
        try:
            if os.access(path, os.F_OK):
                return Claim.PRESENT
            self._make_room(name, size)
            part = Part(descriptor, path, name, length)
        finally:
            if part is None:
                self._removed.append(name)
                os.unlink(path + slice_files.PART)  # noqa: PTH108 - text is what we have
                os.close(descriptor)
        return part

    @contextmanager
    def _turn(self, *, wait: bool) -> Iterator[None]:
        """Hold the lock; first of all, tell what was removed without it and is not there again by now."""
        with self.ledger.locked(wait=wait):
            removed, self._removed = self._removed, []
            paths = [(name, slice_files.path_of(self._root, name)) for name in removed]
            gone = [Noted(Step.REMOVE, name) for name, path in paths if not slice_files.exists(path)]
            if gone:
                self.ledger.note(*gone)
            yield

    def _other(self, path: str, name: bytes, length: int) -> Followed | None:
        """Follow the worker that writes the slice; what a killed one left is removed."""
        with suppress(FileNotFoundError):
            descriptor = os.open(path + slice_files.PART, os.O_RDWR | os.O_CLOEXEC)
            try:
                if not slice_files.lock(descriptor):
                    return Followed(descriptor, name, length)
                if os.stat(path + slice_files.PART).st_ino == os.fstat(descriptor).st_ino:  # noqa: PTH116 - as above
                    os.unlink(path + slice_files.PART)  # noqa: PTH108
            finally:
                os.close(descriptor)
        return None

    def _make_room(self, name: bytes, size: int) -> None:
        for victim in self.ledger.make_room(size):
            slice_files.remove(slice_files.path_of(self._root, victim))
        self.ledger.note_room(name, size)

    def _tidy(self) -> None:
        found, parts = slice_files.found_in(self._folder)
        for part in parts:
            part.unlink()
        self.ledger.rebuild(found)
        with self.ledger.locked(wait=True):
            for victim in self.ledger.make_room(0):
                slice_files.remove(slice_files.path_of(self._root, victim))
            self.ledger.rewrite()

    def _note_trouble(self, trouble: OSError) -> None:
        """Go on without keeping anything for a while: readers are served, and the disk is left alone."""
        now = self._clock()
        if now >= self._paused_until:
            what = "is full" if trouble.errno in _FULL else "fails"
            log.warning("the disk of the slices %s; for %d s nothing is kept", what, _PAUSE)
        self._paused_until = now + _PAUSE
