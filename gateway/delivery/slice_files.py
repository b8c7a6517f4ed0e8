"""Slices as files: their names, the trailer that proves them whole, and those that are being written."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import re
import struct
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

OBJECT: Final = 16  # bytes of a name that stand for the object's key
VERSION: Final = 8  # those for its version, and for the size of the slices
FOLDERS: Final = 256
BLOCK: Final = 4096  # bytes; what a file takes of the disk is a whole number of them
PART: Final = ".part"
IS_OURS: Final = re.compile(r"([0-9a-f]{48})-([0-9a-f]{8})(\.part)?\Z")

# Behind the bytes, so that these begin with a page: how many of them are there, their number, checksum and name.
_TRAILER: Final = struct.Struct("<Q8sII28s12x")
_FILLED: Final = struct.Struct("<Q")
_MAGIC: Final = b"agslice1"
_INDEX: Final = struct.Struct(">I")


def prefix_of(key: str, version: str, slice_bytes: int) -> bytes:
    """Name one version of an object, cut into slices of this size: two of them never share a file."""
    return _digest(key, OBJECT) + _digest(f"{slice_bytes}\n{version}", VERSION)


def object_of(key: str) -> bytes:
    return _digest(key, OBJECT)


def name_of(prefix: bytes, index: int) -> bytes:
    return prefix + _INDEX.pack(index)


def path_of(root: str, name: bytes) -> str:
    text = name.hex()
    return f"{root}/{text[:2]}/{text[:48]}-{text[48:]}"


def disk_use(length: int) -> int:
    """Bytes of the disk that a slice takes."""
    return -(-(length + _TRAILER.size) // BLOCK) * BLOCK


class Mapped:
    """A whole slice in memory. It is never closed, only forgotten: who still holds a view of it keeps it alive.

    Without a name it is in no file: kept a while when it is young, else for those who read it now alone.
    """

    __slots__ = ("hits", "is_young", "length", "name", "used", "view")

    def __init__(self, view: memoryview, name: bytes) -> None:
        self.view = view
        self.length = len(view)
        self.name = name
        self.is_young = False
        self.hits = 0
        self.used = True

    @property
    def is_private(self) -> bool:
        return not self.name and not self.is_young


def open_whole(path: str, name: bytes, length: int) -> Mapped | None:
    """Map a slice and prove it whole, which reads all of it: work for a thread. None: it is damaged.

    Raises `OSError`, `FileNotFoundError` when there is none.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Looked at before it is mapped: to touch what lies behind the end of a file kills the process.
        if os.fstat(descriptor).st_size != length + _TRAILER.size:
            return None
        whole = _map(descriptor, length + _TRAILER.size)
    finally:
        os.close(descriptor)
    view = whole[:length]
    proof = _TRAILER.pack(length, _MAGIC, length, zlib.crc32(view), name)
    return Mapped(view, name) if whole[length:] == proof else None


class Part:
    """A slice being written by this process, which holds the lock on it. Its bytes can be read as they come."""

    def __init__(self, descriptor: int, path: str, name: bytes, length: int) -> None:
        """Take over a new file that is locked. Raises `OSError`, and leaves it to the caller then."""
        os.ftruncate(descriptor, length + _TRAILER.size)
        self.view = _map(descriptor, length + _TRAILER.size)[:length]
        self.name = name
        self.length = length
        self._descriptor = descriptor
        self._path = path

    def write(self, offset: int, data: memoryview) -> None:
        """Write, then tell the other workers how far it is. Raises `OSError`."""
        # Not through the map: on a full disk that would kill the process, and this raises.
        _write(self._descriptor, data, offset)
        if offset + len(data) < self.length:  # what `commit` writes says that it is complete
            _write(self._descriptor, memoryview(_FILLED.pack(offset + len(data))), self.length)

    def commit(self) -> bool:
        """Prove it and give it its name. False: somebody removed it meanwhile. Raises `OSError`."""
        proof = _TRAILER.pack(self.length, _MAGIC, self.length, zlib.crc32(self.view), self.name)
        try:
            _write(self._descriptor, memoryview(proof), self.length)
            os.rename(self._path + PART, self._path)  # noqa: PTH104 - text is all we have, and it is the hot path
        except FileNotFoundError:
            return False
        except OSError:
            self._remove()
            raise
        finally:
            self._close()
        return True

    def discard(self) -> bool:
        """Remove it; False when that was done, or it was committed, before."""
        if self._descriptor < 0:
            return False
        self._remove()
        self._close()
        return True

    def _remove(self) -> None:
        with suppress(OSError):
            # Only our own: after an eviction, another worker may have begun it anew under the same name.
            if os.stat(self._path + PART).st_ino == os.fstat(self._descriptor).st_ino:  # noqa: PTH116 - as above
                os.unlink(self._path + PART)  # noqa: PTH108

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # before Python 3.13 the map holds the file open, and so the lock
        os.close(descriptor)


