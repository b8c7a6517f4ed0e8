"""Readers that go away, stop or are slow, and storages that fail midway: nothing is held, nothing is made up."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.app import build
from gateway.clock import Clock
from gateway.errors import StorageFault
from gateway.ingest import Ingest
from gateway.metadata import Quota
from gateway.storage import Buffer
from gateway.storage.memory import STEP, MemoryStorage
from policies.model import Grant
from tests.support.engines import COMBINATIONS, Engine
from tests.support.gateway import PNG, MovableClock, Running, answering, running, settings_for
from tests.support.sockets import Reader
from tests.support.storage import content

MEBIBYTE = 1024 * 1024
BIG = PNG + content("a big object", MEBIBYTE) * 15
READ = 40_000  # bytes of an answer that are read before hanging up: more than its head, less than the whole
PATIENCE = 15.0  # seconds
NO_QUOTA = Quota(1_000, 1_000 * MEBIBYTE)
FORGIVEN = 4 * MEBIBYTE  # of memory that the allocator keeps for itself


class Watched(MemoryStorage):
    """A storage that must be waited for, and counts what is being read."""

    reading = 0
    reads = 0

    @asynccontextmanager
    async def read(self, grant: Grant, wanted: range) -> AsyncIterator[AsyncIterator[Buffer]]:
        self.reading += 1
        self.reads += 1
        try:
            async with super().read(grant, wanted) as buffers:
                yield buffers
        finally:
            self.reading -= 1

    def resident(self, grant: Grant, wanted: range) -> memoryview | None:
        return None


class Failing(Watched):
    """A storage whose reads go wrong behind the first buffer, in the way that the test sets."""

    def __init__(self, clock: Clock, failure: Callable[[], AsyncIterator[Buffer]]) -> None:
        super().__init__(clock)
        self._failure = failure

    @asynccontextmanager
    async def read(self, grant: Grant, wanted: range) -> AsyncIterator[AsyncIterator[Buffer]]:
        async with super().read(grant, wanted) as buffers:
            yield self._first_then_trouble(buffers)

    async def _first_then_trouble(self, buffers: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
        yield await anext(buffers)
        async for buffer in self._failure():
            yield buffer


class Held(NamedTuple):
    """What a process holds at a moment."""

    descriptors: int
    tasks: int
    memory: int  # bytes resident

    def is_within(self, before: Held, kept_alive: int) -> bool:
        """Whether nothing was added but perhaps `kept_alive` connections to servers of ours, for the next request."""
        return self.descriptors <= before.descriptors + kept_alive and self.tasks <= before.tasks + kept_alive


def held() -> Held:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a path for each would open more
    return Held(descriptors, len(asyncio.all_tasks()), pages * os.sysconf("SC_PAGE_SIZE"))


async def until(state: Callable[[], object], what: Callable[[], Any]) -> None:
    """Wait, turn by turn of the loop, until something is so."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not state():  # noqa: ASYNC110 - nothing announces that a socket's end has arrived
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"it stays so: {what()}")


def streams(gateway: Running) -> float:
    return gateway.parts.metrics.registry.get_sample_value("assetgate_open_streams") or 0.0


def kept_alive(gateway: Running) -> int:
    """How many connections to a storage may stay open: far fewer than the readers that went away."""
    return 8 if gateway.parts.settings.storage.startswith("s3:") else 0


async def abort(gateway: Running, path: str, *, reset: bool) -> None:
    """Hang up in the middle of an answer, once it is certain that it is being sent."""
    reader = Reader(gateway.url)
    try:
        await reader.ask(path)
        assert (await reader.read(READ)).startswith(b"HTTP/1.1 200 OK\r\n")
    finally:
        reader.close(reset=reset)


@asynccontextmanager
async def with_storage(make: Callable[[Clock], MemoryStorage]) -> AsyncIterator[tuple[Running, Any]]:
    """Run a gateway whose objects, those that are uploaded as well, lie in a storage of the test's own."""
    clock = MovableClock()
    storage = make(clock)
    async with build(settings_for(None, {"server.express": False}), clock) as parts:
        ingest = Ingest(parts.metadata, storage, parts.ingest.purposes, NO_QUOTA, 60.0, clock, parts.randomness)
        async with answering(replace(parts, storage=storage, ingest=ingest), clock) as gateway:
            yield gateway, storage


