"""Memory maps of files that never change, a bounded number of them kept open for the next reader.

A map is never closed, only forgotten: whoever still holds a slice of it keeps it alive, and the last one lets it go. A
file that somebody truncates in place under its map kills the process (SIGBUS): nothing of ours does that.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import resource
import stat
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

WINDOW = 1024 * 1024  # bytes whose presence in the page cache is looked up together
READ_AHEAD = 4 * WINDOW  # what the kernel is told to fetch behind a window that had to be waited for
MOST_MAPS = 256  # each is a descriptor as well before Python 3.13
IDLE = 30.0  # seconds; a map unused for one to two of these goes, and with it the space of a deleted file

_SECOND = 1_000_000_000  # nanoseconds
_NOWAIT = getattr(os, "RWF_NOWAIT", None)
_ONE_BYTE = bytearray(1)


class Mapped:
    """A whole file as memory, and what is known of which of its windows the page cache holds."""

    __slots__ = ("_present", "path", "size", "used", "version", "view")

    def __init__(self, path: Path) -> None:
        """Open and map the file, about 20 µs. Raises `OSError`; what is no file at all is `FileNotFoundError`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise FileNotFoundError(path)
            self.view = _map(descriptor, facts.st_size)
        finally:
            os.close(descriptor)
        self.path = path
        self.size = facts.st_size
        self.version = version_of(facts)
        self.used = True
        self._present: set[int] = set()

    def is_present(self, wanted: range) -> bool:
        """Tell whether these bytes can be touched without waiting for the disk. A window once there counts as there."""
        missing = self._missing(wanted)
        if not missing:
            return True
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return True  # deleted meanwhile: the map has the bytes, and the disk is waited for where they are touched
        try:
            for window in missing:
                last = min((window + 1) * WINDOW, self.size) - 1
                if not (_is_cached(descriptor, window * WINDOW) and _is_cached(descriptor, last)):
                    return False
                self._present.add(window)
        finally:
            os.close(descriptor)
        return True

    def load(self, wanted: range) -> None:
        """Wait for the disk, in a thread: a page fault in the event loop would hold up every other reader."""
        with suppress(FileNotFoundError):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                for window in self._missing(wanted):
                    _advise(descriptor, window * WINDOW, WINDOW + READ_AHEAD)
                    _read_through(descriptor, window * WINDOW, WINDOW)
            finally:
                os.close(descriptor)
        self._present.update(self._missing(wanted))

    def _missing(self, wanted: range) -> list[int]:
        windows = range(wanted.start // WINDOW, (wanted.stop - 1) // WINDOW + 1) if wanted else ()
        return [window for window in windows if window not in self._present]


class Maps:
    """The maps kept open, by object key; the one unused for longest goes first."""

    def __init__(self, locate: Callable[[str], Path], most: int | None = None) -> None:
        self._locate = locate
        self._maps: OrderedDict[str, Mapped] = OrderedDict()
        # Connections need descriptors too: an eighth of what this process may open is ours.
        self._most = most or min(MOST_MAPS, max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8))
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._maps)

    def get(self, key: str) -> Mapped:
        """Return the map of an object, opening it when needed. Raises `OSError`."""
        mapped = self._maps.get(key)
        if mapped is None:
            mapped = self._maps[key] = Mapped(self._locate(key))
            if len(self._maps) > self._most:
                self._maps.popitem(last=False)
            self._schedule()
        else:
            self._maps.move_to_end(key)
            mapped.used = True
        return mapped

    def forget(self, key: str) -> None:
        self._maps.pop(key, None)

    def forget_idle(self) -> None:
        """Forget the maps that nobody asked for since the last time.

        Another process that deletes a file cannot reach our map of it, and the space is free only when that is gone.
        """
        for key, mapped in list(self._maps.items()):
            if not mapped.used:
                del self._maps[key]
            mapped.used = False
        self._timer = None
        self._schedule()

    def clear(self) -> None:
        self._maps.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        if self._maps and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(IDLE, self.forget_idle)


def version_of(facts: os.stat_result) -> str:
    """Name the bytes of a file that is never written twice: when it was, and how long it is."""
    return f"{facts.st_mtime_ns:x}-{facts.st_size:x}"


def is_same_version(found: str, wanted: str) -> bool:
    """Tell whether a file is still the one whose version was noted, also after a backup that keeps whole seconds alone.

    GNU tar's own format is one, and nobody wants every asset to answer 502 after a restore.
    """
    if found == wanted:
        return True
    (moment, _, size), (noted, _, noted_size) = found.partition("-"), wanted.partition("-")
    try:
        return size == noted_size and int(moment, 16) == int(noted, 16) // _SECOND * _SECOND
    except ValueError:
        return False


def _map(descriptor: int, size: int) -> memoryview:
    if size == 0:
        return memoryview(b"")  # an empty file cannot be mapped
    if sys.version_info >= (3, 13):
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ, trackfd=False))
    return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))


def _is_cached(descriptor: int, offset: int) -> bool:
    if _NOWAIT is None:
        return True
    try:
        return os.preadv(descriptor, [_ONE_BYTE], offset, _NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError:
        return True  # this file system cannot tell


def _advise(descriptor: int, offset: int, length: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_WILLNEED)


def _read_through(descriptor: int, offset: int, length: int) -> None:
    scratch = bytearray(256 * 1024)
    end = offset + length
    while offset < end and (count := os.preadv(descriptor, [scratch], offset)):
        offset += count
