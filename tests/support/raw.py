"""HTTP/1.1 by hand: what is sent is just what a test wrote, and what came back is kept as it came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import orjson
from multidict import CIMultiDict, CIMultiDictProxy

Lines = Sequence[tuple[str, str]]
PATIENCE = 20.0  # seconds for one answer; two busy cores are slow
BODILESS = frozenset({204, 304})


@dataclass(frozen=True)
class Answer:
    status: int
    lines: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        return CIMultiDictProxy(CIMultiDict(self.lines))

    @property
    def document(self) -> Any:
        return orjson.loads(self.body)


class Connection:
    """One connection; requests on it are answered in turn."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self.reader = reader
        self.writer = writer
        self._host = host

    async def ask(self, method: str, target: str, lines: Lines = (), body: bytes = b"") -> Answer:
        self.send(method, target, lines, body)
        async with asyncio.timeout(PATIENCE):
            return await self.answer(method)

    def send(self, method: str, target: str, lines: Lines = (), body: bytes = b"") -> None:
        length = [("Content-Length", str(len(body)))] if body else []
        head = [f"{method} {target} HTTP/1.1", f"Host: {self._host}"]
        head += [f"{name}: {value}" for name, value in (*lines, *length)]
        self.writer.write("\r\n".join([*head, "", ""]).encode() + body)

    async def head(self, method: str, target: str, lines: Lines = ()) -> Answer:
        """Ask, and read no more of the answer than its head: the body is for the test to take."""
        self.send(method, target, lines)
        return await self._head()

    async def answer(self, method: str) -> Answer:
        """Read the answer to a request of this method, its body framed as its own headers say."""
        found = await self._head()
        if method == "HEAD" or found.status in BODILESS:
            return found
        return replace(found, body=await self._body(found.headers))

    async def _head(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *fields = head.rstrip("\r\n").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version in {"HTTP/1.1", "HTTP/1.0"}, first  # the latter of what could not be read as a request
        lines = tuple((name, value) for name, _, value in (line.partition(": ") for line in fields))
        return Answer(int(status), lines, b"")

    async def _body(self, headers: CIMultiDictProxy[str]) -> bytes:
        if "Content-Length" in headers:
            return await self.reader.readexactly(int(headers["Content-Length"]))
        if headers.get("Transfer-Encoding") == "chunked":
            return b"".join([chunk async for chunk in self._chunks()])
        return await self.reader.read()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readline(), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readline()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Connection(reader, writer, parts.netloc)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def ask(url: str, method: str, target: str, lines: Lines = (), body: bytes = b"") -> Answer:
    """Ask one thing on a connection of its own."""
    async with connected(url) as connection:
        return await connection.ask(method, target, lines, body)
