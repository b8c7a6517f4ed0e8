"""Keeps the records in Cloudflare D1: SQLite behind an HTTP API that takes about four requests a second."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Sequence
from typing import Any, Final

from gateway.clock import Clock
from gateway.errors import CannotStart, RecordsFault, RecordsUnavailable
from gateway.metadata import Metadata
from gateway.metadata.d1_client import D1Client
from gateway.metadata.driver import Dialect, Row, Statement
from gateway.metadata.gathering import GatheringMetadata
from gateway.metadata.limiter import Limiter, Sleep
from gateway.metadata.news import News, Silence
from gateway.metadata.sqlite import numbered
from gateway.settings import Settings

_URL: Final = re.compile(r"d1://([A-Za-z0-9_-]+)/([A-Za-z0-9_-]+)/?\Z")
_TOKEN_VARIABLE: Final = "CLOUDFLARE_API_TOKEN"  # noqa: S105 - its name; wrangler reads it as well

# `wrangler d1 migrations apply` lists what it applied in a table of its own, without checksums. Either tool may apply
# the files: what it did is taken over here, and what we do is noted there.
_DIALECT: Final = Dialect(
    other_list="""CREATE TABLE IF NOT EXISTS d1_migrations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT UNIQUE,
        applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
    )""",
    adopt="""INSERT INTO schema_migrations (name, checksum, applied_at)
        SELECT known.key, known.value, CAST($2 AS BIGINT) FROM json_each($1) AS known
        JOIN d1_migrations AS theirs ON theirs.name = known.key
        WHERE true ON CONFLICT (name) DO NOTHING""",
    note="INSERT INTO d1_migrations (name) VALUES ($1) ON CONFLICT (name) DO NOTHING",
)


async def open_metadata(
    settings: Settings, clock: Clock, steady: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
) -> Metadata:
    """Open `d1://<account>/<database>`. It connects when first asked."""
    found = _URL.match(settings.metadata)
    if found is None:
        raise CannotStart(f"metadata: {settings.metadata} is not d1://<account>/<database>")
    token = settings.d1.api_token.get_secret_value() if settings.d1.api_token else os.environ.get(_TOKEN_VARIABLE)
    if not token:
        raise CannotStart(f"d1.api_token: is missing; set it, or {_TOKEN_VARIABLE} in the environment")
    url = f"{settings.d1.base_url}/accounts/{found[1]}/d1/database/{found[2]}/query"
    limits = settings.d1
    limiter = Limiter(limits.requests_per_second, limits.burst, limits.longest_wait, steady, sleep)
    return GatheringMetadata(D1Driver(D1Client(url, token, limits.timeout, limiter, clock)), clock)


class D1Driver:
    """Runs statements by requests: a batch is one, and one transaction."""

    engine = "d1"
    dialect = _DIALECT

    def __init__(self, client: D1Client) -> None:
        self._client = client
        self._open = True

    @property
    def news(self) -> News:
        return Silence(lasting=False)

    async def fetch(self, statement: Statement) -> Sequence[Row]:
        (rows,) = await self._ask([statement], again=True)
        return rows

    async def batch(
        self,
        statements: Sequence[Statement],
        *,
        patient: bool = False,  # noqa: ARG002 - the service ends what takes longer than 30 seconds
    ) -> Sequence[Sequence[Row]]:
        return await self._ask(statements, again=False)

    async def close(self) -> None:
        self._open = False
        await self._client.close()

    async def _ask(self, statements: Sequence[Statement], *, again: bool) -> Sequence[Sequence[Row]]:
        if not self._open:
            raise RecordsUnavailable
        queries = [_query(statement) for statement in statements]
        answer = await self._client.ask(queries[0] if len(queries) == 1 else {"batch": queries}, again=again)
        if len(answer) != len(statements):
            raise RecordsFault
        return answer


def _query(statement: Statement) -> dict[str, Any]:
    text, values = statement
    return {"sql": numbered(text), "params": list(values)}
