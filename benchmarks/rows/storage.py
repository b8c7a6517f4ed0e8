"""Rows of the S3 read path, nothing cached: through the gateway, through nginx, and by clients without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from benchmarks import client, load, paced, rivals
from benchmarks.report import OURS, Contest
from benchmarks.rows.common import PASSED, READERS, Pace
from benchmarks.stage import AWS_KEYS, SIZES, Stage
from gateway.clock import system_clock
from gateway.storage.s3 import open_storage
from tests.support.storage import aws_environment, grant_for, settings_for

AIOBOTOCORE, ALONE = "aiobotocore get_object", "our storage part alone"
_UNCACHED = "\n[cache]\nmax_bytes = 0\n"
_PIECE = 256 * 1024  # bytes
_LEAST_ASKED = 45  # requests of an open loop; below a hundred, p99 is the slowest of them

Read = Callable[[], Awaitable[int]]
Reader = AbstractAsyncContextManager[Read]


def rows(stage: Stage, stack: ExitStack, pace: Pace) -> list[Contest]:
    """Throughput by closed loops, then p99 at a rate that even the slowest can keep up."""
    stack.enter_context(aws_environment(AWS_KEYS))
    gateway = stack.enter_context(stage.gateway(_UNCACHED))
    contests = []
    for name, size, readers, rate in (("64k", "64 KiB", READERS, 200), ("16m", "16 MiB", 8, 15)):
        urls = {PASSED: stage.linked("passed", name), OURS: client.sign(gateway, stage.ids[name])}
        contests += [
            _throughput(stage, name, size, readers, urls, pace),
            _tail(stage, name, size, rate, urls, pace),
        ]
    return contests


def _throughput(stage: Stage, name: str, size: str, readers: int, urls: Mapping[str, str], pace: Pace) -> Contest:
    is_small = name == "64k"

    def through(url: str) -> float:
        if is_small:
            return load.wrk(url, connections=readers, seconds=pace.seconds).requests_per_second
        return load.sink(url, connections=readers, seconds=pace.seconds, expected=SIZES[name])

    def by(reader: Callable[[Stage, str], Reader]) -> float:
        received = uvloop.run(_rate(reader(stage, name), readers, pace.seconds))
        return received / SIZES[name] if is_small else received / 1e6

    return Contest(
        f"uncached S3 read, {size}, {readers} readers",
        "requests/s" if is_small else "MB/s",
        AIOBOTOCORE,
        {
            AIOBOTOCORE: lambda: by(_aiobotocore),
            PASSED: lambda: through(urls[PASSED]),
            ALONE: lambda: by(_alone),
            OURS: lambda: through(urls[OURS]),
        },
    )


def _tail(stage: Stage, name: str, size: str, rate: int, urls: Mapping[str, str], pace: Pace) -> Contest:
    count = max(rate * pace.seconds, _LEAST_ASKED)

    def through(url: str) -> float:
        asked = [load.request_for(url)] * count
        return paced.run(paced.http_p99(url, asked, rate, expected=SIZES[name], first_byte=False))

    return Contest(
        f"uncached S3 read, {size}, last byte, p99 at {rate}/s",
        "ms",
        AIOBOTOCORE,
        {
            AIOBOTOCORE: lambda: paced.run(_reader_p99(_aiobotocore(stage, name), rate, count)),
            PASSED: lambda: through(urls[PASSED]),
            OURS: lambda: through(urls[OURS]),
        },
    )


async def _rate(reader: Reader, readers: int, seconds: float) -> float:
    """Let readers read in a loop, and return the bytes a second."""
    received, until = 0, time.perf_counter() + seconds

    async def go_on(read: Read) -> None:
        nonlocal received
        while time.perf_counter() < until:
            count = await read()
            received += count

    async with reader as read:
        begun = time.perf_counter()
        await asyncio.gather(*(go_on(read) for _ in range(readers)))
        return received / (time.perf_counter() - begun)


async def _reader_p99(reader: Reader, rate: float, count: int) -> float:
    async with reader as read:

        async def ask(_: int) -> float:
            await read()
            return asyncio.get_running_loop().time()

        return paced.p99(await paced.latencies(ask, rate, count))


@asynccontextmanager
async def _alone(stage: Stage, name: str) -> AsyncIterator[Read]:
    storage = await open_storage(settings_for(stage.place), system_clock)
    try:
        stored = await storage.stat(stage.keys[name])
        assert stored is not None
        grant, wanted = grant_for(stored), range(stored.size)

        async def read() -> int:
            async with storage.read(grant, wanted) as buffers:
                return _whole(sum([len(buffer) async for buffer in buffers]), name)

        yield read
    finally:
        await storage.close()


@asynccontextmanager
async def _aiobotocore(stage: Stage, name: str) -> AsyncIterator[Read]:
    # As many connections as readers: with the ten of its default it would wait for itself.
    config = AioConfig(max_pool_connections=READERS)
    async with get_session().create_client("s3", endpoint_url=stage.storage.url, config=config) as s3:

        async def read() -> int:
            answer = await s3.get_object(Bucket=rivals.BUCKET, Key=stage.keys[name])
            return _whole(sum([len(piece) async for piece in answer["Body"].iter_chunks(_PIECE)]), name)

        yield read


def _whole(count: int, name: str) -> int:
    if count != SIZES[name]:
        raise load.LoadFailed(f"{count} bytes of {SIZES[name]}")
    return count
