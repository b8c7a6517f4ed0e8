"""A gateway and one simulated provider that share a clock."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.metadata.task_records import Copy, Task
from tests.support.gateway import Running, running, user_headers
from tests.support.providers.base import SimulatedJob, Simulator
from tests.support.providers.media import PNG, File

NAMES = ("replicate", "fal", "kie", "gemini")
MP4 = bytes.fromhex("000000186674797069736f6d0000020069736f6d6d703432") + b"\0" * 4096
MP3 = b"ID3\x04\0\0\0\0\0\0" + b"\xff\xfb\x90\0" * 1024
FILES = {"image": (PNG, "image/png"), "video": (MP4, "video/mp4"), "music": (MP3, "audio/mpeg")}
LISTS = {"image": "images", "video": "videos", "music": "songs"}
URLS = {"image": "imageUrl", "video": "videoUrl", "music": "audioUrl"}
LOCAL = {"fetch.allow_http": True, "fetch.allow_networks": ["127.0.0.0/8"]}
GENERATE, QUERY, LIST = "/api/ai/generate", "/api/ai/query", "/api/ai/tasks"


@dataclass
class Bench:
    """What a test of AI tasks needs at hand. Tasks are of `u_1` and of the simulator's first model, unless said."""

    gateway: Running
    simulator: Simulator

    @property
    def model(self) -> str:
        return next(iter(self.simulator.models))

    @property
    def media_type(self) -> str:
        return self.simulator.models[self.model]

    @property
    def notify_path(self) -> str:
        return f"/api/ai/notify/{self.simulator.name}"

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        headers = user_headers() if headers is None else headers
        async with self.gateway.client.post(path, json=body, headers=headers) as response:
            document = await response.json()
        return response.status, document.get("data", document)

    async def generate(self, headers: Mapping[str, str] | None = None, **fields: Any) -> dict[str, Any]:
        status, task = await self.post(GENERATE, self.body(**fields), headers)
        assert status == 200, task
        return task

    def body(self, **fields: Any) -> dict[str, Any]:
        usual = {"provider": self.simulator.name, "model": self.model, "mediaType": self.media_type}
        return {**usual, "prompt": "a llama", **fields}

    async def query(self, task: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        status, answer = await self.post(QUERY, {"taskId": task["id"]}, headers)
        assert status == 200, answer
        return answer

    async def listed(self, headers: Mapping[str, str] | None = None, query: str = "") -> tuple[int, dict[str, Any]]:
        headers = user_headers() if headers is None else headers
        async with self.gateway.client.get(LIST + query, headers=headers) as response:
            document = await response.json()
        return response.status, document.get("data", document)

    def job(self, task: Mapping[str, Any]) -> SimulatedJob:
        return self.simulator.jobs[task["providerTaskId"]]

    def succeed(self, task: Mapping[str, Any], *files: File) -> None:
        """Let the provider finish, with one file of the right kind unless files are given."""
        body, media_type = FILES[self.media_type]
        self.simulator.succeed(self.job(task).id, *(files or (File(body, media_type),)))

    async def deliver(self, task: Mapping[str, Any]) -> list[int]:
        """Notify as the provider does: where the task was created to be called, or at the project's hook."""
        job = self.job(task)
        at = None if job.callback_url else self.gateway.url + self.notify_path
        return await self.simulator.deliver(job.id, at=at)

    async def work(self) -> None:
        """Let the poller and the copying do all that is to be done at this moment."""
        while await self.gateway.parts.ai.poller.poll() + await self.gateway.parts.ai.persister.work():
            pass

    async def wait(self, seconds: float) -> None:
        """Let time pass in small steps, working."""
        end = self.gateway.clock() + seconds
        while self.gateway.clock() < end:
            self.gateway.clock.move(min(15.0, end - self.gateway.clock()))
            await self.work()

    async def record(self, task: Mapping[str, Any]) -> Task:
        found = await self.gateway.parts.metadata.task_records.tasks.get(task["id"])
        assert found is not None
        return found

    async def copies(self, task: Mapping[str, Any]) -> list[Copy]:
        return await self.gateway.parts.metadata.task_records.copies.of(task["id"])

    def media(self, task: Mapping[str, Any]) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = task["taskInfo"][LISTS[self.media_type]]
        return entries

    def urls(self, task: Mapping[str, Any]) -> list[str]:
        return [entry[URLS[self.media_type]] for entry in self.media(task)]

    async def read(self, url: str) -> bytes:
        """Read a signed URL as anybody can."""
        parts = urlsplit(url)
        async with self.gateway.client.get(f"{parts.path}?{parts.query}") as response:
            assert response.status == 200, await response.text()
            return await response.read()


def simulator_of(name: str) -> type[Simulator]:
    found: type[Simulator] = importlib.import_module(f"tests.support.providers.{name}").simulator
    return found


async def until(met: Callable[[], Awaitable[bool]], within: float = 20.0) -> None:
    """Look again and again; fail when it takes longer than `within` seconds."""
    async with asyncio.timeout(within):
        while not await met():  # noqa: ASYNC110 - who makes it true is another process or task, and tells nobody
            await asyncio.sleep(0.01)


@asynccontextmanager
async def bench(
    name: str = "replicate", settings: Mapping[str, Any] | None = None, *, folder: Path | None = None
) -> AsyncIterator[Bench]:
    """Run a gateway with this provider; both see the gateway's clock."""
    async with simulator_of(name)() as simulator:
        overrides = {**LOCAL, f"providers.{name}": simulator.tables(), **(settings or {})}
        async with running(overrides, folder=folder) as gateway:
            simulator.clock = gateway.clock
            simulator.media.clock = gateway.clock
            yield Bench(gateway, simulator)
