"""How SQLite runs the statements: through an index, however many records there are."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.metadata import Listing, Quota, sql
from gateway.metadata.driver import Dialect
from gateway.metadata.migrations import known
from policies.model import State

STATEMENTS = {
    "get": sql.GET,
    "get many": sql.GET_MANY,
    "add": sql.ADD,
    "add within quota": sql.ADD_WITHIN_QUOTA,
    "held": sql.HELD,
    "held beside": sql.HELD_BESIDE,
    "change": sql.change({"size": 1}, "asset-1", State.READY)[0],
    "change within quota": sql.change_within_quota({"size": 1}, "asset-1", State.READY, Quota(1, 1), 1)[0],
    "claim": sql.CLAIM,
    "revoke": sql.REVOKE,
    "expire": sql.EXPIRE,
    "unswept": sql.UNSWEPT,
    "swept": sql.SWEPT,
    "forget": sql.FORGET,
    "stored keys": sql.STORED_KEYS,
    "first page of an owner": sql.listing(Listing(9, owner="a", media_type="image"))[0],
    "next page of an owner": sql.listing(Listing(9, owner="a", purpose="b", after=(1, "c")))[0],
    "first page of all": sql.listing(Listing(9))[0],
    "next page of all": sql.listing(Listing(9, after=(1, "c")))[0],
}


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in known("sqlite"):
            connection.executescript(migration.text)
        yield connection


def plan_of(connection: sqlite3.Connection, text: str) -> list[str]:
    text = re.sub(r"\$(\d+)", r"?\1", text.replace("<ids>", Dialect().ids))
    last = max(int(number) for number in re.findall(r"\?(\d+)", text))
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", [None] * last)]


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_reads_the_whole_table_or_sorts_it(connection: sqlite3.Connection, name: str) -> None:
    plan = plan_of(connection, STATEMENTS[name])
    assert plan
    # A scan of the index that has the order asked for ends with the page.
    scans = [step for step in plan if step.startswith("SCAN assets") and "assets_newest" not in step]
    assert not scans, plan
    assert not [step for step in plan if "TEMP B-TREE FOR ORDER BY" in step], plan


def test_the_comparison_with_the_storage_reads_an_index_alone(connection: sqlite3.Connection) -> None:
    assert any("COVERING INDEX assets_stored" in step for step in plan_of(connection, sql.STORED_KEYS))
