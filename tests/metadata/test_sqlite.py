"""What the SQLite member does when its file, its disk or its process fails."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gateway.errors import CannotStart, RecordsFault, RecordsTimeout, RecordsUnavailable, StorageFull
from gateway.metadata import Listing, Metadata, Quota, QuotaExceeded
from gateway.metadata.lanes import Lane
from gateway.metadata.queries import SqlMetadata
from gateway.metadata.sqlite import SqliteDriver, open_metadata
from tests.support.metadata import NOW, OWNER, add_all, an_asset, clock, numbered, opened, read, settings_for


async def open_at(url: str) -> Metadata:
    return await open_metadata(settings_for(url), clock)


async def test_the_folder_is_made_and_a_relative_path_begins_where_the_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with opened("sqlite:///new/folder/a%20b.db") as store:
        await store.add(an_asset())
    async with opened(f"sqlite:///{tmp_path}/new/folder/a b.db") as store:
        assert await read(store, an_asset().id) == an_asset()


async def test_writes_go_through_a_write_ahead_log_that_a_close_folds_in(tmp_path: Path) -> None:
    file, log = tmp_path / "a.db", tmp_path / "a.db-wal"
    async with opened(f"sqlite:///{file}") as store:
        await store.add(an_asset())
        assert log.stat().st_size > 0
    assert not log.exists()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT id FROM assets").fetchall() == [(an_asset().id,)]


async def test_stores_on_one_file_share_the_records_and_the_quota(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with opened(url) as one, opened(url) as other:
        answers = await asyncio.gather(
            *((one, other)[n % 2].add(asset, Quota(20, 10_000), NOW) for n, asset in enumerate(numbered(50))),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 30
        assert await one.list(Listing(50)) == await other.list(Listing(50))


async def test_opening_does_not_migrate(tmp_path: Path) -> None:
    store = await open_at(f"sqlite:///{tmp_path}/a.db")
    with pytest.raises(RecordsFault):
        await store.get(["asset-1"])
    assert {migration.applied_at for migration in await store.status()} == {None}
    await store.close()


async def test_a_closed_store_is_away(tmp_path: Path) -> None:
    store = await open_at(f"sqlite:///{tmp_path}/a.db")
    await store.close()
    for asking in (store.ping(), store.upgrade(), store.get(["asset-1"]), store.add(an_asset())):
        with pytest.raises(RecordsUnavailable):
            await asking


WRONG = [
    "sqlite://data/a.db",
    "sqlite:///",
    "sqlite:///:memory:",
    "sqlite:///a.db?mode=ro",
    "sqlite:///a.db?busy_timeout=soon",
]


@pytest.mark.parametrize("url", WRONG)
async def test_a_wrong_address_refuses_to_start(url: str) -> None:
    with pytest.raises(CannotStart, match="metadata"):
        await open_at(url)


@pytest.mark.parametrize("path", ["file/a.db", "file/folder/a.db", "folder"])
async def test_a_place_where_no_file_can_be_is_away(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecordsUnavailable):
        await open_at(f"sqlite:///{tmp_path / path}")


async def test_a_file_that_is_no_database_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"this is a letter, no database. " * 100)
    with pytest.raises(RecordsFault):
        await open_at(f"sqlite:///{tmp_path}/a.db")


async def test_a_damaged_page_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    async with opened(f"sqlite:///{file}") as store:
        await add_all(store, *numbered(200))
    content = file.read_bytes()
    header = len(content) // 2  # the first pages, which hold the schema, stay
    file.write_bytes(content[:header] + b"\xff" * (len(content) - header))
    store = await open_at(f"sqlite:///{file}")
    with pytest.raises(RecordsFault):
        await store.get([asset.id for asset in numbered(200)])
    await store.close()


async def test_a_locked_file_is_late_for_writers_and_good_for_readers(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/a.db?busy_timeout=1ms") as store:
        await store.add(an_asset())
        with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(RecordsTimeout):
                await store.add(an_asset("asset-new1"))
            assert await read(store, an_asset().id) == an_asset()
        await store.add(an_asset("asset-new1"))


async def test_a_writer_waits_for_a_lock_that_is_let_go(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/a.db?busy_timeout=1m") as store:
        with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            adding = asyncio.create_task(store.add(an_asset()))
            await store.ping()
            other.execute("ROLLBACK")
            assert await adding == 0


def connect_with_room_for(pages: int, file: Path) -> sqlite3.Connection:
    """Connect to a database that finds the disk full beyond so many pages."""
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA max_page_count = {pages}")
    return connection


async def test_a_full_disk_says_so_loses_nothing_and_is_got_over(tmp_path: Path) -> None:
    connections: list[sqlite3.Connection] = []

    def connect() -> sqlite3.Connection:
        connections.append(connect_with_room_for(30, tmp_path / "a.db"))
        return connections[0]

    lane = await Lane.open([connect])
    store = SqlMetadata(SqliteDriver(lane, lane), clock)
    await store.upgrade()
    with pytest.raises(StorageFull):
        await add_all(store, *numbered(1000))
    added = len(await store.list(Listing(1000, owner=OWNER)))
    assert 0 < added < 1000
    connections[0].execute("PRAGMA max_page_count = 10000")
    assert await store.add(an_asset("asset-new1"), Quota(1000, 100_000), NOW) == added * 10
    await store.close()


WRITER = """
import asyncio, sys
from tests.support.metadata import an_asset, opened, NOW
from gateway.metadata import Quota
from policies.model import State

async def write():
    async with opened(sys.argv[1]) as store:
        for n in range(1_000_000):
            asset = an_asset(f"asset-{n:08}", state=State.PENDING)
            await store.add(asset, Quota(10**9, 10**12), NOW)
            await store.change(asset.id, {"state": State.READY}, when=State.PENDING)
            print(asset.id, flush=True)

asyncio.run(write())
"""


def write_and_kill(url: str, kept: int) -> list[str]:
    """Start a process that writes, kill it when it has answered `kept` times; return all that it answered."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as writer:
        assert writer.stdout is not None
        answered = [writer.stdout.readline() for _ in range(kept)]
        writer.kill()
        return [line.strip() for line in [*answered, *writer.stdout] if line.endswith("\n")]


@pytest.mark.parametrize("kept", [1, 40])
async def test_a_killed_process_leaves_all_that_it_answered(tmp_path: Path, kept: int) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    answered = await asyncio.to_thread(write_and_kill, url, kept)
    async with opened(url) as store:
        assert len(answered) >= kept
        assert set(answered) <= {asset.id for asset in await store.list(Listing(1_000_000))}
        await store.add(an_asset("asset-new1"))
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_store_that_cannot_open_holds_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"no database " * 100)
    with pytest.raises(RecordsFault):
        await Lane.open([functools.partial(_read, tmp_path / "a.db")])
    (tmp_path / "a.db").unlink()
    async with opened(f"sqlite:///{tmp_path}/a.db") as store:
        await store.ping()


def _read(file: Path) -> sqlite3.Connection:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("SELECT * FROM sqlite_master").fetchall()
    return connection
