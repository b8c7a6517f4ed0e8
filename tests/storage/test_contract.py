"""What every storage must do, tried on each member of the family."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import os
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.clock import system_clock
from gateway.errors import StorageFault
from gateway.families import members
from gateway.storage import Buffer, Copying, Feeding, Placing, Resident, Storage, Stored, Unfinished
from policies.model import Action
from tests.conftest import S3_SERVERS
from tests.support.storage import NEED_A_SERVER, SANDBOXES, Runway, content, get, grant_for, keys, put

KEY = "ab/abcdef"
KIB = 1024
MIB = 1024 * KIB


def sandboxes() -> Iterator[tuple[str, str | None]]:
    """Name every member of the family, and each of the servers that it can be tried on."""
    for name in members("storage"):
        for server in S3_SERVERS if name in NEED_A_SERVER else [None]:
            yield name, server


@pytest.fixture(params=sandboxes(), ids=lambda param: "-".join(filter(None, param)))
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    name, server = request.param
    if name not in SANDBOXES:
        pytest.fail(f"the storage {name!r} has no sandbox in tests/support/storage.py")
    running: Any = request.getfixturevalue(server) if server else None
    async with SANDBOXES[name](tmp_path, system_clock, running) as opened:
        yield opened


async def assert_nothing_left(storage: Storage) -> None:
    assert await keys(storage) == []
    if isinstance(storage, Unfinished):
        assert await storage.discard_unfinished(math.inf) == 0


@pytest.mark.parametrize("size", [1, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, MIB, 3 * MIB + 7])
async def test_what_was_written_is_read_whole(storage: Storage, size: int) -> None:
    data = content("whole", size)
    stored = await put(storage, KEY, data)
    assert (stored.key, stored.size) == (KEY, size)
    assert await get(storage, grant_for(stored), range(size)) == data


SIZE = 2 * MIB + 5
RANGES = {
    "the first byte": range(1),
    "the last byte": range(SIZE - 1, SIZE),
    "the first two, as Safari asks": range(2),
    "all but the first": range(1, SIZE),
    "all but the last": range(SIZE - 1),
    "across the end of a buffer": range(256 * KIB - 1, 256 * KIB + 1),
    "across the end of a window": range(MIB - 1, MIB + 1),
    "one whole buffer": range(256 * KIB, 512 * KIB),
    "nothing at the front": range(0),
    "nothing in the middle": range(1000, 1000),
    "nothing at the end": range(SIZE, SIZE),
}


@pytest.mark.parametrize("wanted", RANGES.values(), ids=RANGES)
async def test_a_range_gives_its_bytes_and_no_other(storage: Storage, wanted: range) -> None:
    data = content("ranges", SIZE)
    stored = await put(storage, KEY, data)
    assert await get(storage, grant_for(stored), wanted) == data[wanted.start : wanted.stop]


_numbers = itertools.count()


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.integers(0, 400 * KIB), min_size=1, max_size=8).filter(any),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
async def test_bytes_come_back_however_they_were_cut(
    storage: Storage, pieces: list[int], ends: tuple[float, float]
) -> None:
    data = content(repr(pieces), sum(pieces))
    async with storage.create(f"cu/cut-{next(_numbers)}", "image/png") as sink:
        reused = bytearray(max(pieces))  # a writer may fill one buffer again and again
        offset = 0
        for piece in pieces:
            reused[:piece] = data[offset : offset + piece]
            await sink.write(memoryview(reused)[:piece])
            offset += piece
        stored = await sink.commit()
    first, last = sorted(round(end * len(data)) for end in ends)
    assert await get(storage, grant_for(stored), range(first, last)) == data[first:last]


async def test_nothing_is_visible_before_the_commit(storage: Storage) -> None:
    unseen = grant_for(Stored(KEY, 1, "", 0.0))
    async with storage.create(KEY, "image/png") as sink:
        await sink.write(content("unseen", 3 * MIB))
        assert await keys(storage) == []
        assert await storage.stat(KEY) is None
        with pytest.raises(StorageFault):
            await get(storage, unseen, range(1))
        stored = await sink.commit()
        assert await storage.stat(KEY) == stored
    assert await keys(storage) == [KEY]


@pytest.mark.parametrize("size", [0, 1, 3 * MIB])
async def test_leaving_without_commit_leaves_nothing(storage: Storage, size: int) -> None:
    async with storage.create(KEY, "image/png") as sink:
        await sink.write(content("abandoned", size))
    await assert_nothing_left(storage)


async def test_a_writer_that_fails_leaves_nothing(storage: Storage) -> None:
    async def fail() -> None:
        async with storage.create(KEY, "image/png") as sink:
            await sink.write(content("failing", 3 * MIB))
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await fail()
    await assert_nothing_left(storage)


@pytest.mark.parametrize("turns", [*range(12), 20, 50, 100])
async def test_a_writer_cancelled_at_any_moment_leaves_all_or_nothing(storage: Storage, turns: int) -> None:
    task = asyncio.create_task(put(storage, KEY, content("cancelled", 3 * MIB), step=MIB))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, Stored):
        assert await storage.stat(KEY) == outcome
    else:
        assert isinstance(outcome, asyncio.CancelledError)
        await assert_nothing_left(storage)


async def test_reading_what_is_not_there_fails_before_the_first_byte(storage: Storage) -> None:
    with pytest.raises(StorageFault):
        async with storage.read(grant_for(Stored("no/nothing", 1, "", 0.0)), range(1)):
            pytest.fail("it was opened")


async def test_reading_another_version_fails_before_the_first_byte(storage: Storage) -> None:
    first = await put(storage, KEY, b"the first bytes")
    second = await put(storage, KEY, b"bytes of another length")
    assert first.version != second.version
    for version in (first.version, "never-was"):
        with pytest.raises(StorageFault):
            async with storage.read(grant_for(second, version=version), range(1)):
                pytest.fail("it was opened")
    assert await get(storage, grant_for(second), range(5)) == b"bytes"


async def test_a_grant_without_version_reads_what_is_there(storage: Storage) -> None:
    stored = await put(storage, KEY, b"migrated")
    assert await get(storage, grant_for(stored, version=""), range(8)) == b"migrated"


async def test_wanting_more_than_there_is_fails_before_the_first_byte(storage: Storage) -> None:
    stored = await put(storage, KEY, b"eight by")
    with pytest.raises(StorageFault):
        async with storage.read(grant_for(stored), range(9)):
            pytest.fail("it was opened")


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.READ])
async def test_a_grant_for_another_action_opens_nothing(storage: Storage, action: Action) -> None:
    stored = await put(storage, KEY, b"private")
    with pytest.raises(StorageFault):
        await get(storage, grant_for(stored, action=action), range(1))


async def test_a_reader_finishes_what_is_deleted_under_it(storage: Storage) -> None:
    data = content("deleted", 3 * MIB)
    stored = await put(storage, KEY, data)
    async with storage.read(grant_for(stored), range(len(data))) as buffers:
        received = bytearray(await anext(buffers))
        await storage.delete([KEY])
        async for buffer in buffers:
            received += buffer
    assert received == data
    assert await storage.stat(KEY) is None
    with pytest.raises(StorageFault):
        await get(storage, grant_for(stored), range(1))


async def test_fifty_readers_at_once_get_their_own_bytes(storage: Storage) -> None:
    data = content("fifty", 2 * MIB)
    stored = await put(storage, KEY, data)
    ranges = [range(number * 20 * KIB, MIB + number * 20 * KIB) for number in range(50)]
    read = await asyncio.gather(*(get(storage, grant_for(stored), wanted) for wanted in ranges))
    assert read == [data[wanted.start : wanted.stop] for wanted in ranges]


# "-" comes before "/", letters beyond ASCII after all of it, and "😀" after U+FFFD, which UTF-16 has the other way.
SORTED_KEYS = [
    "a-b",
    "a/1",
    "a/10",
    "a/2",
    "a/b/c",
    "a/b0",
    "a0",
    "aB",
    "b/Z",
    "b/z",
    "b/zé",
    "b/é",
    "b/中",
    "b/\ufffd",
    "b/😀",
    "c",
]


async def test_a_list_is_in_the_order_of_the_keys_bytes(storage: Storage) -> None:
    await asyncio.gather(*(put(storage, key, key.encode()) for key in reversed(SORTED_KEYS)))
    for after in ["", *SORTED_KEYS, "a", "a/", "a/b", "a/b/", "b/zz", "d"]:
        expected = sorted((key for key in SORTED_KEYS if key.encode() > after.encode()), key=str.encode)
        assert await keys(storage, after) == expected


async def test_a_list_can_be_taken_page_by_page(storage: Storage) -> None:
    names = [f"{number % 16:02x}/{number:04}" for number in range(200)]
    await asyncio.gather(*(put(storage, name, b"x") for name in names))
    pages: list[str] = []
    while page := await _first(storage, 7, pages[-1] if pages else ""):
        pages += page
    assert pages == sorted(names)


async def _first(storage: Storage, count: int, after: str) -> list[str]:
    found: list[str] = []
    async for stored in storage.list(after):
        found.append(stored.key)
        if len(found) == count:
            break
    return found


async def test_a_list_holds_what_was_there_before_and_stays_after(storage: Storage) -> None:
    before = [f"{number % 4}/{number:03}" for number in range(40)]
    for name in before:
        await put(storage, name, b"x")
    seen: list[str] = []
    async for stored in storage.list():
        seen.append(stored.key)
        await put(storage, f"{len(seen) % 4}/new-{len(seen)}", b"y") if len(seen) <= 40 else None
    assert seen == sorted(set(seen))
    assert set(before) <= set(seen)


async def test_stat_and_list_tell_what_commit_told(storage: Storage) -> None:
    before = system_clock() - 1
    stored = await put(storage, KEY, b"facts")
    assert before <= stored.modified <= system_clock() + 1
    assert stored.version
    assert await storage.stat(KEY) == stored
    assert [found async for found in storage.list()] == [stored]
    assert await storage.stat("ab/other") is None


async def test_deleting_twice_is_no_error(storage: Storage) -> None:
    await put(storage, KEY, b"one")
    await put(storage, "ab/kept", b"two")
    await storage.delete([KEY, "no/nothing"])
    await storage.delete([KEY, "no/nothing"])
    await storage.delete([])
    assert await keys(storage) == ["ab/kept"]


async def test_a_copy_has_the_bytes_of_its_source(storage: Storage) -> None:
    if not isinstance(storage, Copying):
        return  # it need not be
    data = content("copied", 3 * MIB + 1)
    source = await put(storage, KEY, data)
    copied = await storage.copy(KEY, "cd/copy")
    assert (copied.key, copied.size) == ("cd/copy", len(data))
    assert await storage.stat("cd/copy") == copied
    await storage.delete([KEY])
    assert await get(storage, grant_for(copied), range(len(data))) == data
    assert source.size == copied.size
    with pytest.raises(StorageFault):
        await storage.copy("no/nothing", "cd/other")
    assert await keys(storage) == ["cd/copy"]


async def test_aborted_reads_give_back_all_they_held(storage: Storage) -> None:
    stored = await put(storage, KEY, content("aborted", 3 * MIB))
    grant = grant_for(stored)

    async def abort() -> None:
        async with storage.read(grant, range(stored.size)) as buffers:
            await anext(buffers)

    async def cancel() -> None:
        task = asyncio.create_task(wait_in_the_middle())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def wait_in_the_middle() -> None:
        async with storage.read(grant, range(stored.size)) as buffers:
            await anext(buffers)
            await asyncio.Event().wait()

    await abort()
    await cancel()
    tracemalloc.start()
    try:
        held = _held()
        for _ in range(100):
            await abort()
            await cancel()
        grown = [now - before for now, before in zip(_held(), held, strict=True)]
    finally:
        tracemalloc.stop()
    assert grown[:2] == [0, 0]
    assert grown[2] < 256 * KIB
    assert await get(storage, grant, range(5)) == content("aborted", 5)


def _held() -> tuple[int, int, int]:
    """Count open descriptors, tasks and bytes."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), tracemalloc.get_traced_memory()[0]  # noqa: PTH208 - a count


