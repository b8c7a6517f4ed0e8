"""What the memory of records keeps, for how long, and what makes it forget."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.errors import RecordsFault, RecordsTimeout, RecordsUnavailable, Unavailable
from gateway.metadata import Metadata
from policies.model import State
from tests.metadata.waiting import until
from tests.metadata.watched import HandClock, watched
from tests.support.metadata import GUEST, NOW, OWNER, add_all, an_asset, numbered, read

ASSET = an_asset(owner=GUEST)


@pytest.fixture
def steady() -> HandClock:
    return HandClock()


async def test_a_record_is_read_once_until_its_life_ends(steady: HandClock) -> None:
    async with watched(steady, RECORDS_REMEMBER_FOR="60s") as (store, driver):
        await store.add(ASSET)
        assert store.peek(ASSET.id) is None
        for passed in (0, 30, 29.9):
            steady.now += passed
            assert await read(store, ASSET.id) == ASSET
            assert store.peek(ASSET.id) == ASSET
        assert driver.fetched == 1
        steady.now += 0.1
        assert store.peek(ASSET.id) is None
        assert await read(store, ASSET.id) == ASSET
        assert driver.fetched == 2


async def test_where_changes_are_not_told_a_life_is_short(steady: HandClock) -> None:
    settings = {"RECORDS_REMEMBER_FOR": "60s", "RECORDS_UNANNOUNCED_FOR": "2s"}
    async with watched(steady, lasting=False, **settings) as (store, _):
        await store.add(ASSET)
        await read(store, ASSET.id)
        steady.now += 1.9
        assert store.peek(ASSET.id)
        steady.now += 0.1
        assert store.peek(ASSET.id) is None


async def settled() -> None:
    """Wait for the look-ups under way, and for what they do at their end."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    await asyncio.sleep(0)


async def test_what_is_in_use_is_renewed_before_it_ends_and_stays_the_same_object(steady: HandClock) -> None:
    async with watched(steady, RECORDS_REMEMBER_FOR="60s") as (store, driver):
        await store.add(ASSET)
        asset = await read(store, ASSET.id)
        steady.now += 47
        assert store.peek(ASSET.id) is asset
        await asyncio.sleep(0)
        assert driver.fetched == 1
        for lived in range(2, 5):
            steady.now += 6
            for _ in range(3):
                assert store.peek(ASSET.id) is asset
            await settled()
            assert driver.fetched == lived
            steady.now += 47
            assert store.peek(ASSET.id) is asset
        steady.now += 60
        assert store.peek(ASSET.id) is None


async def test_a_renewal_that_fails_is_tried_once_and_one_that_a_change_overtook_is_not_kept(steady: HandClock) -> None:
    async with watched(steady, RECORDS_REMEMBER_FOR="60s") as (store, driver):
        await store.add(ASSET)
        await read(store, ASSET.id)
        steady.now += 50
        driver.trouble = RecordsUnavailable()
        assert store.peek(ASSET.id) == ASSET
        for _ in range(3):
            await settled()
            assert store.peek(ASSET.id) == ASSET
        assert driver.fetched == 2
        steady.now += 10
        assert store.peek(ASSET.id) is None
        driver.trouble = None
        await read(store, ASSET.id)
        steady.now += 50
        driver.go_on.clear()
        assert store.peek(ASSET.id) == ASSET
        await until(lambda: driver.fetched == 4)
        await store.revoke(ASSET.id, 5)
        driver.go_on.set()
        await settled()
        assert store.peek(ASSET.id) is None
        found = await read(store, ASSET.id)
        assert found is not None
        assert found.revoked_at == 5


async def test_that_an_asset_is_not_there_is_remembered_for_a_moment(steady: HandClock) -> None:
    async with watched(steady, RECORDS_ABSENT_FOR="1s") as (store, driver):
        for _ in range(3):
            assert await read(store, ASSET.id) is None
        assert driver.fetched == 1
        steady.now += 1
        assert await read(store, ASSET.id) is None
        assert driver.fetched == 2
        await store.add(ASSET)
        assert await read(store, ASSET.id) == ASSET


async def test_a_life_begins_when_the_look_up_begins(steady: HandClock) -> None:
    async with watched(steady, RECORDS_REMEMBER_FOR="60s") as (store, driver):
        await store.add(ASSET)
        driver.go_on.clear()
        reading = asyncio.create_task(read(store, ASSET.id))
        await asyncio.sleep(0)
        steady.now += 60
        driver.go_on.set()
        assert await reading == ASSET
        assert store.peek(ASSET.id) is None


async def test_those_who_ask_at_once_share_a_look_up_and_one_who_leaves_takes_nobody_along(steady: HandClock) -> None:
    async with watched(steady) as (store, driver):
        await store.add(ASSET)
        driver.go_on.clear()
        readers = [asyncio.create_task(read(store, ASSET.id)) for _ in range(50)]
        await asyncio.sleep(0)
        readers[0].cancel()
        driver.go_on.set()
        answers = await asyncio.gather(*readers, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1:] == [ASSET] * 49
        assert driver.fetched == 1


