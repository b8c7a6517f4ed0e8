"""What a reader gets through the slice cache, cold, warm and after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.clock import system_clock
from gateway.delivery.slices import Slices, cached
from gateway.errors import CannotStart, StorageFault
from gateway.storage import Feeding, Presigning, Resident, Storage, Unfinished
from gateway.storage.memory import MemoryStorage
from policies.model import Action, Grant
from tests.delivery.remote import SLICE, Remote, at_rest, cache_settings, files_in, object_in, sized, slices_over
from tests.storage.test_contract import (  # noqa: F401 - they run here once more, on the storage below
    test_a_feed_says_what_is_wrong_and_is_silent_once_closed,
    test_a_grant_for_another_action_opens_nothing,
    test_a_grant_without_version_reads_what_is_there,
    test_a_list_is_in_the_order_of_the_keys_bytes,
    test_a_range_gives_its_bytes_and_no_other,
    test_a_reader_finishes_what_is_deleted_under_it,
    test_bytes_come_back_however_they_were_cut,
    test_deleting_twice_is_no_error,
    test_fifty_readers_at_once_get_their_own_bytes,
    test_leaving_without_commit_leaves_nothing,
    test_nothing_is_resident_that_could_not_be_read,
    test_nothing_is_visible_before_the_commit,
    test_reading_another_version_fails_before_the_first_byte,
    test_reading_what_is_not_there_fails_before_the_first_byte,
    test_stat_and_list_tell_what_commit_told,
    test_wanting_more_than_there_is_fails_before_the_first_byte,
    test_what_is_fed_is_what_would_be_read,
    test_what_was_written_is_read_whole,
)
from tests.support.storage import content, get, grant_for

KEY = "ab/object"
SIZE = 5 * SLICE + 123
RANGES = {
    "the first byte": range(1),
    "the last byte": range(SIZE - 1, SIZE),
    "the whole": range(SIZE),
    "all but the ends": range(1, SIZE - 1),
    "one slice": range(SLICE, 2 * SLICE),
    "across the end of a slice": range(2 * SLICE - 1, 2 * SLICE + 1),
    "in the middle of a slice": range(3 * SLICE + 7, 3 * SLICE + 9),
    "from the middle on": range(3 * SLICE + 7, SIZE),
    "the last, short slice": range(5 * SLICE, SIZE),
}


@pytest.fixture(params=[64 * 1024, 1024 * 1024], ids=["small slices", "large slices"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """The cache as the contract suite sees it: a storage like others."""
    async with slices_over(Remote(), tmp_path, slice_bytes=request.param) as opened:
        yield opened


def touched(wanted: range) -> set[int]:
    return set(range(wanted.start // SLICE, (wanted.stop - 1) // SLICE + 1))


@pytest.mark.parametrize("wanted", RANGES.values(), ids=RANGES)
async def test_a_cold_range_fetches_the_slices_it_touches_once_and_a_warm_one_none(
    tmp_path: Path, wanted: range
) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SIZE)
    async with slices_over(remote, tmp_path, read_ahead=0) as slices:
        assert await get(slices, grant, wanted) == data[wanted.start : wanted.stop]
        await at_rest(remote)
        slice_sizes = {index: min(SLICE, SIZE - index * SLICE) for index in touched(wanted)}
        assert remote.fetched(KEY) == slice_sizes
        assert len(remote.asked) == 1
        assert await get(slices, grant, wanted) == data[wanted.start : wanted.stop]
        assert len(remote.asked) == 1


@pytest.mark.parametrize("wanted", RANGES.values(), ids=RANGES)
async def test_a_gap_is_fetched_and_not_what_lies_around_it(tmp_path: Path, wanted: range) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SIZE)
    async with slices_over(remote, tmp_path) as slices:
        await get(slices, grant, wanted)
        assert await get(slices, grant, range(SIZE)) == data
        assert sum(remote.fetched(KEY).values()) == SIZE


@pytest.mark.parametrize("wanted", RANGES.values(), ids=RANGES)
async def test_it_is_warm_after_a_restart(tmp_path: Path, wanted: range) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SIZE)
    async with slices_over(remote, tmp_path) as slices:
        await get(slices, grant, range(SIZE))
        remote.asked.clear()
        again, same = Remote(), object_in(remote, KEY, SIZE)[1]
        assert same == data
    async with slices_over(again, tmp_path) as slices:
        assert await get(slices, grant, wanted) == data[wanted.start : wanted.stop]
    assert again.asked == []


async def test_what_lies_in_one_slice_is_resident_and_what_crosses_two_is_not(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SIZE)
    async with slices_over(remote, tmp_path) as slices:
        assert slices.resident(grant, range(1)) is None
        await get(slices, grant, range(SIZE))
        for wanted in RANGES.values():
            view = slices.resident(grant, wanted)
            if len(touched(wanted)) == 1:
                assert view is not None
                assert view == data[wanted.start : wanted.stop]
            else:
                assert view is None
        assert slices.resident(grant, range(SIZE - 1, SIZE + 1)) is None


async def test_warm_bytes_are_given_to_no_grant_for_another_action_and_no_other_version(tmp_path: Path) -> None:
    remote = Remote()
    grant, _ = object_in(remote, KEY, 100)
    async with slices_over(remote, tmp_path) as slices:
        await get(slices, grant, range(100))
        stored = await slices.stat(KEY)
        assert stored is not None
        for other in (grant_for(stored, action=Action.INFO), grant_for(stored, version="never-was")):
            assert slices.resident(other, range(100)) is None
            with pytest.raises(StorageFault):
                await get(slices, other, range(100))


async def test_two_versions_of_an_object_never_mix(tmp_path: Path) -> None:
    remote = Remote()
    old, old_data = object_in(remote, KEY, SIZE, "old")
    async with slices_over(remote, tmp_path) as slices:
        await get(slices, old, range(2 * SLICE))
        new, new_data = object_in(remote, KEY, SIZE, "new")
        assert await get(slices, new, range(SIZE)) == new_data
        assert await get(slices, old, range(2 * SLICE)) == old_data[: 2 * SLICE]
        with pytest.raises(StorageFault):
            await get(slices, old, range(SIZE))


async def test_an_object_replaced_under_a_reader_breaks_its_stream_and_mixes_nothing(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, 40 * SLICE)
    new, received = content("new", 40 * SLICE), bytearray()

    async def read_while_it_is_replaced() -> None:
        async with slices.read(grant, range(40 * SLICE)) as buffers:
            async for buffer in buffers:
                received.extend(buffer)
                remote.keep(KEY, new)
                await at_rest(remote)

    async with slices_over(remote, tmp_path, patience=0.0) as slices:
        with pytest.raises(StorageFault):
            await read_while_it_is_replaced()
    assert 0 < len(received) < len(data)
    assert received == data[: len(received)]


async def test_deleting_an_object_drops_its_slices_of_all_versions(tmp_path: Path) -> None:
    remote = Remote()
    async with slices_over(remote, tmp_path) as slices:
        kept, _ = object_in(remote, "ab/kept", SLICE)
        await get(slices, kept, range(SLICE))
        grants = [object_in(remote, KEY, SIZE, seed)[0] for seed in ("one", "two")]
        await get(slices, grants[1], range(SIZE))
        first, _ = object_in(remote, KEY, SIZE, "three")
        await get(slices, first, range(SIZE))
    async with slices_over(remote, tmp_path) as slices:
        assert len(files_in(tmp_path)) == 13
        await slices.delete([KEY])
        assert len(files_in(tmp_path)) == 1
        assert slices.resident(first, range(1)) is None
        with pytest.raises(StorageFault):
            await get(slices, first, range(1))
        assert await get(slices, kept, range(SLICE)) == content("ab/kept", SLICE)


async def test_a_wrong_size_in_the_record_is_a_fault_and_no_wrong_byte(tmp_path: Path) -> None:
    remote = Remote()
    stored = remote.keep(KEY, content("short", SIZE))
    async with slices_over(remote, tmp_path) as slices:
        too_long = sized(type(stored)(stored.key, SIZE + 10, stored.version, stored.modified))
        with pytest.raises(StorageFault):
            await get(slices, too_long, range(SIZE, SIZE + 10))


async def test_an_object_larger_than_the_cache_streams_through(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, 40 * SLICE)
    async with slices_over(remote, tmp_path, max_bytes=SLICE // 2) as slices:
        assert await get(slices, grant, range(40 * SLICE)) == data
        assert files_in(tmp_path) == []


async def test_the_cache_stands_before_remote_storages_alone_and_only_when_it_is_on(tmp_path: Path) -> None:
    local, remote = MemoryStorage(system_clock), Remote()
    assert await cached(local, cache_settings(tmp_path), system_clock) is local
    assert await cached(remote, cache_settings(tmp_path, max_bytes=0), system_clock) is remote
    joined = await cached(remote, cache_settings(tmp_path), system_clock)
    assert isinstance(joined, Slices)
    assert isinstance(joined, Resident)
    assert isinstance(joined, Feeding)
    assert isinstance(joined, Unfinished)
    assert not isinstance(joined, Presigning)
    await joined.close()


class SigningRemote(Remote):
    async def presign(
        self,
        grant: Grant,
        *,
        expires_in: float,
        media_type: str | None = None,
        disposition: str | None = None,
        cache_control: str | None = None,
    ) -> str:
        return f"https://storage.test/{grant.subject.locator}?{expires_in}&{media_type}&{disposition}&{cache_control}"


async def test_a_storage_that_signs_urls_does_so_behind_the_cache(tmp_path: Path) -> None:
    remote = SigningRemote()
    grant, _ = object_in(remote, KEY, 1)
    joined = await cached(remote, cache_settings(tmp_path), system_clock)
    assert isinstance(joined, Presigning)
    assert (await joined.presign(grant, expires_in=5, media_type="a/b")) == (
        "https://storage.test/ab/object?5&a/b&None&None"
    )
    await joined.close()


async def test_a_folder_that_cannot_be_written_to_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart) as refused:
        await cached(Remote(), cache_settings(tmp_path / "file" / "cache"), system_clock)
    assert str(refused.value).startswith("cache.path: ")
