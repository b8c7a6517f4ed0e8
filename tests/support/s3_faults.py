"""An S3 server of one bucket without parts, that does as HTTP says until it is told to do something else."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache

STEP = 64 * 1024  # bytes of one write
_EMPTY_LIST = b'<?xml version="1.0"?><ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>'


@dataclass
class Exchange:
    """One GET: what was asked for, and the means to answer it well or badly."""

    server: FaultyS3
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: str
    data: bytes
    asked: tuple[int, int]  # first and last byte

    @property
    def wanted(self) -> bytes:
        return self.data[self.asked[0] : self.asked[1] + 1]

    def header(self, name: str) -> str | None:
        found = re.search(rf"(?im)^{name}: (.*?)\r?$", self.head)
        return found[1] if found else None

    def answer(self, status: int = 206, **other: str | None) -> bytes:
        """Make the head that is right for the range; `other` are headers that are not, None drops one."""
        first, last = self.asked
        right = {
            "Content-Length": str(last + 1 - first),
            "Content-Range": f"bytes {first}-{last}/{len(self.data)}",
            "ETag": f'"{etag_of(self.data)}"',
        }
        fields = {**right, **{name.replace("_", "-"): value for name, value in other.items()}}
        lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
        return "\r\n".join([f"HTTP/1.1 {status} As Told", *lines, "", ""]).encode()

    async def send(self, data: bytes, step: int = STEP) -> None:
        for start in range(0, len(data), step):
            self.writer.write(data[start : start + step])
            await self.writer.drain()
            self.server.sent += len(data[start : start + step])

    async def hang(self) -> None:
        """Say nothing more until the client leaves."""
        while await self.reader.read(STEP):
            pass

    def reset(self) -> None:
        """End the connection by RST, as the death of a process does."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault = Callable[[Exchange], Awaitable[None]]


@dataclass
class FaultyS3:
    """`faults` are each for one GET of an object, in order; when they are used up it answers as it should.

    `puts` are for PUTs, and come after the object was kept as `keep` makes it.
    """

    port: int = 0
    bucket: str = "bucket"
    objects: dict[str, bytes] = field(default_factory=dict, repr=False)  # asyncio writes down what a fixture returns
    faults: deque[Fault] = field(default_factory=deque)
    puts: deque[Fault] = field(default_factory=deque)
    keep: Callable[[bytes], bytes] = bytes
    listing: Fault = field(default_factory=lambda: answer_with(200, Content_Range=None))
    gets: list[str] = field(default_factory=list, repr=False)
    connections: int = 0
    sent: int = 0
    secure: bool = False
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        scheme = "https" if self.secure else "http"
        return f"s3://{self.bucket}/?endpoint_url={scheme}://127.0.0.1:{self.port}&region=us-east-1"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        self.secure = context is not None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and cut off whoever is connected."""
        assert self._server is not None
        self._server.close()
        while self._open:
            for writer in self._open:
                writer.transport.abort()
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self.connections += 1
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await self._answer(head, reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client left
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = head.split(" ", 2)
        path = target.partition("?")[0].removeprefix(f"/{self.bucket}").removeprefix("/")
        if not path:
            await self.listing(Exchange(self, reader, writer, head, _EMPTY_LIST, (0, len(_EMPTY_LIST) - 1)))
            return
        if method == "PUT":
            self.objects[path] = self.keep(await _body(head, reader, writer))
        data = self.objects.get(path, b"")
        if method in _ANSWERS:
            exchange = Exchange(self, reader, writer, head, data, (0, len(data) - 1))
            await (self.puts.popleft() if method == "PUT" and self.puts else _ANSWERS[method])(exchange)
            if method == "DELETE":
                self.objects.pop(path, None)
            return
        found = re.search(r"(?im)^range: bytes=(\d+)-(\d+)", head)
        asked = (int(found[1]), int(found[2])) if found else (0, len(data) - 1)
        self.gets.append(head)
        fault = self.faults.popleft() if self.faults else rightly
        await fault(Exchange(self, reader, writer, head, data, asked))


@lru_cache
def etag_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@asynccontextmanager
async def faulty_s3() -> AsyncIterator[FaultyS3]:
    server = FaultyS3()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def rightly(exchange: Exchange) -> None:
    """Answer as S3 does, without a fault."""
    match = exchange.header("if-match")
    if not exchange.data:
        await refuse(404, "NoSuchKey")(exchange)
    elif match not in {None, f'"{etag_of(exchange.data)}"'}:
        await refuse(412, "PreconditionFailed")(exchange)
    elif exchange.asked[0] >= len(exchange.data):
        await refuse(416, "InvalidRange")(exchange)
    else:
        exchange.asked = (exchange.asked[0], min(exchange.asked[1], len(exchange.data) - 1))
        await exchange.send(exchange.answer() + exchange.wanted)


def refuse(status: int, code: str, **headers: str) -> Fault:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode()

    async def answer(exchange: Exchange) -> None:
        head = exchange.answer(status, Content_Range=None, ETag=None, Content_Length=str(len(body)), **headers)
        await exchange.send(head + body)

    return answer


def answer_with(status: int = 206, body: Callable[[Exchange], bytes] | None = None, **headers: str | None) -> Fault:
    """Answer with some headers that are wrong, and the bytes that were asked for or others."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(exchange.answer(status, **headers) + (body(exchange) if body else exchange.wanted))

    return answer


