"""The session table in an SQLite file, opened for reading alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiosqlite

from gateway.errors import RecordsFault, RecordsUnavailable

SCHEME: Final = "sqlite:///"
_BUSY_TIMEOUT: Final = 5.0  # seconds that a reader waits for the application's checkpoint


class SqliteSessions:
    """One read-only connection, made when first needed and made anew after trouble."""

    parameter = "?"

    def __init__(self, url: str) -> None:
        self._uri = f"file:{quote(str(Path(url.removeprefix(SCHEME)).absolute()))}?mode=ro"
        self._connection: aiosqlite.Connection | None = None
        self._connecting = asyncio.Lock()

    async def columns(self, table: str) -> frozenset[str]:
        async with self._reading() as connection:
            found = await connection.execute_fetchall("SELECT name FROM pragma_table_info(?)", (table,))
            return frozenset(row[0] for row in found)

    async def row(self, sql: str, token: str) -> Sequence[Any] | None:
        async with self._reading() as connection:
            found = list(await connection.execute_fetchall(sql, (token,)))
            return found[0] if found else None

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[aiosqlite.Connection]:
        try:
            async with self._connecting:
                if self._connection is None:
                    self._connection = await aiosqlite.connect(self._uri, uri=True, timeout=_BUSY_TIMEOUT)
            yield self._connection
        except sqlite3.OperationalError:
            await self.close()
            raise RecordsUnavailable("Sign-ins cannot be looked up") from None
        except (sqlite3.Error, ValueError):  # ValueError is aiosqlite's word for a connection that was closed
            await self.close()
            raise RecordsFault("Sign-ins cannot be looked up") from None
