"""The shape of the database on every engine: from all migrations, once however many nodes ask, and the same for all."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import asyncpg
import pytest

from gateway.errors import CannotStart
from gateway.metadata.migrations import known
from gateway.metadata.postgres import PostgresDriver
from gateway.metadata.task_records import Copy, Task
from gateway.model import Asset
from gateway.resources import resource
from tests.metadata.test_sql import STATEMENTS
from tests.support.metadata import TABLES, an_asset, d1_settings, open_at, opened, read
from tests.support.servers.d1 import D1
from tests.support.servers.pgbouncer import PgBouncer
from tests.support.servers.postgres import Postgres

CATALOG = """
    SELECT 'column', table_name, column_name, data_type, is_nullable, coalesce(collation_name, ''), column_default
        FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'index', tablename, indexname, indexdef, '', '', '' FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), '', '', ''
        FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'function', proname, '', pg_get_functiondef(oid), '', '', ''
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    ORDER BY 1, 2, 3
"""


async def catalog_of(url: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    rows = [tuple(row) for row in await connection.fetch(CATALOG)]
    await connection.close()
    return [row for row in rows if row[1] != "schema_migrations"]


async def test_a_fresh_postgres_is_shaped_as_one_that_grew(postgres: Postgres) -> None:
    fresh, grown = postgres.create_database(), postgres.create_database()
    async with opened(fresh):
        pass
    for migration in known("postgres"):
        postgres.execute(migration.text, grown)
    shape = await catalog_of(fresh)
    assert {row[0] for row in shape} == {"column", "index", "constraint", "trigger", "function"}
    assert shape == await catalog_of(grown)


async def test_all_engines_have_the_columns_of_a_record_and_the_same_indexes(postgres: Postgres) -> None:
    url = postgres.create_database()
    async with opened(url):
        shape = await catalog_of(url)
    columns = {(row[1], row[2]): row[4] == "YES" for row in shape if row[0] == "column"}
    for table, record in (("assets", Asset), ("tasks", Task), ("copies", Copy)):
        assert {name for of, name in columns if of == table} == {field.name for field in fields(record)}
    assert {of for of, _ in columns} == set(TABLES)
    indexes = {row[2] for row in shape if row[0] == "index"} - {f"{table}_pkey" for table in TABLES}
    for engine in ("sqlite", "d1"):
        with closing(sqlite3.connect(":memory:")) as connection:
            for migration in known(engine):
                connection.executescript(migration.text)
            asked = 'SELECT name, "notnull" FROM pragma_table_info(?)'
            found = {(of, name): not notnull for of in TABLES for name, notnull in connection.execute(asked, (of,))}
            assert found == columns
            named = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
            assert {row[0] for row in connection.execute(named)} == indexes


@pytest.mark.parametrize("pooled", [False, True])
async def test_ten_nodes_that_start_at_once_migrate_once(
    postgres: Postgres, pgbouncer: PgBouncer, pooled: bool
) -> None:
    direct = postgres.create_database()
    url = pgbouncer.url(direct) if pooled else direct
    stores = [await open_at(url, POSTGRES_PGBOUNCER=str(pooled)) for _ in range(10)]
    applied = await asyncio.gather(*(store.upgrade() for store in stores))
    assert sorted(name for names in applied for name in names) == [migration.name for migration in known("postgres")]
    for store in stores:
        await store.ping()
        await store.close()


async def test_a_node_waits_for_another_that_migrates_however_long_that_takes(postgres_url: str) -> None:
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(16712, 0)")
        store = await open_at(postgres_url, POSTGRES_STATEMENT_TIMEOUT="50ms")
        upgrading = asyncio.create_task(store.upgrade())
        done, _ = await asyncio.wait([upgrading], timeout=1)
        assert not done
    assert await upgrading == [migration.name for migration in known("postgres")]
    await store.close()
    await other.close()


async def test_a_migration_of_postgres_that_fails_leaves_nothing_behind(postgres: Postgres, postgres_url: str) -> None:
    # Its last trigger's function has a name that is taken: all that it did before must be undone.
    postgres.execute("CREATE FUNCTION assets_changed() RETURNS int LANGUAGE sql AS 'SELECT 1'", postgres_url)
    store = await open_at(postgres_url)
    with pytest.raises(CannotStart, match=f"migrations/postgres/{known('postgres')[0].name}: .*assets_changed"):
        await store.upgrade()
    assert {row[0] for row in await catalog_of(postgres_url)} == {"function"}
    postgres.execute("DROP FUNCTION assets_changed", postgres_url)
    assert await store.upgrade()
    await store.close()


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_statement_reads_the_whole_table_of_postgres(
    postgres: Postgres, postgres_shared: str, name: str
) -> None:
    async with opened(postgres_shared):
        pass
    text = STATEMENTS[name].replace("<ids>", PostgresDriver.dialect.ids)
    # What still reads the table whole or sorts it, although that is made as dear as can be, has no index that serves.
    dear = "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off"
    plan = postgres.execute(f"{dear}; EXPLAIN (GENERIC_PLAN) {text}", postgres_shared)
    assert "Seq Scan on assets" not in plan, plan
    assert not re.search(r"Sort Key: .*(created_at|object_key)", plan), plan


async def apply_as_wrangler_does(d1: D1, database: str) -> None:
    """Run each file and note its name, as `wrangler d1 migrations apply` does."""
    d1.query(
        database,
        "CREATE TABLE IF NOT EXISTS d1_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE,"
        " applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)",
    )
    for file in sorted(resource("migrations/d1").iterdir(), key=lambda file: file.name):
        text = file.read_text(encoding="utf-8")
        d1.query(database, f"{text}\nINSERT INTO d1_migrations (name) values ('{file.name}');")


async def test_what_wrangler_applied_is_not_applied_again(d1: D1) -> None:
    database = d1.create_database()
    await apply_as_wrangler_does(d1, database)
    async with opened(f"d1://{d1.account}/{database}", **d1_settings(d1)) as store:
        assert await store.upgrade() == []
        assert all(migration.applied_at is not None for migration in await store.status())
        await store.add(an_asset())
        assert await read(store, an_asset().id) == an_asset()


async def test_what_we_applied_wrangler_finds_applied(d1: D1) -> None:
    database = d1.create_database()
    async with opened(f"d1://{d1.account}/{database}", **d1_settings(d1)):
        rows = d1.query(database, "SELECT name FROM d1_migrations ORDER BY id")
    assert [row["name"] for row in rows] == [migration.name for migration in known("d1")]


async def test_ten_nodes_that_start_at_once_migrate_d1_once(d1: D1) -> None:
    url = f"d1://{d1.account}/{d1.create_database()}"
    stores = [await open_at(url, **d1_settings(d1)) for _ in range(10)]
    applied = await asyncio.gather(*(store.upgrade() for store in stores))
    assert sorted(name for names in applied for name in names) == [migration.name for migration in known("d1")]
    for store in stores:
        await store.close()


def test_d1_has_every_migration_of_sqlite(tmp_path: Path) -> None:
    texts = {engine: [migration.text for migration in known(engine)] for engine in ("sqlite", "d1")}
    assert json.dumps(texts["d1"]) == json.dumps(texts["sqlite"])
