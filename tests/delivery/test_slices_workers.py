"""Several worker processes with one folder: each slice is fetched once, whoever is killed, and all keep the bound."""

from __future__ import annotations

import asyncio
import fcntl
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StorageFault
from tests.delivery.remote import MIB, SLICE, Remote, files_in, object_in, parts_in, slices_over
from tests.support.storage import get

ROOT = Path(__file__).parents[2]
KEY = "ab/object"


class Worker:
    def __init__(self, process: Process) -> None:
        self.process = process

    async def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            heard: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return heard

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")


@asynccontextmanager
async def worker(folder: Path, **job: object) -> AsyncIterator[Worker]:
    command = [sys.executable, "-m", "tests.delivery.slice_worker", str(folder), json.dumps(job)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    try:
        started = Worker(process)
        assert await started.hear() == {"ready": True}
        yield started
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_two_workers_with_a_thousand_readers_fetch_each_slice_of_a_cold_video_once(tmp_path: Path) -> None:
    job = {"size": 64 * MIB, "readers": 500, "max_bytes": 128 * MIB}
    async with worker(tmp_path, **job) as one, worker(tmp_path, **job) as two:
        one.begin()
        two.begin()
        told = await asyncio.gather(one.hear(), two.hear())
    assert [each["right"] for each in told] == [True, True]
    fetched = Counter({int(index): count for index, count in told[0]["fetched"].items()})
    fetched.update({int(index): count for index, count in told[1]["fetched"].items()})
    assert fetched == dict.fromkeys(range(64), MIB)


async def test_a_worker_killed_in_the_middle_of_a_slice_holds_up_nobody(tmp_path: Path) -> None:
    remote = Remote(slice_bytes=MIB)
    grant, data = object_in(remote, KEY, 4 * MIB)
    job = {"size": 4 * MIB, "readers": 1, "max_bytes": 64 * MIB, "hold_at": 2 * MIB + MIB // 2}
    async with (
        slices_over(remote, tmp_path, slice_bytes=MIB, read_ahead=4 * MIB) as slices,
        worker(tmp_path, **job) as other,
    ):
        other.begin()
        assert await other.hear() == {"holding": True}
        async with slices.read(grant, range(4 * MIB)) as buffers:
            received = bytearray()
            async for buffer in buffers:
                received += buffer
                if len(received) >= 2 * MIB + MIB // 2 and other.process.returncode is None:
                    assert remote.asked == []
                    other.process.send_signal(signal.SIGKILL)
                    await other.process.wait()
        assert received == data
        assert set(remote.fetched(KEY)) == {2, 3}
    assert parts_in(tmp_path) == []


async def test_two_workers_together_stay_within_the_bytes(tmp_path: Path) -> None:
    limit = 12 * MIB
    jobs = [{"size": 3 * MIB, "readers": 2, "max_bytes": limit, "others": 60, "name": name} for name in ("one", "two")]
    async with worker(tmp_path, **jobs[0]) as one, worker(tmp_path, **jobs[1]) as two:
        one.begin()
        two.begin()
        done = asyncio.gather(one.hear(), two.hear())
        most = 0
        while not done.done():
            most = max(most, await asyncio.to_thread(_disk_use, tmp_path))
        told = await done
    assert [each["right"] for each in told] == [True, True]
    assert limit // 2 < most <= limit


def _disk_use(folder: Path) -> int:
    """Add up what is there at one moment: under the lock nothing comes or goes, but for names that change."""
    used: dict[int, int] = {}
    with (folder / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in files_in(folder):
            with suppress(FileNotFoundError):
                facts = path.stat()
                used[facts.st_ino] = facts.st_blocks * 512
    return sum(used.values())


async def test_what_another_worker_fetched_is_read_from_the_folder(tmp_path: Path) -> None:
    first, second = Remote(), Remote()
    grant, data = object_in(first, KEY, 3 * SLICE)
    object_in(second, KEY, 3 * SLICE)
    async with slices_over(first, tmp_path) as one, slices_over(second, tmp_path) as two:
        await get(one, grant, range(3 * SLICE))
        assert await get(two, grant, range(3 * SLICE)) == data
    assert second.asked == []


async def test_what_is_found_in_the_folder_goes_on_being_counted(tmp_path: Path) -> None:
    first, second = Remote(), Remote()
    limit = 8 * SLICE
    shared = [object_in(first, f"ab/shared-{number}", SLICE // 2) for number in range(10)]
    for number in range(10):
        object_in(second, f"ab/shared-{number}", SLICE // 2)
    others = [object_in(second, f"ab/other-{number}", SLICE // 2) for number in range(10)]
    async with (
        slices_over(first, tmp_path, max_bytes=limit) as one,
        slices_over(second, tmp_path, max_bytes=limit) as two,
    ):
        for slices, objects in ((one, shared), (two, shared), (two, others)):
            for grant, data in objects:
                assert await get(slices, grant, range(len(data))) == data
                assert _disk_use(tmp_path) <= limit
    assert len(second.asked) == len(others)


async def test_a_worker_reads_what_another_is_fetching_as_it_comes(tmp_path: Path) -> None:
    first, second = Remote(), Remote()
    grant, data = object_in(first, KEY, SLICE)
    object_in(second, KEY, SLICE)
    first.hold_at = SLICE // 2
    async with slices_over(first, tmp_path) as one, slices_over(second, tmp_path) as two:
        reading = asyncio.create_task(get(one, grant, range(SLICE)))
        await first.held.wait()
        async with two.read(grant, range(SLICE)) as buffers:
            received = bytearray(await anext(buffers))
            assert received == data[: SLICE // 2]
            first.go_on.set()
            async for buffer in buffers:
                received += buffer
        assert received == await reading == data
    assert second.asked == []


async def test_a_fetch_that_another_worker_gives_up_is_taken_over(tmp_path: Path) -> None:
    first, second = Remote(), Remote()
    grant, data = object_in(first, KEY, SLICE)
    object_in(second, KEY, SLICE)
    first.hold_at = SLICE // 2
    async with slices_over(second, tmp_path) as two:
        async with slices_over(first, tmp_path) as one:
            reading = asyncio.create_task(get(one, grant, range(SLICE)))
            await first.held.wait()
            following = asyncio.create_task(get(two, grant, range(SLICE)))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        assert await following == data
    assert second.asked == [range(SLICE)]


async def test_a_deletion_reaches_what_another_worker_is_fetching(tmp_path: Path) -> None:
    first, second = Remote(), Remote()
    grant, data = object_in(first, KEY, 8 * SLICE)
    first.hold_at = 2 * SLICE + SLICE // 2
    async with slices_over(first, tmp_path) as one, slices_over(second, tmp_path) as two:
        reading = asyncio.create_task(get(one, grant, range(8 * SLICE)))
        await first.held.wait()
        await two.delete([KEY])
        first.go_on.set()
        assert await reading == data
        assert files_in(tmp_path) == []


@pytest.mark.parametrize("delete_first", [False, True])
async def test_a_read_after_a_deletion_elsewhere_keeps_nothing(tmp_path: Path, delete_first: bool) -> None:
    first, second = Remote(), Remote()
    grant, _ = object_in(first, KEY, SLICE)
    async with slices_over(first, tmp_path) as one, slices_over(second, tmp_path) as two:
        if not delete_first:
            await get(one, grant, range(SLICE))
        await first.delete([KEY])
        await two.delete([KEY])
        other, _ = object_in(first, "ab/other", SLICE)
        await get(one, other, range(SLICE))  # on the way it learns of the deletion
        with pytest.raises(StorageFault):
            await get(one, grant, range(SLICE))
        assert len(files_in(tmp_path)) == 1
