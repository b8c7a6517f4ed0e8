"""How the workers and commands of one machine see each other's changes on SQLite: at once, whoever is killed when."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.metadata import Metadata
from gateway.metadata.bulletin import SLOTS, Bulletin, BulletinNews
from policies.model import State, Visibility
from tests.support.metadata import GUEST, NOW, OWNER, add_all, an_asset, numbered, opened, read, remembering

ROOT = Path(__file__).parents[2]
PENDING = an_asset("asset-pending", state=State.PENDING, owner=GUEST)
READY = an_asset("asset-ready", owner=GUEST)
DUE = an_asset("asset-due", expires_at=NOW)
DELETED = an_asset("asset-deleted", state=State.DELETED)
UNSTORED = an_asset("asset-unstored", state=State.DELETED, stored=False, deleted_at=0)

Write = Callable[[Metadata], Awaitable[object]]
WRITES: list[tuple[str, Write]] = [
    (READY.id, lambda store: store.change(READY.id, {"visibility": Visibility.PUBLIC}, State.READY)),
    (READY.id, lambda store: store.change(READY.id, {"state": State.DELETED}, State.READY)),
    (READY.id, lambda store: store.revoke(READY.id, 1)),
    (READY.id, lambda store: store.claim(GUEST, OWNER, NOW)),
    (PENDING.id, lambda store: store.claim(GUEST, OWNER, NOW)),
    (DUE.id, lambda store: store.expire(NOW, 0, 10)),
    (PENDING.id, lambda store: store.discard(PENDING.id)),
    (DELETED.id, lambda store: store.swept([DELETED.id])),
    (UNSTORED.id, lambda store: store.forget(NOW, 10)),
    ("asset-new1", lambda store: store.add(an_asset("asset-new1"))),
]


@pytest.mark.parametrize(("asset_id", "write"), WRITES)
async def test_whatever_one_worker_changes_another_sees_at_once(tmp_path: Path, asset_id: str, write: Write) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with remembering(url) as one, remembering(url) as other, opened(url) as command:
        await add_all(command, PENDING, READY, DUE, DELETED, UNSTORED)
        before = await read(other, asset_id)
        assert other.peek(asset_id) is before
        await write(one)
        assert other.peek(asset_id) is None
        after = await read(command, asset_id)
        assert after != before
        assert await read(other, asset_id) == await read(one, asset_id) == after


async def test_what_did_not_change_stays_remembered(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with remembering(url) as one, remembering(url) as other:
        await add_all(one, READY, an_asset("asset-other"))
        kept = await read(other, READY.id)
        await one.revoke("asset-other", 1)
        await one.change(READY.id, {"size": 1}, State.PENDING)  # changes nothing: it is ready
        assert other.peek(READY.id) is kept


async def test_a_change_of_more_records_than_the_board_holds_is_seen_of_all(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with remembering(url) as one, remembering(url) as other:
        assets = numbered(SLOTS + 1, owner=GUEST)
        await asyncio.gather(*(one.add(asset) for asset in assets))
        await other.get([asset.id for asset in assets])
        await one.claim(GUEST, OWNER, NOW)
        assert {asset.owner for asset in (await other.get([asset.id for asset in assets])).values()} == {OWNER}


async def test_a_worker_that_looked_away_while_the_board_was_overwritten_trusts_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with remembering(url) as one, remembering(url) as other:
        await add_all(one, READY, an_asset("asset-other"))
        assert await read(other, READY.id)
        await one.revoke(READY.id, 7)
        for at in range(SLOTS):
            await one.revoke("asset-other", at)
        asset = await read(other, READY.id)
        assert asset is not None
        assert asset.revoked_at == 7


async def test_what_is_being_changed_is_read_and_not_remembered(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with remembering(url) as store:
        await add_all(store, READY, an_asset("asset-other"))
        await store.get([READY.id, "asset-other"])
        board = Bulletin(tmp_path / "a.db")
        with board.announced([READY.id]):
            assert store.peek(READY.id) is None
            assert await read(store, READY.id) == READY
            assert store.peek(READY.id) is None
            assert store.peek("asset-other")
        assert await read(store, READY.id) == READY
        assert store.peek(READY.id)
        board.close()


async def test_while_any_record_may_change_none_is_remembered(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with remembering(url) as store:
        await store.add(READY)
        board = Bulletin(tmp_path / "a.db")
        with board.announced([""]):
            assert await read(store, READY.id) == READY
            assert store.peek(READY.id) is None
        board.close()


async def test_ids_that_no_slot_can_hold_stand_for_all(tmp_path: Path) -> None:
    board = Bulletin(tmp_path / "a.db")
    news, heard = BulletinNews(board), list[str | None]()
    await news.open(heard.append)
    with board.announced(["x" * 65]):
        assert news.current()
        assert news.unsettled("asset-any")
    assert heard == [None]
    board.close()


# A command that revokes tokens of one asset, later each time, says so when it is done, and dies at the given place.
WRITER = """
import asyncio, os, signal, sys
from gateway.metadata.bulletin import Bulletin
from tests.support.metadata import opened

url, first, last, dies = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if dies != "nowhere":
    def die(*_): os.kill(os.getpid(), signal.SIGKILL)
    setattr(Bulletin, dies, die)

async def write():
    async with opened(url) as store:
        for at in range(first, last):
            await store.revoke("asset-ready", at)
            print(at, flush=True)

asyncio.run(write())
"""


def start_writer(url: str, first: int, last: int, dies: str = "nowhere") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, url, str(first), str(last), dies]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


async def test_another_process_answers_only_when_all_see_what_it_changed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with remembering(url) as store:
        await store.add(READY)
        with start_writer(url, 1, 120) as writer:
            assert writer.stdout is not None
            reading = asyncio.create_task(keep_reading(store))
            while line := await asyncio.to_thread(writer.stdout.readline):
                asset = store.peek(READY.id) or await read(store, READY.id)
                assert asset is not None
                assert (asset.revoked_at or 0) >= int(line)
            reading.cancel()
        assert writer.returncode == 0


async def keep_reading(store: Metadata) -> None:
    """Have the memory filled all the time, so that it may be wrong."""
    while True:
        await read(store, READY.id)
        await asyncio.sleep(0)


@pytest.mark.parametrize(("dies", "revoked"), [("_intend", None), ("_settle", 1)])
async def test_a_writer_killed_around_its_commit_leaves_no_old_memory(
    tmp_path: Path, dies: str, revoked: int | None
) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with remembering(url) as store:
        await store.add(READY)
        assert await read(store, READY.id) == READY
        with start_writer(url, 1, 2, dies) as writer:
            assert await asyncio.to_thread(writer.wait) == -signal.SIGKILL
        asset = await read(store, READY.id)
        assert asset is not None
        assert asset.revoked_at == revoked
        # The next writer, of anything, ends the distrust that the dead one left.
        await store.add(an_asset("asset-new1"))
        assert await read(store, READY.id) == asset
        assert store.peek(READY.id) == asset


async def test_writers_killed_anywhere_leave_no_old_memory(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with remembering(url) as store, opened(url) as truth:
        await store.add(READY)
        reading = asyncio.create_task(keep_reading(store))
        for attempt in range(4):
            with start_writer(url, attempt * 1000 + 1, attempt * 1000 + 999) as writer:
                assert writer.stdout is not None
                for _ in range(attempt * 3 + 1):
                    await asyncio.to_thread(writer.stdout.readline)
                writer.kill()
            assert await read(store, READY.id) == await read(truth, READY.id)
        reading.cancel()