def reset_after(count: int) -> Fault:
    """Reset the connection after so many bytes of the body."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(exchange.answer() + exchange.wanted[:count])
        exchange.reset()

    return answer


def close_after(count: int | None, **headers: str | None) -> Fault:
    """Close the connection in good order after so many bytes of the body, None: after all."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(exchange.answer(206, **headers) + exchange.wanted[:count])
        exchange.writer.close()

    return answer


def hang_after(count: int) -> Fault:
    """Say nothing more after so many bytes of the body, until the client leaves."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(exchange.answer() + exchange.wanted[:count])
        await exchange.hang()

    return answer


def raw(data: bytes) -> Fault:
    """Send just this, and then say nothing more."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(data)
        await exchange.hang()

    return answer


def after(prelude: bytes) -> Fault:
    """Send this before the right answer."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(prelude)
        await rightly(exchange)

    return answer


def in_chunks(change: Callable[[bytes], bytes] = bytes) -> Fault:
    """Send the body, or what `change` makes of it, in chunks that are cut anew where they are written."""

    async def answer(exchange: Exchange) -> None:
        data = change(exchange.wanted)
        pieces = [data[start : start + 10_000] for start in range(0, len(data), 10_000)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        await exchange.send(exchange.answer(Content_Length=None, Transfer_Encoding="chunked"))
        await exchange.send(body, step=7_777)

    return answer


async def reset(exchange: Exchange) -> None:
    """Reset the connection instead of an answer."""
    exchange.reset()


async def drip(exchange: Exchange) -> None:
    """Send the head and the beginning of the body in small pieces, each of which arrives by itself."""
    await exchange.send(exchange.answer() + exchange.wanted[:1000], step=13)
    await exchange.send(exchange.wanted[1000:], step=997)


async def _body(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    if re.search(r"(?im)^expect: 100-continue", head):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = re.search(r"(?im)^content-length: (\d+)", head)
    return await reader.readexactly(int(length[1]) if length else 0)


async def _facts(exchange: Exchange) -> None:
    if exchange.data:
        modified = "Sun, 22 Nov 2026 19:46:57 GMT"
        await exchange.send(exchange.answer(200, Content_Range=None, Last_Modified=modified))
    else:
        await exchange.send(exchange.answer(404, Content_Length="0", Content_Range=None, ETag=None))


_ANSWERS: dict[str, Fault] = {
    "PUT": answer_with(200, lambda _: b"", Content_Length="0", Content_Range=None),
    "HEAD": _facts,
    "DELETE": answer_with(204, lambda _: b"", Content_Length=None, Content_Range=None, ETag=None),
}
