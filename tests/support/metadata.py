"""A fresh store of every member of the metadata family, and records to put into it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.clock import Clock
from gateway.families import member
from gateway.metadata import Metadata
from gateway.metadata.remembered import Remembered, remember
from gateway.model import Asset
from gateway.settings import Settings
from gateway.settings.reading import load
from policies.model import State, Visibility
from tests.support.servers.d1 import D1
from tests.support.servers.pgbouncer import PgBouncer

NOW = 1_700_000_000_000  # milliseconds
LATER = NOW + 1
LAST_MOMENT = 2**53  # the greatest whole number that JSON carries safely
OWNER = "user:ada"
GUEST = "guest:5f0c"


def clock() -> float:
    """Stand still at `NOW`."""
    return NOW / 1000


def settings_for(url: str, **more: str) -> Settings:
    """Make settings whose records live at `url`; `more` are other variables without their prefix."""
    return load(None, {f"ASSETGATE_{name}": value for name, value in ({"METADATA": url} | more).items()}).settings


async def open_at(url: str, **more: str) -> Metadata:
    """Open the store at `url`, whatever shape it has."""
    scheme = url.partition("://")[0]
    opening: Awaitable[Metadata] = member("metadata", {"postgresql": "postgres"}.get(scheme, scheme)).open_metadata(
        settings_for(url, **more), clock
    )
    return await opening


@asynccontextmanager
async def opened(url: str, **more: str) -> AsyncIterator[Metadata]:
    """Open the store at `url`, of the newest shape, and close it afterwards."""
    metadata = await open_at(url, **more)
    try:
        await metadata.upgrade()
        yield metadata
    finally:
        await metadata.close()


@asynccontextmanager
async def remembering(url: str, steady: Clock = time.monotonic, /, **more: str) -> AsyncIterator[Remembered]:
    """Open the store at `url` behind a memory."""
    metadata = await remember(await open_at(url, **more), settings_for(url, **more).records, steady)
    try:
        await metadata.upgrade()
        yield metadata
    finally:
        await metadata.close()


def d1_settings(server: D1) -> dict[str, str]:
    """Say where the D1 of the tests is, and that it takes as many requests as come."""
    return {"D1_BASE_URL": server.api, "D1_API_TOKEN": server.token, "D1_REQUESTS_PER_SECOND": "100000"}


TABLES = ("assets", "tasks", "copies", "task_events")  # in which records are kept
Place = tuple[str, dict[str, str]]  # the URL of an empty store, and the other settings that it needs


async def _file(request: pytest.FixtureRequest, folder: Path) -> Place:
    return f"sqlite:///{folder}/assets.db", {}


async def _memory(request: pytest.FixtureRequest, folder: Path) -> Place:
    return "memory://", {}


async def _postgres(request: pytest.FixtureRequest, folder: Path) -> Place:
    """A database that all contract tests share, emptied: to make one takes longer than the test."""
    url: str = request.getfixturevalue("postgres_shared")
    connection = await asyncpg.connect(url)
    if await connection.fetchval("SELECT to_regclass('assets')"):
        await connection.execute(f"TRUNCATE {', '.join(TABLES)}")
    await connection.close()
    return url, {}


async def _d1(request: pytest.FixtureRequest, folder: Path) -> Place:
    server: D1 = request.getfixturevalue("d1")
    database: str = request.getfixturevalue("d1_shared")
    for table in (*TABLES, "schema_migrations", "d1_migrations"):
        await asyncio.to_thread(server.query, database, f"DROP TABLE IF EXISTS {table}")
    return f"d1://{server.account}/{database}", d1_settings(server)


async def _pgbouncer(request: pytest.FixtureRequest, folder: Path) -> Place:
    url, _ = await _postgres(request, folder)
    bouncer: PgBouncer = request.getfixturevalue("pgbouncer")
    return bouncer.url(url), {"POSTGRES_PGBOUNCER": "true"}


PLACES = {"memory": _memory, "sqlite": _file, "postgres": _postgres, "pgbouncer": _pgbouncer, "d1": _d1}


@asynccontextmanager
async def sandbox(name: str, request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Metadata]:
    """Open an empty store of the member `name`, or of its remembered form: `remembered d1`."""
    url, more = await PLACES[name.removeprefix("remembered ")](request, folder)
    opening = remembering(url, **more) if name.startswith("remembered ") else opened(url, **more)
    async with opening as metadata:
        yield metadata


def an_asset(asset_id: str = "asset-00000001", **facts: Any) -> Asset:
    """Make a ready image of ten bytes; `facts` say what is different."""
    usual: dict[str, Any] = {
        "id": asset_id,
        "owner": OWNER,
        "visibility": Visibility.PRIVATE,
        "purpose": "post_image",
        "source": "upload",
        "state": State.READY,
        "media_type": "image/png",
        "size": 10,
        "sha256": "ab" * 32,
        "object_key": f"{asset_id[:2]}/{asset_id}",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Asset(**(usual | facts))


def numbered(count: int, **facts: Any) -> list[Asset]:
    """Make assets that differ by their number, each created one millisecond after the one before."""
    return [an_asset(f"asset-{n:08}", created_at=NOW + n, **facts) for n in range(count)]


async def add_all(store: Metadata, *assets: Asset) -> None:
    for asset in assets:
        await store.add(asset)


async def read(store: Metadata, asset_id: str) -> Asset | None:
    return (await store.get([asset_id])).get(asset_id)