class Followed:
    """A slice that another worker is writing: its bytes are read out of the same pages as they come."""

    def __init__(self, descriptor: int, name: bytes, length: int) -> None:
        """Follow an open file, which stays the caller's. Raises `OSError` when it is not as long as it will be."""
        if os.fstat(descriptor).st_size != length + _TRAILER.size:
            raise BlockingIOError
        self._whole = _map(descriptor, length + _TRAILER.size)
        self._descriptor = os.dup(descriptor)
        self.view = self._whole[:length]
        self.name = name
        self.length = length

    def filled(self) -> int:
        filled: int = _FILLED.unpack_from(self._whole, self.length)[0]
        return min(filled, self.length)

    def is_orphaned(self) -> bool:
        """Tell whether its writer is gone or gave up: the system frees the lock of a process that was killed."""
        return lock(self._descriptor)

    def close(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)


def create_part(path: str) -> int | None:
    """Create and lock the file of a slice to be written. None: there is one. Raises `OSError`."""
    try:
        descriptor = os.open(path + PART, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return None
    lock(descriptor)
    return descriptor


def lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove(path: str) -> None:
    """Remove a slice, written or being written. In this order: a writer's rename comes before both, or it fails."""
    for name in (path + PART, path):
        with suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108 - text is all we have, and it is the hot path


def exists(path: str) -> bool:
    """Tell whether there is such a slice, written or being written."""
    # In this order: what is given its name in between is seen under the one or the other.
    return os.access(path + PART, os.F_OK) or os.access(path, os.F_OK)


def found_in(root: Path) -> tuple[dict[bytes, int], list[Path]]:
    """Find the slices in the folders, oldest first, with the bytes each takes; and the parts that nobody finished."""
    slices: list[tuple[int, bytes, int]] = []
    parts: list[Path] = []
    for folder in (root / f"{number:02x}" for number in range(FOLDERS)):
        with os.scandir(folder) as inside:
            for entry in inside:
                ours = IS_OURS.match(entry.name)
                if ours and ours[3]:
                    parts.append(Path(entry.path))
                elif ours:
                    facts = entry.stat(follow_symlinks=False)
                    size = -(-facts.st_size // BLOCK) * BLOCK
                    slices.append((facts.st_mtime_ns, bytes.fromhex(ours[1] + ours[2]), size))
    return {name: size for _, name, size in sorted(slices)}, parts


def of_object(root: str, wanted: bytes) -> list[bytes]:
    """Find the names of an object's slices, written or being written, of whatever version."""
    text = wanted.hex()
    with suppress(FileNotFoundError):
        found = (IS_OURS.match(name) for name in os.listdir(f"{root}/{text[:2]}") if name.startswith(text))  # noqa: PTH208
        return [bytes.fromhex(ours[1] + ours[2]) for ours in found if ours]
    return []


def _digest(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _map(descriptor: int, size: int) -> memoryview:
    if sys.version_info >= (3, 13):
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ, trackfd=False))
    return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