@pytest.fixture(params=COMBINATIONS, ids=str)
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    engine: Engine = request.param
    gc.collect()
    gc.freeze()  # `held` looks for garbage often, and for ours alone
    async with running(engine.settings(tmp_path, request.getfixturevalue)) as gateway:
        yield gateway


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
async def test_twenty_aborts_in_a_row_leave_nothing(gateway: Running, reset: bool) -> None:
    path = await gateway.sign(await gateway.asset(BIG))
    for _ in range(5):  # what is made once stays
        await abort(gateway, path, reset=reset)
    await until(lambda: streams(gateway) == 0, lambda: streams(gateway))
    before = held()
    for _ in range(20):
        await abort(gateway, path, reset=reset)
    await until(lambda: streams(gateway) == 0, lambda: streams(gateway))
    await until(lambda: held().is_within(before, kept_alive(gateway)), lambda: (held(), before))
    assert held().memory - before.memory < FORGIVEN


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
async def test_twenty_aborts_at_once_leave_nothing(gateway: Running, reset: bool) -> None:
    path = await gateway.sign(await gateway.asset(BIG))

    async def twenty() -> None:
        await asyncio.gather(*(abort(gateway, path, reset=reset) for _ in range(20)))
        await until(lambda: streams(gateway) == 0, lambda: streams(gateway))

    await twenty()
    await until(lambda: len(asyncio.all_tasks()) < 20, asyncio.all_tasks)
    before = held()
    await twenty()
    await until(lambda: held().is_within(before, kept_alive(gateway)), lambda: (held(), before))
    assert held().memory - before.memory < FORGIVEN
    async with gateway.client.get(path) as response:
        assert await response.read() == BIG


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
async def test_a_reader_who_goes_away_ends_the_reading_of_the_storage(reset: bool) -> None:
    async with with_storage(Watched) as (gateway, storage):
        path = await gateway.sign(await gateway.asset(BIG))
        await asyncio.gather(*(abort(gateway, path, reset=reset) for _ in range(50)))
        await until(lambda: storage.reading == 0, lambda: storage.reading)
        assert storage.reads == 50
        assert streams(gateway) == 0


async def test_slow_readers_hold_up_nobody_and_bounded_memory(gateway: Running) -> None:
    path = await gateway.sign(await gateway.asset(BIG))
    quick = await gateway.sign(await gateway.asset())
    async with gateway.client.get(path) as response:
        assert len(await response.read()) == len(BIG)
    before = held()
    slow = [Reader(gateway.url) for _ in range(50)]
    try:
        for reader in slow:
            await reader.ask(path)
            await reader.read(1)
        await until(lambda: streams(gateway) == 50, lambda: streams(gateway))
        async with asyncio.timeout(PATIENCE):
            for _ in range(100):
                async with gateway.client.get(quick) as response:
                    assert await response.read() == PNG
            async with gateway.client.get(path) as response:
                assert await response.read() == BIG
        # Half a mebibyte for each: the socket's buffer and the piece that is being written. And a cache's map of it.
        assert held().memory - before.memory < 50 * MEBIBYTE // 2 + len(BIG) + FORGIVEN
        assert await slow[0].read(len(BIG) // 4)
        assert streams(gateway) == 50
    finally:
        for reader in slow:
            reader.close(reset=True)
    await until(lambda: streams(gateway) == 0, lambda: streams(gateway))


async def fault() -> AsyncIterator[Buffer]:
    yield b""
    raise StorageFault


async def crash() -> AsyncIterator[Buffer]:
    yield b""
    raise RuntimeError("a defect of the driver")


async def short() -> AsyncIterator[Buffer]:
    yield b"and no more"


async def long() -> AsyncIterator[Buffer]:
    for _ in range(20):
        yield bytes(MEBIBYTE)


@pytest.mark.parametrize("failure", [fault, crash, short, long])
async def test_trouble_behind_the_first_byte_breaks_the_connection(
    failure: Callable[[], AsyncIterator[Buffer]],
) -> None:
    async with with_storage(lambda clock: Failing(clock, failure)) as (gateway, storage):
        path = await gateway.sign(await gateway.asset(BIG))
        reader = Reader(gateway.url)
        try:
            await reader.ask(path)
            async with asyncio.timeout(PATIENCE):
                answer = await reader.read(2 * len(BIG))
        finally:
            reader.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(BIG)}".encode() in head
        assert len(body) < len(BIG)
        assert BIG.startswith(body[:STEP])
        assert answer.count(b"HTTP/1.1") == 1
        assert b"urn:assetgate" not in answer
        await until(lambda: storage.reading == 0, lambda: storage.reading)
        assert gateway.parts.metrics.registry.get_sample_value("assetgate_broken_streams_total") == 1
