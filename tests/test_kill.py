"""`kill -9` of the whole process, again and again: every task ends well, every item is stored once, nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sized
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession

from tests.support.ai import until
from tests.support.engines import ENGINES
from tests.support.gateway import environment, serve_process, user_headers
from tests.support.providers.media import PNG, File
from tests.support.providers.replicate import ReplicateSimulator
from tests.support.servers import processes

SEED = 20261122
LONGEST = 0.9  # seconds from the answer of generate; the slow file takes a little longer
PAIRS = [("sqlite+file", 20), ("postgres+s3", 8)]


@pytest.fixture
async def simulator() -> AsyncIterator[ReplicateSimulator]:
    async with ReplicateSimulator() as started:
        yield started


def settings_for(simulator: ReplicateSimulator, port: int) -> dict[str, str]:
    tables = simulator.tables()
    return {
        "server.port": str(port),
        "providers.replicate.api_key": tables["api_key"],
        "providers.replicate.base_url": tables["base_url"],
        "providers.replicate.result_hosts": "127.0.0.1",
        "providers.replicate.webhook_secrets": tables["webhook_secrets"][0],
        "fetch.allow_http": "true",
        "fetch.allow_networks": "127.0.0.0/8",
        "tasks.lease": "1s",
        "tasks.interval": "100ms",
        "tasks.query_interval": "100ms",
        "tasks.creation_patience": "1s",
        "sweep.abandoned_after": "0s",
        "sweep.interval": "1h",
    }


@asynccontextmanager
async def served(folder: Path, settings: Mapping[str, str]) -> AsyncIterator[tuple[ClientSession, processes.Process]]:
    """Serve in a process of its own that is killed in the end."""
    context = serve_process(folder, settings)
    gateway = await asyncio.to_thread(context.__enter__)
    try:
        async with ClientSession(gateway.url, headers=user_headers()) as client:
            yield client, gateway.process
    finally:
        gateway.process.kill()
        await asyncio.to_thread(context.__exit__, None, None, None)


async def post(client: ClientSession, path: str, body: Any) -> dict[str, Any]:
    async with client.post(path, json=body) as response:
        document = await response.json()
        assert response.status == 200, document
        data: dict[str, Any] = document["data"]
        return data


def wanted(number: int) -> dict[str, Any]:
    model = "black-forest-labs/flux-schnell"
    return {"provider": "replicate", "model": model, "mediaType": "image", "prompt": f"llama {number}"}


def files(number: int) -> list[File]:
    """Two files of a task: a small one, and one that comes slowly."""
    slow = File(PNG + b"s%d" % number, padded_to=2 * 2**20, pause=0.03)
    return [File(PNG + b"f%d" % number), slow]


async def success(client: ClientSession, task_id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            task = await post(client, "/api/ai/query", {"taskId": task_id})
            assert task["status"] in {"pending", "processing", "success"}, task
            if task["status"] == "success":
                return task
            await asyncio.sleep(0.1)


async def head_of(client: ClientSession, url: str) -> bytes:
    async with client.get(url) as response:
        assert response.status == 200
        return (await response.read())[: len(PNG)]


async def holds(found: Sized) -> bool:
    return len(found) > 0


async def swept(folder: Path, settings: Mapping[str, str]) -> dict[str, Any]:
    """Run `assetgate sweep --orphans --remove` in a process of its own."""
    command = [sys.executable, "-m", "gateway", "sweep", "--orphans", "--remove", "--json"]
    whole = {**os.environ, **environment(settings)}
    done = await asyncio.to_thread(subprocess.run, command, cwd=folder, env=whole, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("pair", "kills"), PAIRS)
async def test_kills_at_random_moments_lose_nothing_and_store_nothing_twice(
    tmp_path: Path, simulator: ReplicateSimulator, pair: str, kills: int, request: pytest.FixtureRequest
) -> None:
    engines = {name: str(value) for name, value in ENGINES[pair](tmp_path, request.getfixturevalue).items()}
    settings = {**settings_for(simulator, processes.free_port()), **engines}
    moments = random.Random(SEED)  # noqa: S311 - a test that can be repeated
    tasks: list[dict[str, Any]] = []
    for number in range(kills):
        async with served(tmp_path, settings) as (client, process):
            task = await post(client, "/api/ai/generate", wanted(number))
            tasks.append(task)
            simulator.succeed(task["providerTaskId"], *files(number))
            telling = asyncio.create_task(simulator.deliver(task["providerTaskId"]))
            await asyncio.sleep(moments.uniform(0, LONGEST))
            process.kill()
            await telling
    async with served(tmp_path, settings) as (client, _):
        done = [await success(client, task["id"]) for task in tasks]
        urls = [entry["imageUrl"] for task in done for entry in task["taskInfo"]["images"]]
        assert [await head_of(client, url) for url in urls] == [PNG] * (2 * kills)
    found = await swept(tmp_path, settings)
    again = await swept(tmp_path, settings)
    assert (again["orphans"]["objects"], again["orphans"]["strays"], again["orphans"]["lost"]) == (2 * kills, [], [])
    assert found["orphans"]["records"] == again["orphans"]["records"] == 2 * kills
    ids = [entry["id"] for task in done for entry in task["taskInfo"]["images"]]
    assert len(set(ids)) == 2 * kills
    assert len(simulator.jobs) == kills, "no job was begun twice"


async def test_a_kill_while_the_provider_begins_is_mended_by_its_notification(
    tmp_path: Path, simulator: ReplicateSimulator
) -> None:
    settings = settings_for(simulator, processes.free_port())
    released = asyncio.Event()
    simulator.hold_creation(released)
    headers = {"Idempotency-Key": "k-1"}
    async with served(tmp_path, settings) as (client, process):
        creating = asyncio.create_task(client.post("/api/ai/generate", json=wanted(0), headers=headers))
        await until(lambda: holds(simulator.calls))
        process.kill()
        with pytest.raises(ClientError):
            await creating
    released.set()
    await until(lambda: holds(simulator.jobs))
    (job,) = simulator.jobs.values()
    simulator.succeed(job.id, *files(0))
    async with served(tmp_path, settings) as (client, _):
        async with client.post("/api/ai/generate", json=wanted(0), headers=headers) as response:
            task = (await response.json())["data"]
        assert await simulator.deliver(job.id) == [200]
        done = await success(client, task["id"])
    assert done["providerTaskId"] == job.id
    assert len(simulator.jobs) == 1, "the same key does not begin it again"
