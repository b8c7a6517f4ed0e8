"""An S3 server that fails behind the cache: a status before the first byte, a broken connection after it.

Never a wrong byte; and whatever it was, the same object is read whole afterwards: nothing torn was kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from gateway.errors import AssetgateError
from gateway.model import Asset
from tests.delivery.remote import SLICE
from tests.storage.faulty import DATA
from tests.storage.test_s3_reads import BROKEN, RIGHT, WRONG
from tests.support.cached import OWNER, OnS3, download, is_broken, on_s3
from tests.support.engines import LANES
from tests.support.raw import Answer, connected
from tests.support.s3_faults import Fault, answer_with, hang_after, raw, reset, reset_after

in_the_module = pytest.mark.asyncio(loop_scope="module")

WANTED: Final = range(SLICE, 4 * SLICE)  # whole slices, so that the server is asked for just these bytes
SPAN: Final = (*OWNER, ("Range", f"bytes={WANTED.start}-{WANTED.stop - 1}"))
FOR_GOOD: Final = [reset] * 100  # more than any read repeats
LATE: Final = 0.5  # seconds until a server that hangs is late; one that does not has to answer in them


def asserts_refusal(answer: Answer, status: int) -> None:
    """It says so in a problem of its own, and when to come again."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert answer.document["status"] == status
    assert int(answer.headers["Retry-After"]) > 0
    assert "ETag" not in answer.headers


def asserts_break(answer: Answer, data: bytes) -> None:
    """The connection ended in the middle of the right bytes."""
    assert answer.status in {200, 206}
    assert is_broken(answer)
    assert data.startswith(answer.body)


async def asserts_whole(faulty: OnS3, asset: Asset) -> None:
    for _ in range(2):  # fetched, and out of the slices
        assert (await download(faulty.gateway, asset.path)).body == DATA
    spanned = await download(faulty.gateway, asset.path, SPAN)
    assert (spanned.status, spanned.body) == (206, DATA[WANTED.start : WANTED.stop])
    assert faulty.torn(asset, DATA) == []


@in_the_module
@pytest.mark.parametrize("faults", RIGHT.values(), ids=RIGHT)
async def test_what_can_be_mended_gives_the_right_bytes(faulty: OnS3, faults: list[Fault]) -> None:
    asset = await faulty.asset(DATA)
    faulty.server.faults.extend(faults)
    answer = await download(faulty.gateway, asset.path, SPAN)
    assert (answer.status, answer.body) == (206, DATA[WANTED.start : WANTED.stop])
    await asserts_whole(faulty, asset)
    assert not faulty.server.faults


@in_the_module
@pytest.mark.parametrize(("error", "faults"), WRONG.values(), ids=WRONG)
async def test_what_cannot_be_mended_is_said_before_the_first_byte(
    faulty: OnS3, error: type[AssetgateError], faults: list[Fault]
) -> None:
    asset = await faulty.asset(DATA)
    faulty.server.faults.extend(faults)
    asserts_refusal(await download(faulty.gateway, asset.path, SPAN), error.status)
    assert not faulty.server.faults
    await asserts_whole(faulty, asset)


async def test_both_lanes_say_it_in_the_same_words(tmp_path: Path) -> None:
    said = []
    for lane in LANES:
        async with on_s3(lane, tmp_path / lane, attempts=1) as faulty:
            asset = await faulty.asset(DATA)
            faulty.server.faults.extend([answer_with(503)])
            answer = await download(faulty.gateway, asset.path)
            assert answer.status == 503
            unlike = {"X-Request-Id": "", "Date": ""}
            text = answer.body.decode().replace(answer.headers["X-Request-Id"], "")
            said.append(([(name, unlike.get(name, value)) for name, value in answer.headers.items()], text))
    assert said[0] == said[1]


@in_the_module
@pytest.mark.parametrize("faults", [faults for _, faults in BROKEN.values()], ids=BROKEN)
async def test_what_breaks_off_for_good_breaks_the_connection(faulty: OnS3, faults: list[Fault]) -> None:
    asset = await faulty.asset(DATA)
    faulty.server.faults.extend([*faults, *FOR_GOOD])  # else a fetch that begins anew may mend it
    asserts_break(await download(faulty.gateway, asset.path, SPAN), DATA[WANTED.start :])
    faulty.server.faults.clear()
    await asserts_whole(faulty, asset)


@in_the_module
async def test_all_who_wait_for_a_fetch_that_fails_are_told_so(faulty: OnS3) -> None:
    asset = await faulty.asset(DATA)
    faulty.server.faults.extend([reset_after(5_000)] * 1_000)
    starts = [*range(0, len(DATA), 15_000)]
    spans = [(*OWNER, ("Range", f"bytes={start}-")) for start in starts]
    answers = await asyncio.gather(*(download(faulty.gateway, asset.path, span) for span in spans))
    for start, answer in zip(starts, answers, strict=True):
        if answer.status != 206:
            asserts_refusal(answer, 503)
        else:
            assert answer.body == DATA[start:][: len(answer.body)]
    assert 0 < sum(map(is_broken, answers)) < len(answers)
    faulty.server.faults.clear()
    await asserts_whole(faulty, asset)


@in_the_module
async def test_a_server_that_stops_in_the_middle_of_a_download(faulty: OnS3) -> None:
    asset = await faulty.asset(DATA)
    faulty.server.faults.append(hang_after(150_000))
    async with connected(faulty.gateway.url) as connection:
        answer = await connection.head("GET", asset.path, OWNER)
        received = await connection.reader.readexactly(150_000)
        await faulty.server.stop()
        received += await connection.reader.read()
    assert answer.status == 200
    assert received == DATA[:150_000]
    asserts_refusal(await download(faulty.gateway, asset.path, (*OWNER, ("Range", "bytes=200000-"))), 503)
    # The two slices that came whole were kept, and need no server.
    kept = await download(faulty.gateway, asset.path, (*OWNER, ("Range", "bytes=60000-130000")))
    assert (kept.status, kept.body) == (206, DATA[60_000:130_001])
    asserts_break(await download(faulty.gateway, asset.path), DATA)
    await faulty.server.start()
    await asserts_whole(faulty, asset)


@pytest.fixture
async def hasty(lane: str, tmp_path: Path) -> AsyncIterator[OnS3]:
    async with on_s3(lane, tmp_path, answer_timeout=LATE, idle_timeout=LATE) as running:
        yield running


async def test_a_server_that_hangs_is_late_before_the_first_byte_and_breaks_the_connection_after_it(
    hasty: OnS3,
) -> None:
    asset = await hasty.asset(DATA)
    hasty.server.faults.extend([raw(b""), hang_after(100_000)])
    asserts_refusal(await download(hasty.gateway, asset.path), 504)
    answer = await download(hasty.gateway, asset.path)
    asserts_break(answer, DATA)
    assert len(answer.body) == 100_000
    await asserts_whole(hasty, asset)
