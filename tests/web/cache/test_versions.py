"""Objects that are replaced under their key while they are read: nobody ever gets bytes of two versions."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from gateway.model import Asset
from gateway.storage import Stored
from tests.delivery.remote import SLICE, Remote, files_in
from tests.support.cached import OWNER, OnS3, asset_in, before, download, is_broken, record, replaced
from tests.support.gateway import Running
from tests.support.raw import Answer, connected
from tests.support.s3_faults import Exchange, etag_of, reset_after
from tests.support.storage import content

in_the_module = pytest.mark.asyncio(loop_scope="module")

SIZE: Final = 5 * SLICE + 77
OLD: Final = content("old", SIZE)
READERS: Final = 8
READS: Final = 40  # of each reader
OTHERS: Final = {"as long": OLD[::-1], "longer": content("longer", SIZE + SLICE), "shorter": content("shorter", SLICE)}


def spanning(first: int, last: int) -> tuple[tuple[str, str], ...]:
    return (*OWNER, ("Range", f"bytes={first}-{last}"))


async def overwrite(faulty: OnS3, asset: Asset, data: bytes) -> None:
    """Replace the object, and have the record tell of it."""
    faulty.server.objects[asset.object_key] = data
    await replaced(faulty.gateway, asset, etag_of(data), data)


@in_the_module
@pytest.mark.parametrize("new", OTHERS.values(), ids=OTHERS)
async def test_an_object_replaced_between_two_reads_breaks_off_where_its_slices_end(faulty: OnS3, new: bytes) -> None:
    """Two slices of the old one are there: nobody who asks for the new one gets them, or more of it behind them."""
    asset = await faulty.asset(OLD)
    assert (await download(faulty.gateway, asset.path, spanning(0, 2 * SLICE - 1))).body == OLD[: 2 * SLICE]
    faulty.server.objects[asset.object_key] = new
    broken = await download(faulty.gateway, asset.path)
    assert (broken.status, broken.body) == (200, OLD[: 2 * SLICE])
    assert (await download(faulty.gateway, asset.path, spanning(2 * SLICE, SIZE - 1))).status == 502
    assert (await download(faulty.gateway, asset.path, spanning(9, SLICE + 9))).body == OLD[9 : SLICE + 10]
    old_etag = broken.headers["ETag"]
    await replaced(faulty.gateway, asset, etag_of(new), new)
    for lines in (OWNER, OWNER, (*OWNER, ("If-None-Match", old_etag)), (*spanning(5, 9), ("If-Range", old_etag))):
        answer = await download(faulty.gateway, asset.path, lines)
        assert (answer.status, answer.body) == (200, new)
    assert (await download(faulty.gateway, asset.path, spanning(9, SLICE - 1))).body == new[9:SLICE]


@in_the_module
@pytest.mark.parametrize("new", OTHERS.values(), ids=OTHERS)
async def test_an_object_replaced_under_way_breaks_the_connection(faulty: OnS3, new: bytes) -> None:
    asset = await faulty.asset(OLD)

    async def replace_under_way(exchange: Exchange) -> None:
        await reset_after(100_000)(exchange)
        faulty.server.objects[asset.object_key] = new

    faulty.server.faults.append(replace_under_way)
    answer = await download(faulty.gateway, asset.path)
    assert answer.status == 200
    assert is_broken(answer)
    assert answer.body == OLD[: len(answer.body)]
    await replaced(faulty.gateway, asset, etag_of(new), new)
    for _ in range(2):
        assert (await download(faulty.gateway, asset.path)).body == new


@in_the_module
@pytest.mark.parametrize("new", OTHERS.values(), ids=OTHERS)
async def test_old_and_new_are_read_side_by_side(faulty: OnS3, new: bytes) -> None:
    """A download of the old one is under way, and ends as such: the server goes on with what it began to send."""
    asset, go_on = await faulty.asset(OLD), asyncio.Event()

    async def hold(exchange: Exchange) -> None:
        await exchange.send(exchange.answer() + exchange.wanted[:100_000])
        await go_on.wait()
        await exchange.send(exchange.wanted[100_000:])

    faulty.server.faults.append(hold)
    async with connected(faulty.gateway.url) as connection:
        await connection.head("GET", asset.path, OWNER)
        received = await connection.reader.readexactly(100_000)
        await overwrite(faulty, asset, new)
        try:
            answers = [await download(faulty.gateway, asset.path) for _ in range(2)]
        finally:
            go_on.set()
        received += await connection.reader.readexactly(SIZE - 100_000)
    assert received == OLD
    answers.append(await download(faulty.gateway, asset.path))
    assert [answer.body for answer in answers] == [new] * 3


async def test_an_asset_of_no_known_version_is_read_anew_each_time(lane: str, tmp_path: Path) -> None:
    remote = Remote()
    async with before(remote, lane, tmp_path) as gateway:
        stored = remote.keep("ab/unversioned", OLD)
        asset = await record(gateway, Stored(stored.key, SIZE, "", 0.0), OLD)
        for data in (OLD, OLD[::-1]):
            remote.keep("ab/unversioned", data)
            for _ in range(2):
                assert (await download(gateway, asset.path)).body == data
    assert files_in(tmp_path) == []


class Story(NamedTuple):
    """An asset whose object is replaced again and again, and what its readers were answered."""

    remote: Remote
    gateway: Running
    asset: Asset
    versions: dict[str, bytes]  # by ETag
    seen: Counter[str]

    async def read(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - it is to be the same each time
        for count in range(READS):
            first, last = sorted(chance.randrange(3 * SLICE) for _ in range(2))
            answer = await download(self.gateway, self.asset.path, chance.choice([OWNER, spanning(first, last)]))
            self.judge(answer)
            if not number and not count % 2:
                await self.replace()

    def judge(self, answer: Answer) -> None:
        if answer.status == 502:
            self.seen["refused"] += 1
            return
        etag, span = answer.headers["ETag"], answer.headers.get("Content-Range", "bytes 0-")
        first = int(span[6:].partition("-")[0])
        assert answer.body == self.versions[etag][first:][: len(answer.body)]
        self.seen["broken" if is_broken(answer) else etag] += 1

    async def replace(self) -> None:
        number = len(self.versions)
        data = content(f"version {number}", 3 * SLICE + number % 3 * SLICE // 2)
        stored = self.remote.keep(self.asset.object_key, data)
        await asyncio.sleep(0)  # for a turn of the loop the record tells of what is no more
        self.versions[f'"{hashlib.sha256(data).hexdigest()}"'] = data
        await replaced(self.gateway, self.asset, stored.version, data)


@pytest.mark.parametrize("max_bytes", [1024 * SLICE, 3 * SLICE], ids=["with room for all", "while it evicts"])
async def test_whoever_reads_while_an_object_is_replaced_again_and_again_gets_one_version(
    lane: str, max_bytes: int, tmp_path: Path
) -> None:
    remote = Remote()
    async with before(remote, lane, tmp_path, max_bytes=max_bytes) as gateway:
        asset = await asset_in(remote, gateway, OLD)
        story = Story(remote, gateway, asset, {asset.etag: OLD}, Counter())
        await asyncio.gather(*map(story.read, range(READERS)))
        last = list(story.versions.values())[-1]
        assert (await download(gateway, asset.path)).body == last
    # Of most versions somebody got bytes.
    assert len(story.seen) > len(story.versions) // 2 > 9
