"""The threads that SQLite's connections work on, one hop to and fro for a job; its errors come back as ours."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Final, TypeVar

from gateway.errors import RecordsFault, RecordsTimeout, RecordsUnavailable, StorageFull, Unavailable

Result = TypeVar("Result")


class Lane:
    """Connections, and as many threads that work on them. One job is one hop to a thread and back.

    A job whose caller was cancelled is either never begun or finished: nobody finds a transaction open.
    """

    def __init__(self, size: int) -> None:
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="assetgate-sqlite")
        self._connections: list[sqlite3.Connection] = []
        self._free: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._open = True

    @classmethod
    async def open(cls, connectors: Sequence[Callable[[], sqlite3.Connection]]) -> Lane:
        lane = cls(len(connectors))
        try:
            with _mapped():
                await asyncio.get_running_loop().run_in_executor(lane._threads, lane._connect, connectors)
        except BaseException:
            await lane.close()
            raise
        return lane

    def _connect(self, connectors: Sequence[Callable[[], sqlite3.Connection]]) -> None:
        for connector in connectors:
            connection = connector()
            self._connections.append(connection)
            self._free.put(connection)

    async def run(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        if not self._open:
            raise RecordsUnavailable
        with _mapped():
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._lend, job)

    def _lend(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        connection = self._free.get()
        try:
            return job(connection)
        finally:
            self._free.put(connection)

    async def close(self) -> None:
        """Finish the jobs under way, then close; a second time is no error."""
        if not self._open:
            return
        self._open = False
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self._threads.shutdown(wait=True)
        for connection in self._connections:
            connection.close()


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the low byte is the primary code
        raise _ERRORS.get(code, RecordsFault) from error
    except OSError as error:
        raise RecordsUnavailable from error


_ERRORS: Final[dict[int, type[Unavailable]]] = {
    sqlite3.SQLITE_BUSY: RecordsTimeout,
    sqlite3.SQLITE_LOCKED: RecordsTimeout,
    sqlite3.SQLITE_FULL: StorageFull,
    sqlite3.SQLITE_CANTOPEN: RecordsUnavailable,
    sqlite3.SQLITE_READONLY: RecordsUnavailable,
    sqlite3.SQLITE_IOERR: RecordsUnavailable,
    sqlite3.SQLITE_PERM: RecordsUnavailable,
    sqlite3.SQLITE_AUTH: RecordsUnavailable,
    sqlite3.SQLITE_NOMEM: RecordsUnavailable,
}
