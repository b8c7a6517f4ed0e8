"""Two gateways over the same parts, one with the express lane and one without it, asked the same bytes."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from gateway.app import Gateway, build, web_application
from gateway.metrics import Metrics
from gateway.web.connections import accepting
from gateway.web.express.lane import Answer, Lane
from tests.support.gateway import DRAIN_TIMEOUT, MovableClock, Running, answering, settings_for

QUIET = 25  # turns of the loop without a byte after which nothing more comes
PATIENCE = 10.0  # seconds
# What is looked up once stays in memory.
SETTINGS = {"cors.origins": ["https://app.example.com"], "records.remember_for": "1h", "records.absent_for": "1h"}
_ID = re.compile(rb"\r\nX-Request-Id: ([^\r]*)")
_DATE = re.compile(rb"\r\nDate: [^\r]*")


class Chunk(NamedTuple):
    """Bytes that are sent together. `waits`: not before all earlier ones are answered; `step`: bytes at a time."""

    data: bytes
    waits: bool = True
    step: int | None = None

    @property
    def pieces(self) -> Iterator[bytes]:
        step = self.step or len(self.data) or 1
        return (self.data[start : start + step] for start in range(0, len(self.data), step))


class Twins(NamedTuple):
    """A gateway to prepare things with, and the Unix sockets on which its parts answer with the lane and without."""

    gateway: Running
    express: Path
    handlers: Path


@asynccontextmanager
async def twins(folder: Path) -> AsyncIterator[Twins]:
    """Run them. On Unix sockets bytes arrive in the moment they are sent: no conversation goes now so, now so."""
    clock = MovableClock()
    async with build(settings_for(None, {**SETTINGS, "server.express": True}), clock) as parts:
        await parts.metadata.upgrade()
        plain = replace(parts, settings=settings_for(None, {**SETTINGS, "server.express": False}), metrics=Metrics())
        express, handlers = folder / "express", folder / "handlers"
        async with answering(parts, clock) as gateway, _answering_at(express, parts), _answering_at(handlers, plain):
            yield Twins(gateway, express, handlers)


@asynccontextmanager
async def _answering_at(path: Path, parts: Gateway) -> AsyncIterator[None]:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.setblocking(False)
    async with accepting(web_application(parts), listening, parts.metrics, DRAIN_TIMEOUT):
        yield


class Receiver(asyncio.Protocol):
    """Gathers what comes, as it comes."""

    def __init__(self) -> None:
        self.gathered = bytearray()
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.gathered += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


async def conversation(path: Path, chunks: Sequence[Chunk]) -> bytes:
    """Send the chunks on one connection, and return all that came back but for ids and the date."""
    transport, receiver = await asyncio.get_running_loop().create_unix_connection(Receiver, str(path))
    try:
        for chunk in chunks:
            if chunk.waits:
                await _settled(receiver)
            for piece in chunk.pieces:
                if not transport.is_closing():
                    transport.write(piece)
                await _turns(2)
        await _settled(receiver)
        if not transport.is_closing():
            transport.write_eof()
        async with asyncio.timeout(PATIENCE):
            await receiver.ended.wait()
    finally:
        transport.close()
    return without_ids(bytes(receiver.gathered))


def without_ids(answers: bytes) -> bytes:
    """Leave out what differs between any two answers, errors' bodies included."""
    for request_id in set(_ID.findall(answers)):
        answers = answers.replace(request_id, b"ID")
    return _DATE.sub(b"", answers)


async def _settled(receiver: Receiver) -> None:
    quiet, seen = 0, -1
    while quiet < QUIET and not receiver.ended.is_set():
        await _turns(1)
        still = len(receiver.gathered) == seen and not _is_looking_up()
        quiet, seen = (quiet + 1 if still else 0), len(receiver.gathered)


def _is_looking_up() -> bool:
    """Tell whether a record is being read, which another thread does in its own time."""
    return any(getattr(task.get_coro(), "__name__", "") == "get" for task in asyncio.all_tasks())


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@dataclass
class Taken:
    """The requests that lanes answered, and those that they left to the handlers."""

    answered: list[bytes] = field(default_factory=list)
    left: list[bytes] = field(default_factory=list)


@contextmanager
def watched() -> Iterator[Taken]:
    """Note which requests any lane answers; the answers themselves are as ever."""
    taken, answer = Taken(), Lane.answer

    def noting(lane: Lane, data: bytes, peer: str | None) -> Answer | None:
        found = answer(lane, data, peer)
        (taken.left if found is None else taken.answered).append(data)
        return found

    with mock.patch.object(Lane, "answer", noting):
        yield taken


def request(method: str, target: str, *lines: tuple[str, str], body: bytes = b"") -> bytes:
    """Write a plain request of HTTP/1.1."""
    length = [("Content-Length", str(len(body)))] if body else []
    fields = [("Host", "gateway.test"), *lines, *length]
    head = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape") + body
