"""Reads of an S3 storage without a client in front: our path beside aiobotocore's, and what the server itself can do.

    python -m benchmarks.storage_reads [--rounds 3] [--seconds 3] [--json benchmarks/results/storage_reads.json]

The server is nginx with a folder of files: it checks no signature, so that the client is what is measured.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import click
import uvloop
from aiobotocore.session import get_session
from rich.console import Console

from benchmarks import load, peers, report
from gateway.clock import system_clock
from gateway.storage.s3 import open_storage
from tests.support.servers import processes
from tests.support.storage import aws_environment, content, grant_for, settings_for

SMALL = 64 * 1024
BIG = 16 * 1024 * 1024
SMALL_READERS = 64
BIG_READERS = 8
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
SERVER = """
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  server {
    listen 127.0.0.1:@port@ backlog=4096;
    root @files@;
    location = /bucket { return 200 '<ListBucketResult></ListBucketResult>'; }
  }
"""
RESULT = processes.ROOT / "benchmarks/results/storage_reads.json"

Read = Callable[[], Awaitable[int]]


async def _rate(read: Read, readers: int, seconds: float) -> float:
    """Let readers read in a loop, and return the bytes a second."""
    received, until = 0, time.perf_counter() + seconds

    async def go_on() -> None:
        nonlocal received
        while time.perf_counter() < until:
            count = await read()
            received += count

    begun = time.perf_counter()
    await asyncio.gather(*(go_on() for _ in range(readers)))
    return received / (time.perf_counter() - begun)


async def ours(url: str, key: str, size: int, readers: int, seconds: float) -> float:
    async with AsyncExitStack() as stack:
        storage = await open_storage(settings_for(f"s3://bucket?endpoint_url={url}"), system_clock)
        stack.push_async_callback(storage.close)
        stored = await storage.stat(key)
        assert stored is not None
        grant, wanted = grant_for(stored), range(size)

        async def read() -> int:
            count = 0
            async with storage.read(grant, wanted) as buffers:
                async for buffer in buffers:
                    count += len(buffer)
            assert count == size
            return count

        return await _rate(read, readers, seconds)


async def aiobotocores(url: str, key: str, size: int, readers: int, seconds: float) -> float:
    async with get_session().create_client("s3", endpoint_url=url) as client:

        async def read() -> int:
            answer = await client.get_object(Bucket="bucket", Key=key, Range=f"bytes=0-{size - 1}")
            count = 0
            async for piece in answer["Body"].iter_chunks(256 * 1024):
                count += len(piece)
            assert count == size
            return count

        return await _rate(read, readers, seconds)


def contests(url: str, seconds: int) -> list[report.Contest]:
    def small(reader: Callable[..., Awaitable[float]]) -> float:
        return uvloop.run(reader(url, "ab/small", SMALL, SMALL_READERS, seconds)) / SMALL  # type: ignore[arg-type]  # a coroutine function

    def big(reader: Callable[..., Awaitable[float]]) -> float:
        return uvloop.run(reader(url, "ab/big", BIG, BIG_READERS, seconds)) / 1e6  # type: ignore[arg-type]  # as above

    return [
        report.Contest(
            f"64 KiB, {SMALL_READERS} readers",
            "requests/s",
            "aiobotocore",
            {
                "aiobotocore": lambda: small(aiobotocores),
                "assetgate": lambda: small(ours),
                "the server, by wrk": lambda: (
                    load.wrk(f"{url}/bucket/ab/small", connections=SMALL_READERS, seconds=seconds).requests_per_second
                ),
            },
        ),
        report.Contest(
            f"16 MiB, {BIG_READERS} readers",
            "MB/s",
            "aiobotocore",
            {
                "aiobotocore": lambda: big(aiobotocores),
                "assetgate": lambda: big(ours),
                "the server, into nothing": lambda: load.sink(
                    f"{url}/bucket/ab/big", connections=BIG_READERS, seconds=seconds, expected=BIG
                ),
            },
        ),
    ]


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Runs of each, in alternation.")
@click.option("--seconds", default=3, show_default=True, help="Length of one run.")
@click.option("--json", "result", type=click.Path(path_type=Path), default=RESULT, help="Where the figures go.")
def main(rounds: int, seconds: int, result: Path) -> None:
    """Measure reads of small and of big objects."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    load.check_tools()
    with ExitStack() as stack:
        files = stack.enter_context(processes.folder("files"))
        for name, size in (("small", SMALL), ("big", BIG)):
            path = files / "bucket/ab" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(name, size))
        nginx = stack.enter_context(peers.serve_static(SERVER, files))
        stack.enter_context(aws_environment(KEYS))
        outcomes = [report.hold(each, rounds, console) for each in contests(nginx.url, seconds)]
    console.print(report.table(outcomes))
    report.save(outcomes, result)
    console.print(f"written to {result}", highlight=False)


if __name__ == "__main__":
    main()
