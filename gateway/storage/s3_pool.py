"""The connections of one process to the S3 server: a bounded number, kept alive, handed out in the order of asking."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.errors import StorageUnavailable
from gateway.storage.s3_connection import Connection

IDLE: Final = 15.0  # seconds; an unused connection goes after one to two of these, before servers close theirs

Connect = Callable[[Callable[[Connection], None]], Awaitable[Connection]]


class Pool:
    """A place is taken while a connection is in use. Unused ones take none: they are used before others are made."""

    def __init__(self, connect: Connect, most: int, patience: float) -> None:
        self._connect = connect
        self._patience = patience
        self._places = most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: list[Connection] = []  # the one used last comes first: the others can age
        self._all: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def get(self) -> Connection:
        """Wait for a place and return a connection. Raises `StorageUnavailable`, `OSError`, `TimeoutError`."""
        if self._places > 0 and not self._waiting:
            self._places -= 1
        else:
            await self._wait()
        try:
            return self._idle.pop() if self._idle else await self._new()
        except BaseException:
            self._free_place()
            raise

    def give_back(self, connection: Connection) -> None:
        """Free the place at once. What cannot be used again is closed; `closed` says when that is done."""
        if connection.is_reusable and not self._is_closed:
            connection.make_ready()
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
            self._schedule()
        else:
            connection.abort()
        self._free_place()

    def drop_idle(self) -> None:
        """Close all unused connections: one was found dead, so the others are of yesterday as well."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def close(self) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(StorageUnavailable())
        connections = list(self._all)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.closed for connection in connections))

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        timer = asyncio.get_running_loop().call_later(self._patience, _give_up, waiter)
        try:
            await waiter
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:
                self._free_place()  # it became ours in the moment that we were cancelled
            raise
        finally:
            timer.cancel()

    async def _new(self) -> Connection:
        if self._is_closed:
            raise StorageUnavailable
        connection = await self._connect(self._lost)
        if connection.closed.done():
            raise ConnectionResetError
        self._all.add(connection)
        return connection

    def _free_place(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._places += 1

    def _lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _schedule(self) -> None:
        if self._timer is None and self._idle:
            self._timer = asyncio.get_running_loop().call_later(IDLE, self._close_idle)

    def _close_idle(self) -> None:
        before = asyncio.get_running_loop().time() - IDLE
        for connection in [connection for connection in self._idle if connection.idle_since <= before]:
            self._idle.remove(connection)
            connection.abort()
        self._timer = None
        self._schedule()


def _give_up(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(StorageUnavailable("The storage has more readers than connections"))