async def test_what_is_resident_is_what_would_be_read(storage: Storage) -> None:
    if not isinstance(storage, Resident):
        return  # it need not be
    data = content("resident", SIZE)
    stored = await put(storage, KEY, data)
    grant = grant_for(stored)
    assert await get(storage, grant, range(SIZE)) == data
    for wanted in RANGES.values():
        view = storage.resident(grant, wanted)
        assert view is not None
        assert bytes(view) == data[wanted.start : wanted.stop]


@pytest.mark.parametrize("wanted", [each for each in RANGES.values() if each])
async def test_what_is_fed_is_what_would_be_read(storage: Storage, wanted: range) -> None:
    if not isinstance(storage, Feeding):
        return  # it need not be
    data = content("fed", SIZE)
    grant = grant_for(await put(storage, KEY, data))
    sized = replace(grant, subject=replace(grant.subject, size=SIZE))
    for _ in range(2):  # cold and warm
        ready, pieces, left = asyncio.Event(), list[Buffer](), len(wanted)
        feed = storage.feed(sized, wanted, ready.set)
        assert feed is not None
        while left:
            ready.clear()
            piece = feed.take()
            if piece is None:
                await ready.wait()
                continue
            pieces.append(piece)
            left -= len(piece)
        feed.close()
        assert b"".join(pieces) == data[wanted.start : wanted.stop]


