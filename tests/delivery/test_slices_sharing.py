"""Many readers, few fetches: who waits for whom, who is held up by nobody, and what is left when they go."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.delivery.slices import Slices
from gateway.errors import StorageUnavailable
from gateway.storage import Buffer
from policies.model import Grant
from tests.delivery.remote import MIB, SLICE, Remote, at_rest, files_in, object_in, parts_in, slices_over
from tests.support.storage import get

KEY = "ab/object"


async def is_read_whole(slices: Slices, grant: Grant, data: bytes) -> bool:
    """Read everything, and look at the ends of each piece: a thousand times all of it would take minutes."""
    at = 0
    async with slices.read(grant, range(len(data))) as buffers:
        async for buffer in buffers:
            end = at + len(buffer)
            if bytes(buffer[:16]) != data[at : at + 16] or bytes(buffer[-16:]) != data[end - 16 : end]:
                return False
            at = end
    return at == len(data)


async def test_a_thousand_readers_of_one_cold_video_fetch_each_slice_once(tmp_path: Path) -> None:
    remote = Remote(slice_bytes=MIB, step=256 * 1024)
    grant, data = object_in(remote, KEY, 64 * MIB)
    async with slices_over(remote, tmp_path, slice_bytes=MIB, read_ahead=4 * MIB, max_bytes=128 * MIB) as slices:
        outcomes = await asyncio.gather(*(is_read_whole(slices, grant, data) for _ in range(1000)))
    assert all(outcomes)
    assert remote.asked == [range(64 * MIB)]
    assert remote.fetched(KEY) == dict.fromkeys(range(64), MIB)


async def test_readers_at_other_places_fetch_no_slice_twice(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, 32 * SLICE)
    starts = [number * 5 * SLICE // 7 for number in range(40)]
    async with slices_over(remote, tmp_path) as slices:
        read = await asyncio.gather(*(get(slices, grant, range(start, len(data))) for start in starts))
    assert read == [data[start:] for start in starts]
    assert remote.fetched(KEY) == dict.fromkeys(range(32), SLICE)


async def test_the_first_bytes_go_out_before_the_slice_is_there_also_to_who_comes_late(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SLICE)
    remote.hold_at = SLICE // 2
    async with slices_over(remote, tmp_path) as slices, AsyncExitStack() as stack:
        for _ in range(2):
            buffers = await stack.enter_async_context(slices.read(grant, range(SLICE)))
            received = bytearray()
            async with asyncio.timeout(10):
                while len(received) < SLICE // 2:
                    received += await anext(buffers)
            assert received == data[: SLICE // 2]
        assert len(remote.asked) == 1


async def test_a_reader_that_leaves_ends_the_fetch_at_once_when_nobody_else_waits(tmp_path: Path) -> None:
    remote = Remote(slice_bytes=MIB)
    grant, _ = object_in(remote, KEY, 4 * MIB)
    async with slices_over(remote, tmp_path, slice_bytes=MIB) as slices:
        async with slices.read(grant, range(4 * MIB)) as buffers:
            await anext(buffers)
            assert remote.open == 1
        assert remote.open == 0
        assert files_in(tmp_path) == []


async def test_the_fetch_goes_on_for_who_stays(tmp_path: Path) -> None:
    remote = Remote(slice_bytes=MIB)
    grant, data = object_in(remote, KEY, 4 * MIB)
    async with slices_over(remote, tmp_path, slice_bytes=MIB) as slices:
        async with slices.read(grant, range(4 * MIB)) as buffers:
            await anext(buffers)
            staying = asyncio.create_task(get(slices, grant, range(4 * MIB)))
            await asyncio.sleep(0)
        assert await staying == data
    assert len(remote.asked) == 1


async def test_a_slice_that_is_nearly_there_is_finished_for_the_next_reader(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SLICE)
    async with slices_over(remote, tmp_path) as slices:
        async with slices.read(grant, range(SLICE)) as buffers:
            await anext(buffers)
        await at_rest(remote)
        assert await get(slices, grant, range(SLICE)) == data
    assert len(remote.asked) == 1


@pytest.mark.parametrize("admit_after", [1, 2])
async def test_a_slice_that_somebody_wanted_a_part_of_is_finished_and_no_other_is_begun(
    tmp_path: Path, admit_after: int
) -> None:
    remote = Remote(slice_bytes=MIB)
    grant, data = object_in(remote, KEY, 4 * MIB)
    async with slices_over(remote, tmp_path, slice_bytes=MIB, admit_after=admit_after) as slices:
        for start in (MIB + 100, MIB + 5000):
            assert await get(slices, grant, range(start, start + 10)) == data[start : start + 10]
            await at_rest(remote)
        assert slices.resident(grant, range(MIB, 2 * MIB)) is not None
    assert remote.asked == [range(MIB, 2 * MIB)]


async def test_a_slow_reader_is_not_fetched_ahead_of_without_bound_and_holds_no_connection(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, 64 * SLICE)
    async with slices_over(remote, tmp_path, patience=0.0, read_ahead=4 * SLICE) as slices:
        async with slices.read(grant, range(64 * SLICE)) as buffers:
            received = bytearray(await anext(buffers))
            await at_rest(remote)
            assert 5 <= len(remote.fetched(KEY)) <= 6
            async for buffer in buffers:
                received += buffer
        assert received == data
    assert set(remote.fetched(KEY)) == set(range(64))


async def test_a_slow_reader_holds_up_nobody(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, 64 * SLICE)
    async with slices_over(remote, tmp_path) as slices, slices.read(grant, range(64 * SLICE)) as slow:
        await anext(slow)
        async with asyncio.timeout(20):
            assert await get(slices, grant, range(64 * SLICE)) == data


async def test_a_failing_storage_fails_all_who_wait_and_leaves_nothing(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, 3 * SLICE)
    remote.fail_at = SLICE + 100
    async with slices_over(remote, tmp_path) as slices:
        outcomes = await asyncio.gather(
            *(get(slices, grant, range(3 * SLICE)) for _ in range(20)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {StorageUnavailable}
        assert parts_in(tmp_path) == []
        assert len(files_in(tmp_path)) == 1
        assert slices.resident(grant, range(SLICE, SLICE + 1)) is None
        remote.fail_at = None
        assert await get(slices, grant, range(3 * SLICE)) == data
    assert remote.asked[-1] == range(SLICE, 3 * SLICE)


async def test_who_asks_for_one_range_after_the_other_finds_the_next_one_fetched(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, 32 * SLICE)
    async with slices_over(remote, tmp_path, read_ahead=4 * SLICE) as slices:
        assert await get(slices, grant, range(SLICE)) == data[:SLICE]
        assert len(remote.fetched(KEY)) == 1
        assert await get(slices, grant, range(SLICE, 2 * SLICE)) == data[SLICE : 2 * SLICE]
        async with asyncio.timeout(10):
            while set(remote.fetched(KEY)) < set(range(6)):  # noqa: ASYNC110 - as in `at_rest`
                await asyncio.sleep(0)
        await at_rest(remote)
        assert set(remote.fetched(KEY)) == set(range(6))


async def test_a_jump_is_not_read_ahead_of(tmp_path: Path) -> None:
    remote = Remote()
    grant, _ = object_in(remote, KEY, 32 * SLICE)
    async with slices_over(remote, tmp_path) as slices:
        for index in (3, 17, 9):
            await get(slices, grant, range(index * SLICE, (index + 1) * SLICE))
        await at_rest(remote)
        assert set(remote.fetched(KEY)) == {3, 17, 9}


async def _read_some(slices: Slices, grant: Grant, size: int) -> None:
    async with slices.read(grant, range(size)) as buffers:
        await _take(buffers, 3)


async def _take(buffers: AsyncIterator[Buffer], count: int) -> None:
    async for _ in buffers:
        count -= 1
        if not count:
            return


def _descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21, 34])
async def test_a_reader_cancelled_at_any_moment_leaves_no_task_descriptor_or_part(tmp_path: Path, turns: int) -> None:
    remote = Remote(slice_bytes=MIB)
    grant, data = object_in(remote, KEY, 4 * MIB)
    async with slices_over(remote, tmp_path, slice_bytes=MIB) as slices:
        await asyncio.to_thread(int)  # its thread is none of ours
        before = _descriptors(), len(asyncio.all_tasks())
        for _ in range(5):
            task = asyncio.create_task(get(slices, grant, range(4 * MIB)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        del task  # what it was cancelled with holds its frames
        await at_rest(remote)
        await slices.delete([KEY])
        assert (_descriptors(), len(asyncio.all_tasks())) == before
        assert files_in(tmp_path) == []
        again, _ = object_in(remote, KEY, 4 * MIB)
        assert await get(slices, again, range(4 * MIB)) == data


async def test_a_hundred_aborted_reads_give_back_all_they_held(tmp_path: Path) -> None:
    remote = Remote(slice_bytes=MIB)
    grant, _ = object_in(remote, KEY, 4 * MIB)
    async with slices_over(remote, tmp_path, slice_bytes=MIB) as slices:
        await _read_some(slices, grant, 4 * MIB)
        before = _descriptors(), len(asyncio.all_tasks())
        for _ in range(50):
            await _read_some(slices, grant, 4 * MIB)
        await asyncio.gather(*(_read_some(slices, grant, 4 * MIB) for _ in range(50)))
        assert (_descriptors(), len(asyncio.all_tasks()), remote.open) == (*before, 0)
        assert parts_in(tmp_path) == []
