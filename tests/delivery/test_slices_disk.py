"""The folder of slices under trouble: damage, leftovers, a full disk, too many bytes, and any order of it all."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import system_clock
from gateway.errors import StorageUnavailable
from tests.delivery.remote import KIB, MIB, SLICE, STEP, Remote, at_rest, files_in, object_in, parts_in, slices_over
from tests.support.storage import get

KEY = "ab/object"
SIZE = 3 * SLICE + 123


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at, os.SEEK_SET if at >= 0 else os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "its first byte is another": lambda path: flip(path, 0),
    "a byte in the middle is another": lambda path: flip(path, 12345),
    "its last byte is another": lambda path: flip(path, -1),
    "its checksum is another": lambda path: flip(path, -45),
    "it is shorter": lambda path: os.truncate(path, path.stat().st_size - 1),
    "it is longer": lambda path: os.truncate(path, path.stat().st_size + 1),
    "it is empty": lambda path: os.truncate(path, 0),
    "it is all zeros, as after a power cut": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "it is another slice": lambda path: path.write_bytes(_other(path).read_bytes()),
    "it is gone": lambda path: path.unlink(),
    "nobody may read it": lambda path: _loop(path).replace(path),
}


def _loop(path: Path) -> Path:
    """A link that leads to itself cannot be opened, not even by root."""
    link = path.with_name("loop")
    link.symlink_to(path)
    return link


def _other(path: Path) -> Path:
    return next(other for other in path.parent.iterdir() if other != path)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_slice_is_noticed_and_fetched_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SIZE)
    async with slices_over(remote, tmp_path) as slices:
        await get(slices, grant, range(SIZE))
    [second] = [path for path in files_in(tmp_path) if path.name.endswith("-00000001")]
    damage(second)
    remote.asked.clear()
    async with slices_over(remote, tmp_path) as slices:
        assert slices.resident(grant, range(SLICE, SLICE + 1)) is None
        assert await get(slices, grant, range(SIZE)) == data
        assert remote.asked == [range(SLICE, 2 * SLICE)]


async def test_what_a_killed_worker_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    remote = Remote()
    grant, _ = object_in(remote, KEY, SIZE)
    async with slices_over(remote, tmp_path) as slices:
        await get(slices, grant, range(SIZE))
    [first, *_] = files_in(tmp_path)
    first.rename(first.with_name(f"{first.name}.part"))
    (tmp_path / "ab" / "somebody-elses").touch()
    async with slices_over(remote, tmp_path):
        assert parts_in(tmp_path) == []
        assert len(files_in(tmp_path)) == 4
        assert (tmp_path / "ab" / "somebody-elses").exists()


@pytest.mark.parametrize("journal", [b"", b"agcache1", bytes(1000), b"nonsense" * 100])
async def test_a_damaged_journal_is_made_anew_from_the_files(tmp_path: Path, journal: bytes) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SIZE)
    async with slices_over(remote, tmp_path) as slices:
        await get(slices, grant, range(SIZE))
    (tmp_path / ".journal").write_bytes(journal)
    remote.asked.clear()
    async with slices_over(remote, tmp_path, max_bytes=5 * SLICE) as slices:
        assert await get(slices, grant, range(SIZE)) == data
        assert remote.asked == []
        other, _ = object_in(remote, "ab/other", 4 * SLICE)
        await get(slices, other, range(4 * SLICE))
        assert disk_use(tmp_path) <= 5 * SLICE


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def small_files(_folder: Path) -> Iterator[None]:
    """Let every slice fail after some of its bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SLICE, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("limited", [small_disk, small_files])
async def test_a_full_disk_serves_on_without_keeping(
    tmp_path: Path, limited: Callable[[Path], AbstractContextManager[None]]
) -> None:
    remote, now = Remote(), [1_000_000.0]
    grant, data = object_in(remote, KEY, 40 * SLICE)
    with limited(tmp_path):
        async with slices_over(remote, tmp_path, clock=lambda: now[0]) as slices:
            read = await asyncio.gather(*(get(slices, grant, range(len(data))) for _ in range(5)))
            assert read == [data] * 5
            assert len(remote.asked) < 5
            assert parts_in(tmp_path) == []
            await slices.delete([KEY])
            small, small_data = object_in(remote, "ab/small", 100)
            assert await get(slices, small, range(100)) == small_data
            assert slices.resident(small, range(100)) is None
            now[0] += 60.0
            assert await get(slices, small, range(100)) == small_data
            kept = slices.resident(small, range(100))
            assert kept is not None
            assert kept == small_data


def disk_use(folder: Path) -> int:
    used = 0
    for path in files_in(folder):
        with suppress(FileNotFoundError):  # removed by now
            used += path.stat().st_blocks * 512
    return used


