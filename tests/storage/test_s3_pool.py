from __future__ import annotations

import asyncio
import gc
import os
from contextlib import AsyncExitStack

import pytest

from gateway.errors import StorageUnavailable
from gateway.storage import Storage
from tests.storage.faulty import DATA, KEY, grant, opened, until
from tests.support.s3_faults import FaultyS3, hang_after, raw, refuse, reset_after
from tests.support.storage import content, get

WHOLE = range(len(DATA))
MIB = 1024 * 1024


async def begin(stack: AsyncExitStack, storage: Storage) -> None:
    """Read a first piece, and stay."""
    buffers = await stack.enter_async_context(storage.read(grant(), WHOLE))
    await anext(buffers)


async def test_two_hundred_readers_that_leave_take_nothing_with_them(server: FaultyS3) -> None:
    """In the middle, before the first byte, and while they wait for one of two connections."""
    server.objects[KEY] = content("large", 2 * MIB)
    async with opened(server, read_connections=2) as storage:
        whole = range(2 * MIB)

        async def leave() -> None:
            async with storage.read(grant(""), whole) as buffers:
                await anext(buffers)

        async def be_cancelled(turns: int) -> None:
            task = asyncio.create_task(get(storage, grant(""), whole))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await leave()
        held = await _held(server)
        for turns in range(100):
            await leave()
            await be_cancelled(turns % 25)
        await asyncio.gather(*(be_cancelled(turns % 25) for turns in range(100)))
        assert await _held(server) == held
        assert await get(storage, grant(""), whole) == content("large", 2 * MIB)


async def _held(server: FaultyS3) -> tuple[int, int]:
    """Count descriptors and tasks, when the server has noticed that only the connection of the opening is left."""
    await until(lambda: server.open_connections <= 1)
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())  # noqa: PTH208 - a count


async def test_faults_leak_no_connection(server: FaultyS3) -> None:
    async with opened(server, read_connections=1, answer_timeout=0.02, idle_timeout=0.02) as storage:
        for fault in [raw(b""), hang_after(1000), refuse(404, "NoSuchKey"), raw(b"garbage"), reset_after(10)] * 3:
            server.faults.append(fault)
            await asyncio.gather(get(storage, grant(), WHOLE), return_exceptions=True)
        assert await get(storage, grant(), WHOLE) == DATA


async def test_connections_are_used_again(server: FaultyS3) -> None:
    async with opened(server) as storage:
        opening = server.connections
        for _ in range(20):
            assert await get(storage, grant(), WHOLE) == DATA
        assert server.connections == opening + 1


async def test_a_reader_that_leaves_what_has_come_anyway_keeps_the_connection(server: FaultyS3) -> None:
    async with opened(server) as storage:
        opening = server.connections
        for _ in range(3):
            async with storage.read(grant(), range(100)):
                await asyncio.sleep(0)
        assert server.connections == opening + 1
        assert await get(storage, grant(), range(9)) == DATA[:9]


async def test_no_more_connections_are_made_than_allowed(server: FaultyS3) -> None:
    async with opened(server, read_connections=3) as storage:
        opening = server.connections
        read = await asyncio.gather(*(get(storage, grant(), WHOLE) for _ in range(40)))
        assert read == [DATA] * 40
        assert server.connections == opening + 3


async def test_a_place_is_given_in_the_order_of_asking(server: FaultyS3) -> None:
    order: list[int] = []

    async def read(number: int) -> None:
        async with storage.read(grant(), WHOLE):
            order.append(number)

    async with opened(server, read_connections=1) as storage:
        async with AsyncExitStack() as stack:
            await begin(stack, storage)
            waiting = [asyncio.create_task(read(number)) for number in range(8)]
            await asyncio.sleep(0)
            waiting[3].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert order == [0, 1, 2, 4, 5, 6, 7]


async def test_who_waits_too_long_is_told_so(server: FaultyS3) -> None:
    async with opened(server, read_connections=1, read_patience=0.02) as storage:
        async with AsyncExitStack() as stack:
            await begin(stack, storage)
            for _ in range(3):
                with pytest.raises(StorageUnavailable):
                    await get(storage, grant(), WHOLE)
        assert await get(storage, grant(), WHOLE) == DATA


async def test_who_is_cancelled_while_waiting_takes_no_place(server: FaultyS3) -> None:
    async with opened(server, read_connections=1) as storage:
        for turns in range(12):
            async with AsyncExitStack() as stack:
                await begin(stack, storage)
                waiting = asyncio.create_task(get(storage, grant(), WHOLE))
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert await get(storage, grant(), WHOLE) == DATA


async def test_a_slow_reader_keeps_the_server_waiting_and_no_memory(server: FaultyS3) -> None:
    data = server.objects[KEY] = content("slow", 42 * MIB)
    async with opened(server) as storage, storage.read(grant(""), range(len(data))) as buffers:
        received = bytearray(await anext(buffers))
        before = -1
        while server.sent != before:
            before = server.sent
            await asyncio.sleep(0.05)
        assert before < len(data) / 2  # the kernel's buffers and a megabyte of ours
        async for buffer in buffers:
            received += buffer
        assert received == data


async def test_closing_ends_what_is_under_way(server: FaultyS3) -> None:
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(opened(server, read_connections=1))
        server.faults.append(hang_after(1000))
        reading = asyncio.create_task(get(storage, grant(), WHOLE))
        await until(lambda: len(server.gets) > 0)
        waiting = asyncio.create_task(get(storage, grant(), WHOLE))
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(reading, waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageUnavailable, StorageUnavailable]
