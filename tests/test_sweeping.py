from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.app import Gateway, build
from gateway.clock import milliseconds
from gateway.model import Asset, object_key_of
from gateway.storage import Stored
from gateway.sweeping import PAGE, Sweeper, merge
from policies.model import State, Visibility
from tests.support.gateway import PNG, MovableClock, Running, guest_headers, running, settings_for, user_headers
from tests.support.storage import put

DAY = 24 * 3600.0  # seconds
IMAGE = ("purpose", "reference_image")
Item = TypeVar("Item")


@pytest.fixture(params=["memory", "files"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(folder=tmp_path if request.param == "files" else None) as started:
        yield started


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(folder=tmp_path) as started:
        yield started


async def reading(gateway: Running, asset_id: str, headers: dict[str, str]) -> tuple[int, str | None]:
    """The status of a read, and the error if it is one."""
    async with gateway.client.get(f"/api/storage/assets/{asset_id}", headers=headers) as response:
        return response.status, None if response.status == 200 else (await response.json())["error"]


async def guest_upload(gateway: Running) -> tuple[str, dict[str, str]]:
    response = await gateway.upload(IMAGE, ("files", "a.png", PNG))
    return (await response.json())["data"]["assetId"], guest_headers(response)


def a_record(parts: Gateway, number: int, **facts: object) -> Asset:
    now = milliseconds(parts.clock())
    asset_id = f"{number:04x}-of-the-tests"
    usual: dict[str, object] = {
        "id": asset_id,
        "owner": "user:u_1",
        "visibility": Visibility.PRIVATE,
        "purpose": "reference_image",
        "source": "upload",
        "state": State.READY,
        "media_type": "image/png",
        "size": len(PNG),
        "sha256": "",
        "object_key": object_key_of(asset_id),
        "created_at": now,
        "updated_at": now,
    }
    return Asset(**(usual | facts))  # type: ignore[arg-type]  # a test names the facts it cares for


async def keep(parts: Gateway, *records: Asset) -> None:
    """Add records with their objects."""
    for record in records:
        await parts.metadata.add(record)
        await put(parts.storage, record.object_key, PNG)


class TestTheLifeOfAnAsset:
    async def test_what_a_guest_sent_goes_when_it_expires(self, gateway: Running) -> None:
        asset_id, guest = await guest_upload(gateway)
        gateway.clock.move(DAY - 1)
        assert (await gateway.parts.sweeper.sweep()).expired == 0
        assert await reading(gateway, asset_id, guest) == (200, None)
        gateway.clock.move(1)
        report = await gateway.parts.sweeper.sweep()
        assert (report.expired, report.removed) == (1, 1)
        assert (await gateway.objects(), await gateway.records()) == ([], [])

    async def test_what_was_deleted_goes_with_the_next_sweep(self, gateway: Running) -> None:
        asset_id, other = await gateway.asset(), await gateway.asset()
        async with gateway.client.delete(f"/api/storage/assets/{asset_id}", headers=user_headers()) as response:
            assert response.status == 200
        assert await reading(gateway, asset_id, user_headers()) == (410, "asset_deleted")
        assert len(await gateway.objects()) == 2
        assert (await gateway.parts.sweeper.sweep()).removed == 1
        assert await gateway.records() == [other]
        assert await reading(gateway, other, user_headers()) == (200, None)
        assert (await gateway.parts.sweeper.sweep()).removed == 0

    async def test_an_owner_is_told_for_a_month_and_then_it_is_forgotten(self, tmp_path: Path) -> None:
        async with running({"records.remember_for": "0s"}, folder=tmp_path) as gateway:
            asset_id = await gateway.asset()
            async with gateway.client.delete(f"/api/storage/assets/{asset_id}", headers=user_headers()) as response:
                assert response.status == 200
            for days, forgotten, told in ((29, 0, (410, "asset_deleted")), (1.1, 1, (404, "not_found"))):
                gateway.clock.move(days * DAY)
                assert (await gateway.parts.sweeper.sweep()).forgotten == forgotten
                assert await reading(gateway, asset_id, user_headers()) == told

    async def test_what_was_claimed_outlives_the_guest(self, gateway: Running) -> None:
        asset_id, guest = await guest_upload(gateway)
        both = {**guest, **user_headers()}
        async with gateway.client.post("/api/storage/assets/claim", headers=both) as response:
            assert (await response.json())["data"]["assetIds"] == [asset_id]
        gateway.clock.move(40 * DAY)
        report = await gateway.parts.sweeper.sweep()
        assert (report.expired, report.removed, report.forgotten) == (0, 0, 0)
        assert await reading(gateway, asset_id, user_headers()) == (200, None)

    async def test_an_abandoned_upload_goes_with_its_bytes(self, gateway: Running) -> None:
        parts = gateway.parts
        await keep(parts, a_record(parts, 1, state=State.PENDING))
        await parts.metadata.add(a_record(parts, 2, state=State.PENDING))  # killed before there were bytes
        gateway.clock.move(DAY)
        assert (await parts.sweeper.sweep()).abandoned == 0
        gateway.clock.move(1)
        report = await parts.sweeper.sweep()
        assert (report.abandoned, report.removed) == (2, 2)
        assert (await gateway.objects(), await gateway.records()) == ([], [])

    async def test_a_draft_that_nobody_finished_goes(self, files: Running, tmp_path: Path) -> None:
        drafts = tmp_path / "objects/.tmp"
        for name, age in (("old", DAY + 1), ("young", DAY - 1)):
            make_draft(drafts / name, files.clock() - age)
        assert (await files.parts.sweeper.sweep()).unfinished == 1
        assert names_in(drafts) == ["young"]

    async def test_one_sweep_does_all_however_many_there_are(self, gateway: Running) -> None:
        parts, count = gateway.parts, 2 * PAGE + 1
        expiring = [a_record(parts, number, expires_at=milliseconds(gateway.clock())) for number in range(count)]
        await keep(parts, *expiring)
        report = await parts.sweeper.sweep()
        assert (report.expired, report.removed) == (count, count)
        assert (await gateway.objects(), await gateway.records()) == ([], [])


def make_draft(path: Path, modified: float) -> None:
    path.touch()
    os.utime(path, (modified, modified))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestOrphans:
    @pytest.mark.parametrize(("gateway", "count"), [("memory", 5000), ("files", 1200)], indirect=["gateway"])
    async def test_both_sides_are_found_among_thousands_and_mended(self, gateway: Running, count: int) -> None:
        parts, chance = gateway.parts, random.Random(7)  # noqa: S311 - the same ones each time
        expected: dict[str, list[str]] = {"strays": [], "lost": []}
        for number in range(count):
            record = a_record(parts, number)
            fate = chance.random()
            if fate > 0.02:
                await parts.metadata.add(record)
            if not 0.02 < fate < 0.04:
                await put(parts.storage, record.object_key, PNG)
            if fate < 0.02:
                expected["strays"].append(record.object_key)
            elif fate < 0.04:
                expected["lost"].append(record.id)
        gateway.clock.move(DAY + 1)
        for remove in (False, True):
            found = await parts.sweeper.orphans(remove=remove)
            assert (found.strays, found.lost) == (sorted(expected["strays"]), sorted(expected["lost"]))
            assert found.removed == (len(expected["strays"]) if remove else 0)
        clean = await parts.sweeper.orphans(remove=True)
        kept = count - len(expected["strays"]) - len(expected["lost"])
        assert (clean.strays, clean.lost, clean.objects, clean.records) == ([], [], kept, kept)

    async def test_an_object_whose_record_is_on_its_way_is_no_stray(self, gateway: Running) -> None:
        await put(gateway.parts.storage, "ab/abcdefgh", PNG)
        gateway.clock.move(DAY)
        assert (await gateway.parts.sweeper.orphans(remove=True)).strays == []
        gateway.clock.move(1)
        assert (await gateway.parts.sweeper.orphans(remove=True)).strays == ["ab/abcdefgh"]
        assert await gateway.objects() == []

    async def test_a_record_whose_upload_is_under_way_is_not_lost(self, gateway: Running) -> None:
        await gateway.parts.metadata.add(a_record(gateway.parts, 1, state=State.PENDING))
        found = await gateway.parts.sweeper.orphans(remove=True)
        assert (found.lost, found.records) == ([], 1)
        assert len(await gateway.records()) == 1

    async def test_an_owner_is_told_that_what_was_lost_is_gone(self, gateway: Running) -> None:
        asset_id = await gateway.asset()
        await gateway.parts.storage.delete(await gateway.objects())
        assert (await gateway.parts.sweeper.orphans(remove=True)).lost == [asset_id]
        assert await reading(gateway, asset_id, user_headers()) == (410, "asset_deleted")

    async def test_an_object_that_two_records_share_is_compared_once(self, gateway: Running) -> None:
        parts = gateway.parts
        first, other = a_record(parts, 1), a_record(parts, 2)
        await keep(parts, first)
        await parts.metadata.add(a_record(parts, 3, object_key=first.object_key))
        await keep(parts, other)
        gateway.clock.move(2 * DAY)
        found = await parts.sweeper.orphans(remove=True)
        assert (found.strays, found.lost, found.objects) == ([], [], 2)

    async def test_progress_is_shown_while_all_is_well(self, gateway: Running) -> None:
        await keep(gateway.parts, *(a_record(gateway.parts, number) for number in range(2 * PAGE)))
        told: list[tuple[str, int]] = []
        await gateway.parts.sweeper.orphans(remove=False, progress=lambda what, count: told.append((what, count)))
        assert [count for _, count in told] == [PAGE, 2 * PAGE, 2 * PAGE]

    async def test_more_than_a_report_can_name_are_counted(self, gateway: Running) -> None:
        for number in range(1100):
            await put(gateway.parts.storage, f"ab/stray-{number:04}", b"")
        gateway.clock.move(2 * DAY)
        found = await gateway.parts.sweeper.orphans(remove=True)
        assert (len(found.strays), found.stray_count, found.removed) == (1000, 1100, 1100)


KEYS = st.lists(st.text("ab/\u00e9\uffff\U0001f99c-", max_size=4), max_size=30)


async def streamed(items: Sequence[Item], taken: list[int]) -> AsyncIterator[Item]:
    for item in items:
        taken[0] += 1
        yield item


class TestMerge:
    @given(objects=KEYS, records=KEYS)
    @settings(max_examples=200, deadline=None)
    def test_it_finds_what_a_comparison_of_sets_finds(self, objects: list[str], records: list[str]) -> None:
        asyncio.run(self._compare(sorted(set(objects), key=str.encode), sorted(records, key=str.encode)))

    async def _compare(self, objects: list[str], records: list[str]) -> None:
        taken, noted, seen = [0], [0], 0
        strays, lost, both = [], [], []
        stored = [Stored(key, 1, "", 0.0) for key in objects]
        rows = [(key, str(number), State.READY) for number, key in enumerate(records)]
        async for item, record in merge(streamed(stored, taken), streamed(rows, noted)):
            seen += 1
            assert taken[0] <= seen + 1, "it reads ahead"
            if record is None:
                assert item is not None
                strays.append(item.key)
            elif item is None:
                lost.append(record[0])
            else:
                assert item.key == record[0]
                both.append(item.key)
        assert strays == [key for key in objects if key not in set(records)]
        assert lost == [key for key in records if key not in set(objects)]
        assert both == [key for key in objects if key in set(records)]


class TestAtOnce:
    async def test_several_sweepers_do_no_harm(self, tmp_path: Path) -> None:
        clock = MovableClock()
        async with built(tmp_path, clock) as first, built(tmp_path, clock) as second, built(tmp_path, clock) as third:
            expiring = [a_record(first, number, expires_at=milliseconds(clock())) for number in range(PAGE + 50)]
            staying = [a_record(first, 1000 + number) for number in range(20)]
            await keep(first, *expiring, *staying)
            reports = await asyncio.gather(*(parts.sweeper.sweep() for parts in (first, second, third) * 2))
            assert sum(report.expired for report in reports) == len(expiring)
            assert [stored.key async for stored in first.storage.list()] == [one.object_key for one in staying]
            found = await first.metadata.get([one.id for one in (*expiring, *staying)])
            assert {one.state for one in found.values() if not one.stored} == {State.EXPIRED}
            assert sorted(one.id for one in found.values() if one.stored) == [one.id for one in staying]

    @pytest.mark.parametrize("seed", range(8))
    async def test_a_claim_and_a_sweep_at_the_last_moment_never_share_an_asset(self, tmp_path: Path, seed: int) -> None:
        clock, chance = MovableClock(), random.Random(seed)  # noqa: S311 - the same moments each time
        async with built(tmp_path, clock) as ours, built(tmp_path, clock) as theirs:
            end = milliseconds(clock()) + 1
            uploads = [a_record(ours, number, owner=f"guest:{number % 5}", expires_at=end) for number in range(60)]
            await keep(ours, *uploads)
            clock.move(0.001)  # expired for the sweeper, and not yet when the claims were made

            async def claim(number: int) -> list[str]:
                await asyncio.sleep(chance.random() * 0.02)
                return await theirs.metadata.claim(f"guest:{number}", "user:u_1", end - 1)

            claims, report = await asyncio.gather(
                asyncio.gather(*(claim(number) for number in range(5))), ours.sweeper.sweep()
            )
            claimed = {asset_id for ids in claims for asset_id in ids}
            assert len(claimed) + report.expired == len(uploads)
            objects = {stored.key async for stored in ours.storage.list()}
            for asset in (await ours.metadata.get([one.id for one in uploads])).values():
                if asset.id in claimed:
                    assert (asset.owner, asset.state, asset.expires_at) == ("user:u_1", State.READY, None)
                else:
                    assert asset.state is State.EXPIRED
                assert (asset.object_key in objects) == (asset.id in claimed)


@asynccontextmanager
async def built(folder: Path, clock: MovableClock) -> AsyncIterator[Gateway]:
    """One more node on the same records and objects."""
    async with build(settings_for(folder), clock) as parts:
        await parts.metadata.upgrade()
        yield parts


class TestRunning:
    async def test_trouble_is_told_and_the_next_sweep_goes_on(
        self, files: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        await keep(files.parts, a_record(files.parts, 1, state=State.DELETED, deleted_at=0))
        drafts = tmp_path / "objects/.tmp"
        shutil.rmtree(drafts)
        for number in range(2):
            await run_once(files.parts.sweeper)
            drafts.mkdir(exist_ok=True)
            assert ("the sweep stopped early" in caplog.text) == (number == 0)
            caplog.clear()
        assert await files.objects() == []

    async def test_what_nobody_thought_of_does_not_end_it(
        self, gateway: Running, caplog: pytest.LogCaptureFixture
    ) -> None:
        moments = iter([1.0])  # after the first, the clock is broken
        parts = gateway.parts
        await run_once(Sweeper(parts.metadata, parts.storage, parts.settings.sweep, lambda: next(moments)))
        assert [r.levelno for r in caplog.records if r.name.startswith("assetgate.")] == [logging.ERROR]

    async def test_the_comparison_runs_once_a_day_and_removes_nothing(
        self, gateway: Running, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        await put(gateway.parts.storage, "ab/abcdefgh", PNG)

        async def an_hour(_: float) -> None:
            gateway.clock.move(3600)
            if gateway.clock() > begin + 50 * 3600:
                raise asyncio.CancelledError

        begin = gateway.clock()
        with pytest.raises(asyncio.CancelledError):
            await gateway.parts.sweeper.run(an_hour)
        told = [record.getMessage() for record in caplog.records if "compared" in record.getMessage()]
        assert told == ["compared 1 objects, 0 strays, 0 lost", "compared 1 objects, 1 strays, 0 lost"]
        assert await gateway.objects() == ["ab/abcdefgh"]


async def run_once(sweeper: Sweeper) -> None:
    """Let the sweeper run for one interval."""
    intervals = iter([True])

    async def sleep(_: float) -> None:
        if not next(intervals, False):
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await sweeper.run(sleep)