async def test_the_files_stay_within_their_bytes_all_the_time(tmp_path: Path) -> None:
    remote = Remote()
    objects = [object_in(remote, f"ab/{number}", SLICE * (1 + number % 3) - 5) for number in range(25)]
    async with slices_over(remote, tmp_path, max_bytes=8 * SLICE) as slices:
        for grant, data in (*objects, *reversed(objects)):
            async with slices.read(grant, range(len(data))) as buffers:
                received = bytearray()
                async for buffer in buffers:
                    received += buffer
                    assert disk_use(tmp_path) <= 8 * SLICE
            assert received == data
        assert disk_use(tmp_path) >= 6 * SLICE
    async with slices_over(remote, tmp_path, max_bytes=3 * SLICE):
        assert disk_use(tmp_path) <= 3 * SLICE


async def test_a_scan_larger_than_the_cache_does_not_push_out_what_is_asked_for_again_and_again(tmp_path: Path) -> None:
    remote = Remote()
    hot = [object_in(remote, f"hot/{number}", SLICE) for number in range(10)]
    scan = [object_in(remote, f"scan/{number}", SLICE)[0] for number in range(80)]

    async def ask_for_the_hot_ones() -> int:
        fetched = len(remote.asked)
        for grant, data in hot:
            assert await get(slices, grant, range(SLICE)) == data
        return len(remote.asked) - fetched

    async with slices_over(remote, tmp_path, max_bytes=24 * SLICE) as slices:
        for _ in range(3):
            await ask_for_the_hot_ones()
        misses = 0
        for number, grant in enumerate(scan):
            await get(slices, grant, range(SLICE))
            if number % 20 == 19:
                misses += await ask_for_the_hot_ones()
    assert misses == 0


_numbers = itertools.count()
_SIZES = [1, SLICE, SLICE + 1, 5 * SLICE + 77, 9 * SLICE]
_step = st.tuples(
    st.sampled_from(["read", "abort", "fail", "replace", "delete", "restart", "damage", "together"]),
    st.integers(0, len(_SIZES) - 1),
    st.floats(0, 1),
    st.floats(0, 1),
)


@settings(max_examples=20, deadline=None, database=None)
@given(steps=st.lists(_step, min_size=1, max_size=25), slots=st.integers(2, 12))
async def test_whatever_happens_the_bytes_are_the_right_ones(
    steps: list[tuple[str, int, float, float]], slots: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        await _Story(Path(folder), slots).live(steps)


class _Story:
    """A cache of a few slices, and a row of things that happen to it."""

    def __init__(self, folder: Path, slots: int) -> None:
        self.folder = folder
        self.limit = slots * (SLICE + 4 * KIB)
        self.remote = Remote()
        self.objects = [object_in(self.remote, f"o/{number}", size) for number, size in enumerate(_SIZES)]

    async def live(self, steps: list[tuple[str, int, float, float]]) -> None:
        left = list(steps)
        while left:
            async with slices_over(self.remote, self.folder, max_bytes=self.limit) as self.slices:
                while left:
                    what, which, *ends = left.pop(0)
                    if what in {"restart", "damage"}:
                        break
                    first, last = sorted(round(end * len(self.objects[which][1])) for end in ends)
                    await getattr(self, what)(which, range(first, last))
                    assert disk_use(self.folder) <= self.limit
            assert parts_in(self.folder) == []
            for path in files_in(self.folder)[:1] if what == "damage" else []:
                flip(path, 0)

    async def read(self, which: int, wanted: range) -> None:
        grant, data = self.objects[which]
        assert await get(self.slices, grant, wanted) == data[wanted.start : wanted.stop]

    async def together(self, which: int, wanted: range) -> None:
        await asyncio.gather(self.read(which, wanted), self.abort(which, wanted), self.read(which, wanted))

    async def abort(self, which: int, wanted: range) -> None:
        grant, data = self.objects[which]
        async with self.slices.read(grant, wanted) as buffers:
            async for buffer in buffers:
                assert buffer == data[wanted.start : wanted.start + len(buffer)]
                break

    async def fail(self, which: int, wanted: range) -> None:
        self.remote.fail_at = wanted.start + STEP
        try:
            await self.read(which, wanted)
        except StorageUnavailable:
            await at_rest(self.remote)
        self.remote.fail_at = None

    async def replace(self, which: int, _wanted: range) -> None:
        self.objects[which] = object_in(self.remote, f"o/{which}", _SIZES[which], f"{next(_numbers)}")

    async def delete(self, which: int, wanted: range) -> None:
        await self.slices.delete([f"o/{which}"])
        await self.replace(which, wanted)
        await self.read(which, wanted)


async def test_a_disk_that_was_slow_is_written_to_from_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.delivery.slice_cache._SLOW", -1.0)
    remote = Remote()
    grant, data = object_in(remote, KEY, 8 * MIB)
    async with slices_over(remote, tmp_path, clock=system_clock) as slices:
        assert await get(slices, grant, range(8 * MIB)) == data
        remote.asked.clear()
        assert await get(slices, grant, range(8 * MIB)) == data
    assert remote.asked == []
