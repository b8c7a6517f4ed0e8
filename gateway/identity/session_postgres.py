"""The session table in PostgreSQL, by a small pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg

from gateway.errors import CannotStart, RecordsFault, RecordsTimeout, RecordsUnavailable

_MOST_CONNECTIONS: Final = 4
_TIMEOUT: Final = 5.0  # seconds for all of it: waiting for a connection, connecting, the query
_CLOSE_TIMEOUT: Final = 2.0  # seconds
_COLUMNS: Final = (
    "SELECT attname::text FROM pg_attribute"
    " WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped"
)
# What PostgreSQL says when it cannot answer anybody now; what else it says is about the question.
_AWAY: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was cut this very moment
)


class PostgresSessions:
    """Connects when first asked. Finds tables along the search path, which `?search_path=auth` in the URL sets."""

    parameter = "$1"

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: asyncpg.Pool | None = None
        self._making = asyncio.Lock()

    async def columns(self, table: str) -> frozenset[str]:
        async with self._reading() as pool:
            return frozenset(row[0] for row in await pool.fetch(_COLUMNS, table))

    async def row(self, sql: str, token: str) -> Sequence[Any] | None:
        async with self._reading() as pool:
            found: Sequence[Any] | None = await pool.fetchrow(sql, token)
            return found

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            with suppress(TimeoutError, OSError, asyncpg.InterfaceError):  # the pool ends its connections by force then
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await pool.close()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(_TIMEOUT):
                async with self._making:
                    self._pool = self._pool or await self._made()
                yield self._pool
        except TimeoutError:
            raise RecordsTimeout("Sign-ins cannot be looked up") from None
        except asyncpg.ClientConfigurationError:
            raise CannotStart("identity.better_auth.database: is no URL of a PostgreSQL database") from None
        except (OSError, *_AWAY):
            raise RecordsUnavailable("Sign-ins cannot be looked up") from None
        except asyncpg.PostgresError:
            raise RecordsFault("Sign-ins cannot be looked up") from None

    async def _made(self) -> asyncpg.Pool:
        return await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=_MOST_CONNECTIONS,
            statement_cache_size=0,  # a pooler such as PgBouncer gives each transaction another server
            reset=_nothing_to_reset,
        )


async def _nothing_to_reset(_: object) -> None:
    """Reading leaves nothing behind, and the default reset costs a round trip for each look-up."""
