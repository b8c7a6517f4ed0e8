"""The store that a contract test runs on: every member of the family, PostgreSQL behind a pooler, each with memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.families import members
from gateway.metadata import Metadata
from tests.support.metadata import PLACES, sandbox
from tests.support.servers import pgbouncer as pgbouncer_module
from tests.support.servers.d1 import D1
from tests.support.servers.pgbouncer import PgBouncer
from tests.support.servers.postgres import Postgres

_MEMBERS = members("metadata")
_REMEMBERED = [f"remembered {name}" for name in _MEMBERS if name != "memory"]


@pytest.fixture(params=[*_MEMBERS, "pgbouncer", *_REMEMBERED])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Metadata]:
    name: str = request.param
    if name.removeprefix("remembered ") not in PLACES:
        pytest.fail(f"metadata member {name!r} has no place in tests/support/metadata.py")
    async with sandbox(name, request, tmp_path) as metadata:
        yield metadata


@pytest.fixture(scope="session")
def postgres_shared(postgres: Postgres) -> str:
    """The URL of a database that keeps its shape from test to test."""
    return postgres.create_database()


@pytest.fixture(scope="session")
def pgbouncer(postgres: Postgres) -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode before the PostgreSQL of the run."""
    with pgbouncer_module.running(postgres) as server:
        yield server


@pytest.fixture(scope="session")
def d1_shared(d1: D1) -> str:
    return d1.create_database()
