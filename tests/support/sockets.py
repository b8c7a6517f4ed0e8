"""Clients that misbehave: raw sockets that read little, stop reading, or hang up in the middle of an answer."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from urllib.parse import urlsplit

SMALL_BUFFER = 4096  # bytes; the kernel doubles it
AT_ONCE = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST


class Reader:
    """A client that asks for one thing and reads only as much as it is told to."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.netloc
        self._address = (parts.hostname, parts.port)
        self._socket = socket.socket()
        # Before connecting, so that the window is small from the beginning.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self._socket.setblocking(False)

    async def ask(self, target: str) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, self._address)
        await loop.sock_sendall(self._socket, f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    async def read(self, count: int) -> bytes:
        """Read `count` bytes, or what comes before the end."""
        loop, read = asyncio.get_running_loop(), b""
        with suppress(ConnectionError):
            while len(read) < count and (data := await loop.sock_recv(self._socket, min(count - len(read), 65536))):
                read += data
        return read

    def close(self, *, reset: bool = False) -> None:
        """Hang up: politely by FIN, or by RST as one whose process died."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self._socket.close()
