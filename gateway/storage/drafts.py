"""A file that is being written: nobody sees it under its name until all of it is safely on the disk."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from gateway.storage.folders import FOLDER_MODE

GATHERED = 1024 * 1024  # bytes that one hop into a thread writes
MODE = 0o640  # the group may read: a web server that sends the files itself is a member of it

_T = TypeVar("_T")


class Draft:
    """One temporary file on its way to its name.

    A cancelled caller cannot stop a thread that is in the middle of a write. So every step holds the lock, and
    `discard` comes after the step that still runs and before any that did not begin.
    """

    def __init__(self, folder: Path, path: Path, executor: Executor) -> None:
        self._folder = folder
        self._path = path
        self._executor = executor
        self._lock = threading.Lock()
        self._gathered = bytearray()
        self._descriptor: int | None = None
        self._name: Path | None = None
        self._placed = False
        self._told = False
        self._over = False

    async def write(self, data: bytes | memoryview) -> None:
        """Take the bytes over: the caller may use the buffer again. Raises `OSError`."""
        self._gathered += data
        if len(self._gathered) >= GATHERED:
            gathered, self._gathered = self._gathered, bytearray()
            await self._run(lambda: self._append(gathered))

    async def place(self, modified_ns: int, make_durable: Callable[[Path], None]) -> os.stat_result:
        """Give the file its name, whole and on the disk. `make_durable` gets its folder. Raises `OSError`."""
        gathered, self._gathered = self._gathered, bytearray()
        facts = await self._run(lambda: self._place(gathered, modified_ns, make_durable))
        self._told = True
        return facts

    async def discard(self) -> None:
        """Remove what was not placed, and what was placed for somebody who did not live to hear of it."""
        if not self._told:
            # Shielded, it runs even if we are cancelled once more while we wait.
            await asyncio.shield(asyncio.wrap_future(self._executor.submit(self._discard)))

    async def _run(self, step: Callable[[], _T]) -> _T:
        return await asyncio.wrap_future(self._executor.submit(self._locked, step))

    def _locked(self, step: Callable[[], _T]) -> _T:
        with self._lock:
            if self._over:
                raise ValueError("the draft is over")
            return step()

    def _append(self, data: bytearray) -> None:
        if self._descriptor is None:
            self._descriptor, name = tempfile.mkstemp(dir=self._folder)
            self._name = Path(name)
        with memoryview(data) as view:
            written = 0
            while written < len(view):
                written += os.write(self._descriptor, view[written:])

    def _place(self, data: bytearray, modified_ns: int, make_durable: Callable[[Path], None]) -> os.stat_result:
        self._append(data)
        assert self._descriptor is not None  # noqa: S101 - the line above opened both
        assert self._name is not None  # noqa: S101
        os.fchmod(self._descriptor, MODE)
        os.utime(self._descriptor, ns=(modified_ns, modified_ns))
        os.fsync(self._descriptor)
        facts = os.fstat(self._descriptor)
        self._close()
        self._path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        self._name.rename(self._path)
        self._placed = True
        make_durable(self._path.parent)
        self._over = True
        return facts

    def _discard(self) -> None:
        with self._lock:
            self._over = True
            self._close()
            if self._name is not None:
                with suppress(OSError):  # the sweeper comes by as well
                    (self._path if self._placed else self._name).unlink()

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
