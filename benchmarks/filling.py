"""Fills databases with records, millions of them, each of an id and an owner of its own."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import asyncpg
import click

from benchmarks.load import LoadFailed
from gateway.app import member_of
from gateway.clock import system_clock
from tests.support.gateway import settings_for

_DISK = 1500  # bytes that a record takes at most, its indexes included: about twice what was seen
_CACHE = 2 * 1024 * 1024  # KiB of SQLite's pages while it is filled: ids come in no order, so any page may be next

# By column, of a record's `id` and number `i`: SQL that both engines speak. The others stay null.
_VALUES = {
    "id": "id",
    "owner": "'user:' || i",
    "visibility": "'private'",
    "purpose": "'generated_image'",
    "source": "'upload'",
    "state": "'ready'",
    "media_type": "'image/png'",
    "size": "65536",
    "sha256": "replace(id, '-', '') || replace(id, '-', '')",
    "object_key": "substr(id, 1, 2) || '/' || id",
    "created_at": "1700000000000 + i",
    "updated_at": "1700000000000 + i",
    "object_version": "'1'",
    "stored": "1",
}
_COLUMNS, _CHOSEN = ", ".join(_VALUES), ", ".join(_VALUES.values())
_SQLITE = f"""
    INSERT INTO assets ({_COLUMNS})
    WITH RECURSIVE numbers(i, id) AS (
        SELECT ?1, id_of(?1) UNION ALL SELECT i + 1, id_of(i + 1) FROM numbers WHERE i < ?2
    )
    SELECT {_CHOSEN} FROM numbers
"""  # noqa: S608 - all of these are our own words
_POSTGRES = f"""
    INSERT INTO assets ({_COLUMNS})
    SELECT {_CHOSEN} FROM (
        SELECT i, CAST(CAST(md5(CAST(i AS TEXT)) AS UUID) AS TEXT) AS id
        FROM generate_series(CAST($1 AS BIGINT), CAST($2 AS BIGINT)) AS i
    ) AS numbers
"""  # noqa: S608


@dataclass
class Growing:
    """A database that holds the records of the numbers below `count`; the owner of number 5 is `user:5`."""

    url: str
    insert: Callable[[str, range], None]
    count: int = 0

    def grow(self, count: int) -> None:
        """Add what is missing to so many records. Raises `LoadFailed` when the disk is too small for them."""
        missing = range(self.count, count)
        if not missing:
            return
        if shutil.disk_usage(tempfile.gettempdir()).free < len(missing) * _DISK:
            raise LoadFailed(f"{tempfile.gettempdir()} has too little room for {count:,} records")
        began = time.perf_counter()
        if not self.count:
            asyncio.run(_upgrade(self.url))
        self.insert(self.url, missing)
        self.count = count
        os.sync()  # so that what is measured next does not wait for what was written now
        took = time.perf_counter() - began
        click.echo(f"{self.url.partition(':')[0]}: {count:,} records, {len(missing):,} of them added in {took:,.0f} s")


def id_of(number: int) -> str:
    """Return the id of a record: neighbours by number are none by id, as with random ids."""
    return str(uuid.UUID(bytes=hashlib.md5(b"%d" % number, usedforsecurity=False).digest()))


def insert_into_sqlite(url: str, numbers: range) -> None:
    """Write without a journal: who loses the file has lost nothing."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as records:
        records.create_function("id_of", 1, id_of, deterministic=True)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE}"):
            records.execute(f"PRAGMA {pragma}")
        records.execute(_SQLITE, (numbers[0], numbers[-1]))


def insert_into_postgres(url: str, numbers: range) -> None:
    """Write without a log, then tidy up as autovacuum would, before it does so while something is measured."""
    asyncio.run(_insert_into_postgres(url, numbers))


async def _insert_into_postgres(url: str, numbers: range) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("ALTER TABLE assets SET UNLOGGED")
        await connection.execute(_POSTGRES, numbers[0], numbers[-1])
        for statement in ("VACUUM (ANALYZE) assets", "CHECKPOINT"):
            await connection.execute(statement)
    finally:
        await connection.close()


async def _upgrade(url: str) -> None:
    metadata = await member_of("metadata", url).open_metadata(settings_for(None, {"metadata": url}), system_clock)
    try:
        await metadata.upgrade()
    finally:
        await metadata.close()
