"""What is read once stays in memory for a while; what is read again goes to the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import StorageFault
from tests.delivery.remote import SLICE, Remote, at_rest, files_in, object_in, parts_in, slices_over
from tests.support.storage import get

KEY = "ab/object"
SIZE = 5 * SLICE + 123


async def until(state: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not state():  # noqa: ASYNC110 - a thread of its own writes to the disk
            await asyncio.sleep(0.001)


async def test_the_first_read_is_kept_in_memory_and_the_second_writes_it_down(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SIZE)
    async with slices_over(remote, tmp_path, admit_after=2) as slices:
        assert await get(slices, grant, range(SIZE)) == data
        assert files_in(tmp_path) == []
        assert await get(slices, grant, range(SIZE)) == data
        await until(lambda: len(files_in(tmp_path)) == 6 and not parts_in(tmp_path))
    assert len(remote.asked) == 1
    async with slices_over(remote, tmp_path, admit_after=2) as slices:
        assert await get(slices, grant, range(SIZE)) == data
    assert len(remote.asked) == 1, "it is warm after a restart"


async def test_a_second_read_out_of_the_map_counts_as_well(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SLICE)
    async with slices_over(remote, tmp_path, admit_after=2) as slices:
        assert await get(slices, grant, range(SLICE)) == data
        assert bytes(slices.resident(grant, range(SLICE)) or b"") == data
        await until(lambda: len(files_in(tmp_path)) == 1 and not parts_in(tmp_path))
        assert bytes(slices.resident(grant, range(SLICE)) or b"") == data
    assert len(remote.asked) == 1


async def test_a_scan_of_what_is_read_once_leaves_the_disk_alone_and_little_in_memory(tmp_path: Path) -> None:
    remote = Remote()
    objects = [object_in(remote, f"ab/{number:03}", SLICE) for number in range(50)]
    async with slices_over(remote, tmp_path, admit_after=2, memory_bytes=10 * SLICE) as slices:
        for grant, data in objects:
            assert await get(slices, grant, range(SLICE)) == data
        resident = [slices.resident(grant, range(SLICE)) is not None for grant, _ in reversed(objects)]
        assert resident == [True] * 10 + [False] * 40
    assert parts_in(tmp_path) == []


async def test_memory_that_somebody_still_reads_is_not_used_again(tmp_path: Path) -> None:
    remote = Remote()
    objects = [object_in(remote, f"ab/{number:03}", SLICE) for number in range(120)]
    held: list[tuple[memoryview | None, bytes]] = []
    async with slices_over(remote, tmp_path, admit_after=1000, memory_bytes=32 * SLICE) as slices:
        for grant, data in objects:
            assert await get(slices, grant, range(SLICE)) == data
            view = slices.resident(grant, range(5, SLICE - 5)) if len(held) % 3 else None
            held.append((view, data))
            assert slices.told().memory <= 32 * SLICE
    assert all(view is None or bytes(view) == data[5 : SLICE - 5] for view, data in held)


@pytest.mark.parametrize("memory", [0, SLICE, 3 * SLICE])
async def test_less_memory_than_an_object_needs_is_no_trouble(tmp_path: Path, memory: int) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SIZE)
    async with slices_over(remote, tmp_path, admit_after=2, memory_bytes=memory) as slices:
        for _ in range(3):
            assert await get(slices, grant, range(SIZE)) == data
        await at_rest(remote)
        await until(lambda: len(files_in(tmp_path)) == 6 and not parts_in(tmp_path))


async def test_three_hundred_readers_of_what_nobody_read_before_fetch_each_slice_once(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, 32 * SLICE)
    async with slices_over(remote, tmp_path, admit_after=2) as slices:
        assert await get(slices, grant, range(SLICE)) == data[:SLICE]
        read = await asyncio.gather(*(get(slices, grant, range(len(data))) for _ in range(300)))
        assert all(each == data for each in read)
        assert remote.fetched(KEY) == dict.fromkeys(range(32), SLICE)
        await until(lambda: len(files_in(tmp_path)) == 32 and not parts_in(tmp_path))


async def test_a_deleted_object_leaves_the_memory_at_once_and_its_readers_read_on(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SLICE)
    async with slices_over(remote, tmp_path, admit_after=2) as slices:
        assert await get(slices, grant, range(SLICE)) == data
        view = slices.resident(grant, range(SLICE))
        await slices.delete([KEY])
        assert bytes(view or b"") == data
        assert slices.resident(grant, range(SLICE)) is None
        with pytest.raises(StorageFault):
            await get(slices, grant, range(SLICE))
        await until(lambda: files_in(tmp_path) == [])


async def test_a_reader_finishes_what_was_fetched_ahead_of_it_and_then_deleted(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, 12 * SLICE)
    async with slices_over(remote, tmp_path) as slices, slices.read(grant, range(len(data))) as buffers:
        received = bytearray(await anext(buffers))
        await until(lambda: remote.fetched(KEY).get(3) == SLICE)
        await slices.delete([KEY])
        async for buffer in buffers:
            received += buffer
    assert received == data
