"""What all simulated providers have in common: a server, jobs that a test moves along, and notifications.

A simulator is started with `async with`; `settings()` are those of a gateway that uses it. A test moves a job with
`advance`, `succeed`, `fail` and `cancel`, and sends what the provider would send with `deliver`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from aiohttp.typedefs import Handler

from gateway.clock import Clock
from gateway.settings import Provider
from tests.support.providers.media import File, MediaHost

State = Literal["queued", "running", "succeeded", "failed", "canceled", "unheard_of"]
API_KEY = "test-api-key-0001"


@dataclass
class SimulatedJob:
    """A job as the provider sees it. `body` is what it was created with."""

    id: str
    model: str
    body: Mapping[str, Any]
    callback_url: str | None
    state: State = "queued"
    urls: list[str] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    error: str = ""
    finished_at: float = 0.0


@dataclass
class Call:
    """A request that the provider received."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


class Simulator:
    """One provider on a free local port. Subclasses speak its protocol."""

    name: ClassVar[str]
    key_header: ClassVar[tuple[str, str]] = ("Authorization", f"Bearer {API_KEY}")
    can_cancel: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]]  # one for each shape of the API, with the media type it makes

    def __init__(self, clock: Clock = time.time) -> None:
        self.clock = clock
        self.jobs: dict[str, SimulatedJob] = {}
        self.calls: list[Call] = []
        self.scripted: deque[tuple[int, Any, Mapping[str, str]]] = deque()  # answers to give instead of the right ones
        self.media = MediaHost(clock)
        self._held: asyncio.Event | None = None
        self._numbers = itertools.count(1)
        self._port = 0

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._script], client_max_size=64 * 1024 * 1024)
        app.router.add_get("/files/{name:.+}", self.media.handle)
        self.add_routes(app.router)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def add_routes(self, router: web.UrlDispatcher) -> None:
        raise NotImplementedError

    def tables(self) -> dict[str, Any]:
        """Return `providers.<name>` as a settings file would have it."""
        return {"api_key": API_KEY, "base_url": self.origin, "result_hosts": ["127.0.0.1"]}

    def settings(self, **changes: Any) -> Provider:
        return Provider(**(self.tables() | changes))

    def signed(self, job_id: str, now: float | None = None) -> tuple[dict[str, str], bytes]:
        """Return headers and body of the notification about a job as it stands."""
        raise NotImplementedError

    def new_job(self, model: str, body: Mapping[str, Any], callback_url: str | None) -> SimulatedJob:
        job = SimulatedJob(self.new_id(), model, body, callback_url)
        self.jobs[job.id] = job
        return job

    def hold_creation(self, released: asyncio.Event) -> None:
        """Let every request to create wait for `released`."""
        self._held = released

    def new_id(self) -> str:
        return f"{self.name}-job-{next(self._numbers)}"

    def advance(self, job_id: str, state: State) -> None:
        self.jobs[job_id].state = state

    def succeed(self, job_id: str, *files: File) -> SimulatedJob:
        """End a job well, with these files or one picture."""
        job = self.jobs[job_id]
        job.state, job.finished_at = "succeeded", self.clock()
        for number, file in enumerate(files or (File(),)):
            job.files.append(file)
            job.urls.append(self.publish(f"{job.id}-{number}", file))
        return job

    def publish(self, name: str, file: File) -> str:
        self.media.files[name] = file
        return f"{self.origin}/files/{name}"

    def fail(self, job_id: str, error: str = "out of memory") -> None:
        job = self.jobs[job_id]
        job.state, job.error, job.finished_at = "failed", error, self.clock()

    def cancel(self, job_id: str) -> None:
        self.jobs[job_id].state = "canceled"

    async def deliver(self, job_id: str, attempts: int = 1, *, at: str | None = None) -> list[int]:
        """Post the notification until a 2xx comes, as providers do; return the statuses, 0 for no answer.

        Every attempt is signed anew. `at` replaces the URL that the job was created with.
        """
        url = at or self.jobs[job_id].callback_url
        assert url is not None, "the job was created without a callback URL"
        statuses: list[int] = []
        async with ClientSession(timeout=ClientTimeout(total=15)) as session:
            for _ in range(attempts):
                headers, body = self.signed(job_id)
                statuses.append(await _post(session, url, headers, body))
                if 200 <= statuses[-1] < 300:
                    break
                await asyncio.sleep(0)
        return statuses

    def job_of(self, request: web.Request, field_name: str = "id") -> SimulatedJob:
        job = self.jobs.get(request.match_info[field_name])
        if job is None:
            raise web.HTTPNotFound(text=json.dumps({"detail": "Not found"}), content_type="application/json")
        return job

    @web.middleware
    async def _script(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/files/") or request.path.endswith("jwks.json"):
            return await handler(request)
        text = await request.text()
        body = json.loads(text) if text else None
        self.calls.append(Call(request.method, request.path, dict(request.query), dict(request.headers), body))
        if request.method == "POST" and self._held is not None:
            await self._held.wait()
        if self.scripted:
            status, answer, headers = self.scripted.popleft()
            content = answer if isinstance(answer, str) else json.dumps(answer)
            return web.Response(status=status, text=content, headers=headers, content_type="application/json")
        if request.headers.get(self.key_header[0]) != self.key_header[1]:
            return web.json_response(self.unauthorized(), status=401)
        return await handler(request)

    def unauthorized(self) -> Any:
        return {"detail": "Unauthenticated"}


async def _post(session: ClientSession, url: str, headers: Mapping[str, str], body: bytes) -> int:
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return response.status
    except (ClientError, TimeoutError):
        return 0
