"""Requests that no client library would send, and forms byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from tests.support.raw import PATIENCE, Answer, Connection, connected

BOUNDARY = "limit"
END = f"--{BOUNDARY}--\r\n".encode()


async def exchange(url: str, *pieces: bytes) -> Answer:
    """Send all the pieces, and read the answer even if the server stops listening before."""
    async with connected(url) as connection:
        with suppress(ConnectionError):
            for piece in pieces:
                connection.writer.write(piece)
                await connection.writer.drain()
        return await answer_of(connection)


async def answer_of(connection: Connection) -> Answer:
    """Read an answer. Raises `TimeoutError` when it does not come, `IncompleteReadError` when it breaks off."""
    async with asyncio.timeout(PATIENCE):
        return await connection.answer("GET")


async def send_until_answered(connection: Connection, piece: bytes, *, most: int) -> int:
    """Send the piece again and again until an answer begins to come; return how often, `most` at most."""
    answered = asyncio.create_task(_until_readable(connection.reader))
    try:
        for sent in range(most):
            connection.writer.write(piece)
            with suppress(ConnectionError):
                await connection.writer.drain()
            await asyncio.sleep(0)
            if answered.done():
                return sent + 1
        return most
    finally:
        answered.cancel()
        with suppress(asyncio.CancelledError):
            await answered


async def _until_readable(reader: asyncio.StreamReader) -> None:
    # A stream has no way to look without taking; its own wait for data is what every read begins with.
    await reader._wait_for_data("look")  # type: ignore[attr-defined]  # noqa: SLF001


def head_of(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """Write a request's head; what is no Unicode in it goes out as the bytes that it stands for."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway.test", *(f"{name}: {headers[name]}" for name in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def head_of_upload(headers: Mapping[str, str], *, length: int | None, boundary: str = BOUNDARY) -> bytes:
    """Write the head of a form's request that announces `length` bytes; None: it comes in chunks."""
    framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    content_type = f"multipart/form-data; boundary={boundary}"
    return head_of("POST", "/api/storage/upload-media", {"Content-Type": content_type, **framing, **headers})


def chunked(data: bytes) -> bytes:
    """Write one chunk of a body without announced length; an empty one ends it."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def field_part(name: str, value: bytes) -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"'.encode(), value)


def file_part(data: bytes, filename: str = "picture.png") -> bytes:
    disposition = f'Content-Disposition: form-data; name="files"; filename="{filename}"'
    return part(disposition.encode("utf-8", "surrogateescape"), data)


def part(head: bytes, data: bytes) -> bytes:
    return f"--{BOUNDARY}\r\n".encode() + head + b"\r\n\r\n" + data + b"\r\n"
