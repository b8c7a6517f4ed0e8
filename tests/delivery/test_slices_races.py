"""Readers and fetches of one object that cross each other: nobody waits for ever, nothing is freed under another."""

from __future__ import annotations

import asyncio
import itertools
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.delivery.ledger import Contended
from gateway.delivery.slice_files import Part
from gateway.delivery.slice_store import SliceStore
from gateway.delivery.slices import Slices
from gateway.storage import Feed
from policies.model import Grant
from tests.delivery.remote import MIB, SLICE, STEP, Remote, at_rest, object_in, parts_in, slices_over
from tests.support.storage import get

KEY = "ab/object"
PATIENCE = 15.0  # seconds


def begun(slices: Slices, grant: Grant, wanted: range, ready: Any = lambda: None) -> Feed:
    """Begin to read, and wait for the first bytes."""
    feed = slices.feed(grant, wanted, ready)
    assert feed is not None
    assert feed.take() is None
    return feed


async def test_a_reader_that_fails_holds_up_no_other(tmp_path: Path) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, SLICE)

    def fail() -> None:
        raise RuntimeError

    async with slices_over(remote, tmp_path) as slices:
        failing = begun(slices, grant, range(SLICE), fail)
        async with asyncio.timeout(PATIENCE):
            read = await asyncio.gather(*(get(slices, grant, range(SLICE)) for _ in range(3)))
        assert read == [data] * 3
        failing.close()


@pytest.mark.parametrize("admit_after", [1, 2])
async def test_who_starts_where_a_fetch_waits_for_a_slow_reader_has_it_go_on(tmp_path: Path, admit_after: int) -> None:
    remote = Remote()
    grant, data = object_in(remote, KEY, 40 * SLICE)
    async with slices_over(remote, tmp_path, admit_after=admit_after, read_ahead=4 * SLICE) as slices:
        ready = asyncio.Event()
        slow = begun(slices, grant, range(len(data)), ready.set)
        await ready.wait()
        assert slow.take() is not None
        async with asyncio.timeout(PATIENCE):
            while remote.fetched(KEY).get(4, 0) < SLICE:  # noqa: ASYNC110 - as in `at_rest`
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            at = max(remote.fetched(KEY)) * SLICE
            for start in (at, at + SLICE):
                assert await get(slices, grant, range(start, start + 100)) == data[start : start + 100]
        slow.close()
        await at_rest(remote)
    assert len(remote.asked) == 1


async def test_a_fetch_that_many_leave_is_ended_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second cancellation would close the file under the thread that writes it."""
    remote = Remote(slice_bytes=MIB)
    grant, _ = object_in(remote, KEY, 40 * MIB)
    writing, go_on, descriptors, write = threading.Event(), threading.Event(), list[tuple[int, int]](), Part.write

    def slowly(part: Part, offset: int, data: memoryview) -> None:
        if threading.current_thread() is not threading.main_thread():
            before = part._descriptor  # noqa: SLF001 - it is what is at stake
            writing.set()
            go_on.wait(PATIENCE)
            descriptors.append((before, part._descriptor))  # noqa: SLF001
        write(part, offset, data)

    monkeypatch.setattr(Part, "write", slowly)
    monkeypatch.setattr("gateway.delivery.slice_cache._SLOW", -1.0)
    monkeypatch.setattr("gateway.delivery.slice_cache._waits", itertools.count().__next__)
    async with slices_over(remote, tmp_path, slice_bytes=MIB) as slices:
        readers = [begun(slices, grant, range(start * MIB, (start + 1) * MIB)) for start in (0, 20, 30)]
        await asyncio.to_thread(writing.wait, PATIENCE)
        for reader in readers:
            reader.close()
            for _ in range(5):
                await asyncio.sleep(0)
        go_on.set()
        await slices.delete([KEY])
        await at_rest(remote)
    assert descriptors
    assert all(before == after >= 0 for before, after in descriptors)


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_slice_that_is_being_opened_is_not_fetched_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, leaves: bool
) -> None:
    remote, size = Remote(), 10 * SLICE
    grant, data = object_in(remote, KEY, size)
    opening, claim = threading.Event(), SliceStore.claim

    def contended(store: SliceStore, name: bytes, length: int, since: int, *, wait: bool = False) -> Any:
        if name.endswith(b"\3"):
            if not wait:
                raise Contended
            opening.wait(PATIENCE)
        return claim(store, name, length, since, wait=wait)

    monkeypatch.setattr(SliceStore, "claim", contended)
    remote.hold_at = STEP
    async with slices_over(remote, tmp_path, read_ahead=8 * SLICE) as slices:
        first = asyncio.create_task(get(slices, grant, range(size)))
        await remote.held.wait()
        second = asyncio.create_task(get(slices, grant, range(3 * SLICE, 4 * SLICE)))
        for _ in range(10):
            await asyncio.sleep(0)
        remote.hold_at = None
        remote.go_on.set()
        for _ in range(200):
            await asyncio.sleep(0)
        if leaves:
            second.cancel()
        opening.set()
        async with asyncio.timeout(PATIENCE):
            assert await first == data
            await asyncio.wait({second})
        assert second.cancelled() or second.result() == data[3 * SLICE : 4 * SLICE]
        await at_rest(remote)
    assert remote.fetched(KEY) == dict.fromkeys(range(10), SLICE)
    assert parts_in(tmp_path) == []
