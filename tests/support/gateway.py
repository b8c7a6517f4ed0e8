"""The real application for tests: in this process with a clock that tests move, or as a process of its own."""

from __future__ import annotations

import hashlib
import io
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from aiohttp import ClientResponse, ClientSession, DummyCookieJar, FormData

from gateway.app import Gateway, build, web_application
from gateway.settings import SCOPES, Settings
from gateway.settings.reading import defaults
from gateway.web.connections import accepting
from gateway.web.observed import OBSERVED
from tests.support.journal import Journal
from tests.support.servers import processes

ROOT = Path(__file__).resolve().parents[2]
JWT_SECRET = "a-secret-of-the-tests-that-is-long-enough-for-hs384-and-for-hs512-as-well"
SIGNING_KEYS = "k1:dGhpcy1pcy1hLWtleS1vZi10aGUtdGVzdHMtMzJieXQ"
ALL_SCOPES = "all"
FAR_AHEAD = 4_000_000_000  # seconds since 1970; no test moves its clock beyond
UPLOAD = "/api/storage/upload-media"
DRAIN_TIMEOUT = 1.0  # seconds

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)

Part = tuple[str, str] | tuple[str, str | None, bytes]  # a field: name, value; a file: name, file name, bytes


class MovableClock:
    """Begins at the present, so that it agrees with the disk's times, and stands still until it is moved."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Running:
    """A gateway that answers over HTTP. `client` keeps no cookies and follows no redirects by itself."""

    parts: Gateway
    url: str
    client: ClientSession
    clock: MovableClock
    journal: Journal

    async def upload(self, *parts: Part, headers: Mapping[str, str] | None = None) -> ClientResponse:
        """Send a form and return the answer, read whole."""
        async with self.client.post(UPLOAD, data=form(*parts), headers=headers) as response:
            await response.read()
            return response

    async def asset(
        self,
        data: bytes = PNG,
        purpose: str = "reference_image",
        filename: str = "picture.png",
        *,
        headers: Mapping[str, str] | None = None,
        **fields: str,
    ) -> str:
        """Upload one file (for `u_1`, when no headers say otherwise) and return its id."""
        parts: list[Part] = [("purpose", purpose), *fields.items(), ("files", filename, data)]
        response = await self.upload(*parts, headers=user_headers() if headers is None else headers)
        document = await response.json()
        assert response.status == 200, document
        return str(document["data"]["assetId"])

    async def sign(self, asset_id: str, *, headers: Mapping[str, str] | None = None, **terms: Any) -> str:
        """Return a signed URL's path and query, minted by a service unless headers say otherwise."""
        body = {"assetIds": [asset_id], **terms}
        headers = service_headers("sign") if headers is None else headers
        async with self.client.post("/api/storage/assets/sign", json=body, headers=headers) as response:
            document = await response.json()
        assert response.status == 200, document
        return str(document["data"]["results"][0]["url"])

    async def objects(self) -> list[str]:
        """The keys of all objects that are stored."""
        return [stored.key async for stored in self.parts.storage.list()]

    async def records(self) -> list[str]:
        """The ids of all assets that may have bytes, whoever owns them and whatever their state."""
        return [asset_id async for _, asset_id, _ in self.parts.metadata.stored_keys()]


@asynccontextmanager
async def running(settings: Mapping[str, Any] | None = None, *, folder: Path | None = None) -> AsyncIterator[Running]:
    """Run the application in memory, or with SQLite and files in `folder`; `settings` are overrides by dotted name."""
    clock = MovableClock()
    async with build(settings_for(folder, settings), clock) as parts:
        await parts.metadata.upgrade()
        async with answering(parts, clock) as gateway:
            yield gateway


@asynccontextmanager
async def answering(parts: Gateway, clock: MovableClock) -> AsyncIterator[Running]:
    """Accept connections for parts that are joined already, as `serve` does, and hand out a client."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    journal = Journal()
    application = web_application(parts, journal.log)
    journal.observed = application[OBSERVED]
    server = accepting(application, listening, parts.metrics, DRAIN_TIMEOUT)
    async with server, ClientSession(url, cookie_jar=DummyCookieJar()) as client:
        yield Running(parts, url, client, clock, journal)


def settings_for(folder: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The default settings, with callers of the tests; engines in memory, or in `folder`."""
    tree = defaults()
    engines = {"metadata": "memory://", "storage": "memory://"}
    if folder is not None:
        engines = {"metadata": f"sqlite:///{folder}/assetgate.db", "storage": f"file:///{folder}/objects"}
    for name, value in {**_identities(), **engines, **(overrides or {})}.items():
        *path, last = name.split(".")
        table = tree
        for step in path:
            table = table.setdefault(step, {})
        table[last] = value
    return Settings.model_validate(tree)


def _identities() -> dict[str, str]:
    settings = {"signing.keys": SIGNING_KEYS, "identity.jwt.secret": JWT_SECRET}
    for scope in (*SCOPES, ALL_SCOPES):
        key = service_key(scope)
        settings[f"identity.services.{scope}.key_sha256"] = hashlib.sha256(key.encode()).hexdigest()
        settings[f"identity.services.{scope}.scopes"] = ",".join(sorted(SCOPES)) if scope == ALL_SCOPES else scope
    return settings


def service_key(scope: str = ALL_SCOPES) -> str:
    return f"ag_a-key-of-the-tests-for-{scope}"


def service_headers(scope: str = ALL_SCOPES) -> dict[str, str]:
    """The headers of a service that has this one scope, or all of them."""
    return {"Authorization": f"Bearer {service_key(scope)}"}


def user_headers(user: str = "u_1", *roles: str) -> dict[str, str]:
    """The headers of a signed-in user."""
    claims = {"sub": user, "exp": FAR_AHEAD, "roles": list(roles)}
    return {"Authorization": f"Bearer {jwt.encode(claims, JWT_SECRET, 'HS256')}"}


def guest_headers(response: ClientResponse) -> dict[str, str]:
    """The headers of the guest whose cookie came with `response`."""
    cookie = response.cookies["assetgate_guest"]
    return {"Cookie": f"{cookie.key}={cookie.value}"}


def form(*parts: Part) -> FormData:
    """Make a multipart form whose parts stand in this order."""
    data = FormData(default_to_multipart=True)
    for part in parts:
        if len(part) == 2:
            data.add_field(part[0], part[1])
        else:
            content = io.BytesIO(part[2])  # as bytes, the client would warn of large ones
            data.add_field(part[0], content, filename=part[1], content_type="application/octet-stream")
    return data


@dataclass
class Served:
    """A gateway in a process of its own, in the embedded mode inside `folder`."""

    url: str
    folder: Path
    process: processes.Process = field(repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid


@contextmanager
def serve_process(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Run `assetgate serve` on a free port; what it keeps stays in `folder`, so that the next one finds it."""
    log = folder / "serve.log"
    log.write_text("")
    process = processes.start(
        "assetgate", [sys.executable, "-m", "gateway", "serve"], log, env=environment(settings), cwd=folder
    )
    try:
        yield Served(process.wait_for(r"Assetgate listening on (\S+)$"), folder, process)
    finally:
        process.stop()


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Write settings as the environment variables of a process."""
    named = {"server.port": "0", **_identities(), **(settings or {})}
    return {
        "PYTHONPATH": str(ROOT),
        **{f"ASSETGATE_{name.upper().replace('.', '_')}": value for name, value in named.items()},
    }
