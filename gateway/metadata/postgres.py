"""Keeps the records in PostgreSQL, by a pool of connections that are made anew when the server comes back."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import asyncpg

from gateway.clock import Clock
from gateway.errors import CannotStart, RecordsFault, RecordsTimeout, RecordsUnavailable
from gateway.metadata import Metadata
from gateway.metadata.driver import Dialect, Row, Script, Statement
from gateway.metadata.listening import Listening
from gateway.metadata.news import News, Silence
from gateway.metadata.postgres_errors import TROUBLE, Broken, Clashed, error_of
from gateway.metadata.queries import SqlMetadata
from gateway.settings import Postgres, Settings

Result = TypeVar("Result")

_MARGIN: Final = 0.5  # seconds beyond its own limit that the server has to say so; then it is taken for hanging
_CLOSE_TIMEOUT: Final = 5.0  # seconds for the statements under way
_FIRST_BACKOFF: Final = 0.05  # seconds without another attempt after one to connect failed; doubled each time
_LAST_BACKOFF: Final = 1.0  # seconds
_AFTER_A_CLASH: Final = (0.02, 0.1)  # seconds before each further attempt at a transaction that lost a deadlock

# Advisory locks have two numbers: the first is ours (0x4147 and the next), so that nobody else's stands in the way.
_DIALECT: Final = Dialect(
    scripts=True,
    ids="(SELECT json_array_elements_text(CAST($1 AS json)))",
    lock_owner="SELECT pg_advisory_xact_lock(16711, hashtext($1))",
    lock_owner_of="SELECT pg_advisory_xact_lock(16711, hashtext(owner)) FROM assets WHERE id = $1",
    lock_schema="SELECT pg_advisory_xact_lock(16712, 0)",
    skip_locked=" FOR UPDATE SKIP LOCKED",
)


async def open_metadata(settings: Settings, clock: Clock) -> Metadata:
    """Open `postgresql://user:password@host/database`. It connects when first asked."""
    return SqlMetadata(await PostgresDriver.open(settings.metadata, settings.postgres), clock)


class PostgresDriver:
    """Runs statements on connections of a pool, each job to its end though its caller leaves."""

    engine = "postgres"
    dialect = _DIALECT

    def __init__(self, url: str, settings: Postgres, steady: Clock = time.monotonic) -> None:
        self._url = url
        self._settings = settings
        self._steady = steady
        self._limit = settings.statement_timeout + _MARGIN
        self._jobs: set[asyncio.Task[Any]] = set()
        self._failures = 0
        self._closed_until = -1.0
        self._pool: Any = None

    @classmethod
    async def open(cls, url: str, settings: Postgres, steady: Clock = time.monotonic) -> PostgresDriver:
        driver = cls(url, settings, steady)
        driver._pool = await asyncpg.create_pool(
            url, min_size=0, max_size=settings.pool_size, connect=driver._connect, reset=_nothing_to_reset
        )
        return driver

    @property
    def news(self) -> News:
        if not self._settings.pgbouncer:
            return Listening(functools.partial(self._connect, self._url), self._steady)
        if self._settings.listen_url is None:
            return Silence(lasting=False)
        return Listening(functools.partial(self._connect, self._settings.listen_url.get_secret_value()), self._steady)

    async def fetch(self, statement: Statement) -> Sequence[Row]:
        try:
            return await self._job(self._limit, functools.partial(_run, statement))
        except Broken:
            # A connection that was found broken: the server was started anew, say. Reading again harms nobody.
            return await self._job(self._limit, functools.partial(_run, statement))

    async def batch(self, statements: Sequence[Statement], *, patient: bool = False) -> Sequence[Sequence[Row]]:
        limit, work = None if patient else self._limit, functools.partial(_transact, statements, patient)
        for pause in _AFTER_A_CLASH:
            try:
                return await self._job(limit, work)
            except Clashed:
                # At once, it would get in the way of the one that it had made room for.
                await asyncio.sleep(pause)
        return await self._job(limit, work)

    async def close(self) -> None:
        """Let the jobs under way finish, then close; a second time is no error."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=_CLOSE_TIMEOUT)
        with suppress(TimeoutError, OSError, asyncpg.InterfaceError):  # the pool ends its connections by force then
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await pool.close()

    async def _job(self, limit: float | None, work: Callable[[Any], Awaitable[Result]]) -> Result:
        """Work on a connection in a task of its own: a caller that leaves leaves it done or undone, never open."""
        task = asyncio.create_task(self._lend(limit, work))
        self._jobs.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._jobs.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have left; then asyncio would complain that nobody looked

    async def _lend(self, limit: float | None, work: Callable[[Any], Awaitable[Result]]) -> Result:
        pool = self._pool
        if pool is None:
            raise RecordsUnavailable
        connection = await self._acquired(pool)
        try:
            async with asyncio.timeout(limit):
                return await work(connection)
        except TimeoutError as late:
            # It may hang for good. The server rolls back what was begun.
            connection.terminate()
            raise RecordsTimeout from late
        except asyncpg.InternalClientError as lost:
            # The farewell of a server that stops can come in between the library's own steps.
            connection.terminate()
            raise RecordsFault if isinstance(lost, asyncpg.ProtocolError) else Broken from lost
        except TROUBLE as trouble:
            raise error_of(trouble) from trouble
        finally:
            await pool.release(connection)

    async def _acquired(self, pool: Any) -> Any:
        try:
            async with asyncio.timeout(self._settings.connect_timeout + _MARGIN):
                return await pool.acquire()
        except TimeoutError as busy:
            raise RecordsUnavailable from busy
        except asyncpg.InterfaceError as closing:
            raise RecordsUnavailable from closing

    async def _connect(self, url: str, **options: Any) -> Any:
        """Make a connection, but not again at once after that failed: nobody waits for a server known to be away."""
        if self._steady() < self._closed_until:
            raise RecordsUnavailable
        try:
            connection = await self._connected(url, options)
        except ValueError as wrong:
            raise CannotStart("metadata: is no URL of a PostgreSQL database") from wrong
        except (TimeoutError, *TROUBLE) as trouble:
            self._failures += 1
            self._closed_until = self._steady() + min(_FIRST_BACKOFF * 2**self._failures, _LAST_BACKOFF)
            raise RecordsUnavailable from trouble
        self._failures = 0
        return connection

    async def _connected(self, url: str, options: dict[str, Any]) -> Any:
        settings = self._settings
        if settings.pgbouncer:
            # Each transaction may get another server: nothing prepared is found again, and no setting holds.
            options |= {"statement_cache_size": 0}
        else:
            limit = str(round(settings.statement_timeout * 1000))
            options |= {"server_settings": {"application_name": "assetgate", "statement_timeout": limit}}
        async with asyncio.timeout(settings.connect_timeout):
            return await asyncpg.connect(url, timeout=settings.connect_timeout, **options)


async def _run(statement: Statement, connection: Any) -> Sequence[Row]:
    text, values = statement
    if isinstance(text, Script):
        await connection.execute(str(text))  # the library takes no subclass
        return []
    rows: Sequence[Row] = await connection.fetch(text, *values)
    return rows


async def _transact(statements: Sequence[Statement], patient: bool, connection: Any) -> Sequence[Sequence[Row]]:
    if len(statements) == 1 and not patient:
        return [await _run(statements[0], connection)]  # a transaction by itself
    try:
        return await _attempt(statements, patient, connection)
    except asyncpg.InvalidCachedStatementError:
        # Another node has migrated: its plans are forgotten now, and what was begun is rolled back.
        return await _attempt(statements, patient, connection)


async def _attempt(statements: Sequence[Statement], patient: bool, connection: Any) -> Sequence[Sequence[Row]]:
    await connection.execute("BEGIN; SET LOCAL statement_timeout = 0" if patient else "BEGIN")
    try:
        results = [await _run(statement, connection) for statement in statements]
        await connection.execute("COMMIT")
    except asyncpg.PostgresError:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
        raise
    return results


async def _nothing_to_reset(_: object) -> None:
    """No job leaves anything behind in its connection, and the usual reset costs a round trip for each."""