async def test_a_feed_says_what_is_wrong_and_is_silent_once_closed(storage: Storage) -> None:
    if not isinstance(storage, Feeding):
        return  # it need not be
    stored = await put(storage, KEY, content("fed", SIZE))
    for wrong in (grant_for(stored, version="never-was"), grant_for(Stored("no/nothing", 5, "v", 0.0))):
        ready = asyncio.Event()
        feed = storage.feed(replace(wrong, subject=replace(wrong.subject, size=SIZE)), range(5), ready.set)
        assert feed is not None
        assert feed.take() is None
        await ready.wait()
        with pytest.raises(StorageFault):
            feed.take()
        feed.close()
    calls: list[None] = []
    grant = grant_for(stored)
    feed = storage.feed(
        replace(grant, subject=replace(grant.subject, size=SIZE)), range(SIZE), lambda: calls.append(None)
    )
    assert feed is not None
    assert feed.take() is None
    feed.close()
    assert await get(storage, grant, range(5)) == content("fed", 5)
    assert calls == []


@pytest.mark.parametrize("wanted", [each for each in RANGES.values() if each])
async def test_bytes_land_where_they_are_wanted_and_are_handed_out_as_well(storage: Storage, wanted: range) -> None:
    if not isinstance(storage, Placing):
        return  # it need not be
    data = content("placed", SIZE)
    stored = await put(storage, KEY, data)
    runway = Runway(SIZE)
    async with storage.read_into(grant_for(stored), wanted, runway) as buffers:
        assert b"".join([bytes(buffer) async for buffer in buffers]) == data[wanted.start : wanted.stop]
    runway.check(data, wanted)


async def test_nothing_is_resident_that_could_not_be_read(storage: Storage) -> None:
    if not isinstance(storage, Resident):
        return  # it need not be
    stored = await put(storage, KEY, b"eight by")
    refused = {
        "another version": (grant_for(stored, version="never-was"), range(1)),
        "too long": (grant_for(stored), range(9)),
        "another action": (grant_for(stored, action=Action.INFO), range(1)),
        "missing": (grant_for(Stored("no/nothing", 1, "", 0.0)), range(1)),
    }
    assert {why: storage.resident(*asked) for why, asked in refused.items()} == dict.fromkeys(refused)
    await storage.delete([KEY])
    assert storage.resident(grant_for(stored), range(1)) is None
