"""Asks at a constant rate, whatever the answers do: a latency counts from when its request was due (open loop).

A closed loop asks less while the server stalls, and so omits what the stall would have done to everybody else.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from benchmarks.load import LoadFailed

_BUFFER = 256 * 1024  # bytes thrown away at once
_LONGEST = 30.0  # seconds until an answer

Ask = Callable[[int], Awaitable[float]]  # the number of the request -> when what is waited for was there
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run on a loop that wakes on the microsecond: `select` can, `epoll` and uvloop round up to the millisecond."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(work)


async def latencies(ask: Ask, rate: float, count: int) -> list[float]:
    """Ask `count` times at `rate` a second; return seconds from each due time, sorted."""
    loop = asyncio.get_running_loop()
    start = loop.time() + 0.05

    async def timed(number: int, due: float) -> float:
        async with asyncio.timeout(_LONGEST):
            return await ask(number) - due

    asked = []
    for number in range(count):
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        asked.append(asyncio.create_task(timed(number, due)))
    return sorted(await asyncio.gather(*asked))


def p99(sorted_seconds: Sequence[float]) -> float:
    """The smallest that 99 of 100 do not exceed, in milliseconds."""
    return sorted_seconds[math.ceil(len(sorted_seconds) * 0.99) - 1] * 1000


async def http_p99(url: str, requests: Sequence[bytes], rate: float, *, expected: int, first_byte: bool) -> float:
    """Send each of these requests at `rate` a second; p99 in milliseconds of the bodies' first bytes, or last ones."""
    async with _connections(url, expected) as pool:

        async def ask(number: int) -> float:
            connection = await pool.take()
            try:
                await connection.ask(requests[number])
            finally:
                pool.idle.append(connection)
            return connection.first_byte if first_byte else connection.last_byte

        return p99(await latencies(ask, rate, len(requests)))


class _Connection(asyncio.BufferedProtocol):
    """One keep-alive connection that notes when a body's first and last byte came, and throws it away."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._buffer = bytearray(_BUFFER)
        self._head = bytearray()
        self._left = 0
        self._done: asyncio.Future[None] | None = None
        self.first_byte = self.last_byte = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done and not self._done.done():
            self._done.set_exception(exc or LoadFailed("the connection broke within an answer"))

    async def ask(self, request: bytes) -> None:
        assert self.transport is not None
        self._done = asyncio.get_running_loop().create_future()
        self._head.clear()
        self.transport.write(request)
        await self._done

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's signature
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        now = asyncio.get_running_loop().time()
        if not self._left:
            self._head += memoryview(self._buffer)[:nbytes]
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 206 ")):
                self._settle(LoadFailed(head.decode(errors="replace")))
                return
            self._left, self.first_byte, nbytes = self._expected, 0.0, len(body)
        if nbytes and not self.first_byte:
            self.first_byte = now
        self._left -= nbytes
        if not self._left:
            self.last_byte = now
            self._settle(None)

    def _settle(self, failure: LoadFailed | None) -> None:
        if self._done is None or self._done.done():
            return
        if failure:
            self._done.set_exception(failure)
        else:
            self._done.set_result(None)


class _Pool:
    """As many connections as are needed at once: an open loop may not wait for a free one."""

    def __init__(self, url: str, expected: int) -> None:
        place = urlsplit(url)
        assert place.hostname is not None
        assert place.port is not None
        self._host, self._port, self._expected = place.hostname, place.port, expected
        self.opened: list[_Connection] = []
        self.idle: list[_Connection] = []

    async def take(self) -> _Connection:
        return self.idle.pop() if self.idle else await self.open()

    async def open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self._expected), self._host, self._port)
        self.opened.append(connection)
        return connection


@asynccontextmanager
async def _connections(url: str, expected: int, beforehand: int = 16) -> AsyncIterator[_Pool]:
    pool = _Pool(url, expected)
    try:
        pool.idle += [await pool.open() for _ in range(beforehand)]
        yield pool
    finally:
        for connection in pool.opened:
            assert connection.transport is not None
            connection.transport.abort()
