"""Keeps the records in one SQLite file: one connection that writes and a few that read, each on a thread of its own."""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote

from gateway.clock import Clock
from gateway.errors import CannotStart
from gateway.metadata import Metadata
from gateway.metadata.bulletin import Bulletin, BulletinNews
from gateway.metadata.driver import Dialect, Row, Statement, changed_ids
from gateway.metadata.lanes import Lane
from gateway.metadata.news import News, Silence
from gateway.metadata.queries import SqlMetadata
from gateway.settings import Settings
from gateway.settings.units import parse_duration

SCHEME: Final = "sqlite:///"
READERS: Final = 2  # more only wait for one another: Python runs one thread at a time outside of SQLite
BUSY_TIMEOUT: Final = 5.0  # seconds that a statement waits for another process's lock
_STATEMENTS: Final = 256  # prepared ones that a connection keeps


async def open_metadata(settings: Settings, clock: Clock) -> Metadata:
    """Open `sqlite:///relative.db` or `sqlite:////absolute.db`; `?busy_timeout=500ms` waits less for a lock."""
    path, busy_timeout = _location(settings.metadata)
    reader = functools.partial(connect, path, busy_timeout)
    writer = await Lane.open([functools.partial(_connect_writer, path, busy_timeout)])
    try:
        board = await writer.run(lambda _: Bulletin(path))
        readers = await Lane.open([reader] * READERS)
    except BaseException:
        await writer.close()
        raise
    return SqlMetadata(SqliteDriver(writer, readers, board), clock)


class SqliteDriver:
    """Runs statements on SQLite: what writes on one lane, what reads on another.

    Without a board nobody else can change the records: they are in the memory of this process.
    """

    engine = "sqlite"
    dialect = Dialect()

    def __init__(self, writer: Lane, readers: Lane, board: Bulletin | None = None) -> None:
        self._writer = writer
        self._readers = readers
        self._board = board

    @property
    def news(self) -> News:
        return Silence(lasting=True) if self._board is None else BulletinNews(self._board)

    async def fetch(self, statement: Statement) -> Sequence[Row]:
        return await self._readers.run(functools.partial(_run, statement))

    async def batch(
        self,
        statements: Sequence[Statement],
        *,
        patient: bool = False,  # noqa: ARG002 - no statement has a limit here
    ) -> Sequence[Sequence[Row]]:
        return await self._writer.run(functools.partial(_transact, statements, self._board))

    async def close(self) -> None:
        # The writer last: the last connection that closes folds the write-ahead log into the file.
        await self._readers.close()
        await self._writer.close()
        board, self._board = self._board, None
        if board is not None:
            board.close()


def _location(url: str) -> tuple[Path, float]:
    path, _, query = url.removeprefix(SCHEME).partition("?")
    options = dict(parse_qsl(query))
    timeout = options.pop("busy_timeout", None)
    try:
        seconds = BUSY_TIMEOUT if timeout is None else float(str(parse_duration(timeout)))
    except ValueError as wrong:
        raise CannotStart(f"metadata: busy_timeout {wrong}") from wrong
    if not url.startswith(SCHEME) or not path or path.startswith(":") or options:
        raise CannotStart(f"metadata: {url} is not sqlite:///relative/path.db or sqlite:////absolute/path.db")
    return Path(unquote(path)), seconds


def _connect_writer(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open the database, make it if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = connect(path, busy_timeout)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # An upload that was answered must outlive a power cut, so every commit reaches the disk.
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path | str, busy_timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """Open a connection as every one of ours is."""
    connection = sqlite3.connect(
        path, busy_timeout, isolation_level=None, cached_statements=_STATEMENTS, check_same_thread=False
    )
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _transact(
    statements: Sequence[Statement], board: Bulletin | None, connection: sqlite3.Connection
) -> Sequence[Sequence[Row]]:
    # At once the only writer: a transaction that began by reading could not become one when another wrote meanwhile.
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = [_run(statement, connection) for statement in statements]
        with board.announced(changed_ids(statements, results)) if board else nullcontext():
            connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled it back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results


def _run(statement: Statement, connection: sqlite3.Connection) -> Sequence[Row]:
    text, values = statement
    return connection.execute(numbered(text), values).fetchall()


@functools.lru_cache(maxsize=_STATEMENTS)
def numbered(text: str) -> str:
    """Write `$1` as SQLite does: `?1`."""
    return re.sub(r"\$(\d+)", r"?\1", text)
