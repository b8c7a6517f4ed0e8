"""Two figures of AI tasks: notifications accepted, and results copied beside a plain download-and-put loop.

    python -m benchmarks.ai_tasks [--rounds 3] [--notifications 2000] [--json benchmarks/results/ai_tasks.json]

The gateway runs on SQLite and files. Each notification is verified and on the disk before it is answered. A copied item
is hashed, sniffed, synced and recorded, its task finished; the loop beside it only downloads with aiohttp and writes
and syncs a file. Both download from the same server, with the same number of downloads at once.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
from aiohttp import ClientSession, TCPConnector, web
from rich.console import Console

from benchmarks import client, report
from tests.support.ai import LOCAL
from tests.support.gateway import Running, running
from tests.support.providers.signing import SECRET, standard_headers
from tests.support.servers import processes

AT_ONCE = 8  # downloads; the default of tasks.copies
SIZES = {"64 KiB pictures": (64 * 1024, 200), "16 MiB films": (16 * 2**20, 8)}
RESULT = processes.ROOT / "benchmarks/results/ai_tasks.json"
_NUMBERS = itertools.count()


async def notify(gateway: Running, count: int, at_once: int) -> tuple[float, float]:
    """Send signed notifications over keep-alive connections; return how many a second, and the p99 in ms."""
    took: list[float] = []

    async def one() -> None:
        body = b'{"id":"job-%d","status":"succeeded"}' % next(_NUMBERS)
        headers = standard_headers(f"msg_{next(_NUMBERS)}", gateway.clock(), body)
        began = time.perf_counter()
        async with gateway.client.post("/api/ai/notify/replicate", data=body, headers=headers) as response:
            await response.read()
            assert response.status == 200
        took.append(time.perf_counter() - began)

    async def sender(share: int) -> None:
        for _ in range(share):
            await one()

    began = time.perf_counter()
    await asyncio.gather(*(sender(count // at_once) for _ in range(at_once)))
    elapsed = time.perf_counter() - began
    return len(took) / elapsed, statistics.quantiles(took, n=100)[98] * 1000


@asynccontextmanager
async def files_of(content: bytes) -> AsyncIterator[str]:
    """Serve the same bytes under every name."""

    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=content)

    app = web.Application()
    app.router.add_get("/{name}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def copied(gateway: Running, origin: str, purpose: str, count: int) -> float:
    """Have the gateway copy `count` files, and return how many a second."""
    imports = [{"url": f"{origin}/{n}", "purpose": purpose, "owner": "user:u_1"} for n in range(count)]
    headers = {"Authorization": "Bearer ag_a-key-of-the-tests-for-upload"}
    for body in imports:
        async with gateway.client.post("/api/storage/assets/import", json=body, headers=headers) as response:
            assert response.status == 202, await response.text()
    began = time.perf_counter()
    attempts = await gateway.parts.ai.persister.work()
    elapsed = time.perf_counter() - began
    assert attempts == count
    return count / elapsed


async def looped(origin: str, folder: Path, count: int) -> float:
    """Download and write `count` files as a plain loop does, and return how many a second."""
    numbers = iter(range(count))

    async def worker(session: ClientSession) -> None:
        for number in numbers:
            async with session.get(f"{origin}/{number}") as response:
                with (folder / f"{next(_NUMBERS)}").open("wb") as file:
                    async for chunk in response.content.iter_any():
                        await asyncio.to_thread(file.write, chunk)
                    await asyncio.to_thread(os.fsync, file.fileno())

    began = time.perf_counter()
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        await asyncio.gather(*(worker(session) for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - began)


async def measure(rounds: int, notifications: int, console: Console) -> list[report.Outcome]:
    providers = {"providers.replicate": {"api_key": "k", "webhook_secrets": [SECRET]}}
    settings = {**LOCAL, **providers, "tasks.copies": AT_ONCE, "tasks.copies_per_host": AT_ONCE}
    outcomes: list[report.Outcome] = []
    with tempfile.TemporaryDirectory(prefix="assetgate-bench-") as name:
        folder = Path(name)
        async with running(settings, folder=folder / "gateway") as gateway:
            await notify(gateway, 64, 16)
            for at_once in (1, 16):
                rates = [await notify(gateway, notifications, at_once) for _ in range(rounds)]
                p99 = statistics.median(tail for _, tail in rates)
                console.print(f"notifications, {at_once} at once: p99 {p99:.1f} ms", highlight=False)
                work = f"notifications, {at_once} at once, p99 {p99:.1f} ms"
                contest = report.Contest(work, "accepted/s", "assetgate", {})
                outcomes.append(report.Outcome(contest, {"assetgate": [rate for rate, _ in rates]}))
            for work, (size, count) in SIZES.items():
                outcomes.append(await contest_of(gateway, folder, work, size, count, rounds))
    return outcomes


async def contest_of(gateway: Running, folder: Path, work: str, size: int, count: int, rounds: int) -> report.Outcome:
    """Let both take turns at the same files."""
    film = size > 2**20
    purpose = "generated_video" if film else "generated_image"
    figures: dict[str, list[float]] = {"download and put": [], "assetgate": []}
    async with files_of(client.film(size) if film else client.picture(size)) as origin:
        for _ in range(rounds):
            figures["download and put"].append(await looped(origin, folder, count))
            figures["assetgate"].append(await copied(gateway, origin, purpose, count))
    rate = statistics.median(figures["assetgate"]) * size / 1e6
    contest = report.Contest(f"copies of {work}, {rate:,.0f} MB/s", "items/s", "download and put", {})
    return report.Outcome(contest, figures)


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Runs of each, in alternation.")
@click.option("--notifications", default=2000, show_default=True, help="Notifications in one run.")
@click.option("--json", "result", type=click.Path(path_type=Path), default=RESULT, help="Where the figures go.")
def main(rounds: int, notifications: int, result: Path) -> None:
    """Measure notifications accepted, and items copied."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    outcomes = asyncio.run(measure(rounds, notifications, console))
    console.print(report.table(outcomes))
    report.save(outcomes, result)
    console.print(f"written to {result}", highlight=False)


if __name__ == "__main__":
    main()
