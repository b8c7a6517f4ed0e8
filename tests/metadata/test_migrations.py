"""How a database gets the shape that this version knows."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.errors import CannotStart
from gateway.metadata import Metadata
from gateway.metadata.migrations import Migration, known
from gateway.metadata.sqlite import open_metadata
from gateway.resources import resource
from tests.support.metadata import NOW, an_asset, clock, settings_for

ENGINES = sorted(folder.name for folder in resource("migrations").iterdir() if folder.is_dir())
FIRST = known("sqlite")[0].name


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Metadata]:
    metadata = await open_metadata(settings_for(f"sqlite:///{tmp_path}/a.db"), clock)
    yield metadata
    await metadata.close()


def execute(folder: Path, script: str) -> None:
    with closing(sqlite3.connect(folder / "a.db", isolation_level=None)) as connection:
        connection.executescript(script)


def schema_of(file: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    return [(name, re.sub(r"\s+", " ", sql)) for name, sql in rows if name != "schema_migrations"]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_file_is_a_migration_with_a_number_of_its_own(engine: str) -> None:
    names = sorted(file.name for file in resource(f"migrations/{engine}").iterdir())
    assert [migration.name for migration in known(engine)] == names
    assert len({name[:4] for name in names}) == len(names)


async def test_an_upgrade_applies_what_is_missing_and_says_so(store: Metadata) -> None:
    names = [migration.name for migration in known("sqlite")]
    assert [(one.name, one.applied_at) for one in await store.status()] == [(name, None) for name in names]
    assert list(await store.upgrade()) == names
    assert [(one.name, one.applied_at) for one in await store.status()] == [(name, NOW) for name in names]
    assert list(await store.upgrade()) == []


async def test_ten_upgrades_at_once_apply_each_once(tmp_path: Path) -> None:
    settings = settings_for(f"sqlite:///{tmp_path}/a.db")
    stores = await asyncio.gather(*(open_metadata(settings, clock) for _ in range(10)))
    applied = await asyncio.gather(*(store.upgrade() for store in stores))
    assert sorted(name for names in applied for name in names) == [migration.name for migration in known("sqlite")]
    for store in stores:
        await store.ping()
        await store.close()


async def test_a_fresh_database_is_shaped_as_one_that_grew(tmp_path: Path, store: Metadata) -> None:
    await store.upgrade()
    with closing(sqlite3.connect(tmp_path / "grown.db")) as connection:
        for migration in known("sqlite"):
            connection.executescript(migration.text)
    assert schema_of(tmp_path / "a.db") == schema_of(tmp_path / "grown.db")


TAMPERING = [
    ("UPDATE schema_migrations SET checksum = 'another'", f"migrations/sqlite/{FIRST}: it was changed"),
    ("INSERT INTO schema_migrations VALUES ('9999_pre_future.sql', '', 1)", "migrations/sqlite/9999_pre_future.sql"),
]


@pytest.mark.parametrize(("script", "problem"), TAMPERING)
async def test_a_changed_or_unknown_migration_is_refused_by_name(
    tmp_path: Path, store: Metadata, script: str, problem: str
) -> None:
    await store.upgrade()
    execute(tmp_path, script)
    with pytest.raises(CannotStart, match=problem):
        await store.upgrade()


async def test_the_status_tells_of_migrations_that_this_version_does_not_know(tmp_path: Path, store: Metadata) -> None:
    await store.upgrade()
    execute(tmp_path, "INSERT INTO schema_migrations VALUES ('9999_pre_future.sql', '', 1)")
    assert [(one.name, one.applied_at) for one in await store.status()][-1] == ("9999_pre_future.sql", 1)


async def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, store: Metadata) -> None:
    # Its last index has a name that is taken: all that it did before must be undone.
    execute(tmp_path, "CREATE TABLE mine (x); CREATE INDEX assets_stored ON mine (x)")
    with pytest.raises(CannotStart, match=f"migrations/sqlite/{FIRST}"):
        await store.upgrade()
    assert [name for name, _ in schema_of(tmp_path / "a.db")] == ["assets_stored", "mine"]
    execute(tmp_path, "DROP TABLE mine")
    assert FIRST in await store.upgrade()
    await store.add(an_asset())


SCRIPTS = [
    ("CREATE TABLE a (x);\nCREATE TABLE b (x);\n", 2),
    ("-- why\nCREATE TABLE a (\n  x -- ; not here\n);\n\n-- the end", 1),
    ("CREATE TRIGGER t AFTER INSERT ON a BEGIN\n  DELETE FROM b;\n  DELETE FROM c;\nEND;\nSELECT 1;", 2),
    ("INSERT INTO a VALUES ('x;\ny');", 1),
]


@pytest.mark.parametrize(("text", "count"), SCRIPTS)
def test_a_file_is_split_where_statements_end(text: str, count: int) -> None:
    assert len(Migration("0001_pre_x.sql", text).statements()) == count


def test_a_statement_without_end_is_refused() -> None:
    with pytest.raises(CannotStart, match="0001_pre_x"):
        Migration("0001_pre_x.sql", "CREATE TABLE a (x)").statements()