async def test_a_look_up_of_many_asks_only_for_what_is_not_known(steady: HandClock) -> None:
    async with watched(steady) as (store, driver):
        assets = numbered(10)
        await add_all(store, *assets)
        ids = [asset.id for asset in assets]
        driver.go_on.clear()
        first = asyncio.create_task(store.get(ids[:5]))
        second = asyncio.create_task(store.get([*ids[3:], "asset-none", ids[9]]))
        await asyncio.sleep(0)
        driver.go_on.set()
        assert list(await first) == ids[:5]
        assert await second == {asset.id: asset for asset in assets[3:]}
        assert driver.fetched == 2
        assert list((await store.get(ids)).values()) == assets
        assert driver.fetched == 2


async def test_what_was_read_before_a_change_is_neither_kept_nor_told_to_those_who_ask_after_it(
    steady: HandClock,
) -> None:
    async with watched(steady) as (store, driver):
        await store.add(ASSET)
        driver.go_on.clear()
        early = asyncio.create_task(read(store, ASSET.id))
        await until(lambda: driver.fetched)
        await asyncio.sleep(0.01)  # the row is read by now, and held back
        await store.revoke(ASSET.id, 5)
        late = asyncio.create_task(read(store, ASSET.id))
        await asyncio.sleep(0)
        driver.go_on.set()
        assert await early == ASSET
        after = await late
        assert after is not None
        assert after.revoked_at == 5
        assert store.peek(ASSET.id) == after


Write = Callable[[Metadata], Awaitable[object]]
WRITES: list[Write] = [
    lambda store: store.change(ASSET.id, {"filename": "new"}, State.READY),
    lambda store: store.revoke(ASSET.id, 9),
    lambda store: store.claim(GUEST, OWNER, NOW),
    lambda store: store.expire(NOW + 10, 0, 10),
]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("trouble", [None, RecordsTimeout()])
async def test_a_write_of_our_own_is_seen_at_once_though_its_answer_was_lost(
    steady: HandClock, write: Write, trouble: Unavailable | None
) -> None:
    asset = an_asset(owner=GUEST, expires_at=NOW + 5)
    async with watched(steady, lasting=False) as (store, driver):
        await store.add(asset)
        await read(store, asset.id)
        driver.trouble = trouble
        answers = await asyncio.gather(write(store), return_exceptions=True)
        assert isinstance(answers[0], RecordsTimeout) is (trouble is not None)
        driver.trouble = None
        assert store.peek(asset.id) is None
        assert await read(store, asset.id) != asset


async def test_memory_is_bounded_and_keeps_what_is_in_use(steady: HandClock) -> None:
    async with watched(steady, RECORDS_REMEMBER="100") as (store, driver):
        await store.add(ASSET)
        await read(store, ASSET.id)
        for n in range(1000):
            await read(store, f"asset-none-{n}")
            assert store.peek(ASSET.id) == ASSET
        assert driver.fetched == 1001
        await read(store, "asset-none-999")
        assert driver.fetched == 1001
        await read(store, "asset-none-0")
        assert driver.fetched == 1002


async def test_a_memory_of_nothing_reads_every_time(steady: HandClock) -> None:
    async with watched(steady, RECORDS_REMEMBER="0") as (store, driver):
        await store.add(ASSET)
        for n in range(1, 4):
            assert await read(store, ASSET.id) == ASSET
            assert driver.fetched == n
        assert store.peek(ASSET.id) is None


async def test_who_remembers_what_was_made_of_a_record_sees_that_it_changed(steady: HandClock) -> None:
    async with watched(steady) as (store, _):
        await store.add(ASSET)
        asset = await read(store, ASSET.id)
        assert store.peek(ASSET.id) is asset
        await store.claim(GUEST, OWNER, NOW)
        assert store.peek(ASSET.id) is None
        assert store.current()


AWAY = [(RecordsUnavailable(), True), (RecordsTimeout(), True), (RecordsFault(), False)]


@pytest.mark.parametrize(("trouble", "goes_on"), AWAY)
async def test_reads_go_on_without_the_records_as_far_as_the_settings_allow(
    steady: HandClock, trouble: Unavailable, goes_on: bool
) -> None:
    async with watched(steady, RECORDS_REMEMBER_FOR="60s", RECORDS_STALE_FOR="30s") as (store, driver):
        await add_all(store, ASSET, an_asset("asset-other"))
        await store.get([ASSET.id, "asset-none"])
        driver.trouble = trouble
        steady.now += 89.9
        if goes_on:
            assert await read(store, ASSET.id) == ASSET
        for ids in ([ASSET.id, "asset-other"], ["asset-none"]):  # what is not known is not guessed
            with pytest.raises(type(trouble)):
                await store.get(ids)
        steady.now += 0.1
        with pytest.raises(type(trouble)):
            await read(store, ASSET.id)


async def test_reads_stop_with_the_records_unless_the_settings_say_otherwise(steady: HandClock) -> None:
    async with watched(steady, RECORDS_REMEMBER_FOR="60s") as (store, driver):
        await store.add(ASSET)
        await read(store, ASSET.id)
        driver.trouble = RecordsUnavailable()
        steady.now += 59
        assert await read(store, ASSET.id) == ASSET
        steady.now += 1
        with pytest.raises(RecordsUnavailable):
            await read(store, ASSET.id)


async def test_a_look_up_that_failed_is_not_remembered(steady: HandClock) -> None:
    async with watched(steady) as (store, driver):
        await store.add(ASSET)
        driver.trouble = RecordsFault()
        with pytest.raises(RecordsFault):
            await read(store, ASSET.id)
        driver.trouble = None
        assert await read(store, ASSET.id) == ASSET
