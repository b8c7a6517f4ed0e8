"""Hears of changes by PostgreSQL's LISTEN, on a connection of its own that is made anew whenever it breaks."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import asyncpg

from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.metadata.news import Heard

CHANNEL: Final = "assetgate_assets"
EVERYTHING: Final = "*"  # instead of ids: any record may have changed
BEAT: Final = 1.0  # seconds between two proofs that the connection lives
LEASE: Final = 2.5  # seconds that a proof lasts: a network that falls silent is noticed by then
_RETRY: Final = 0.25  # seconds


class Listening:
    """Trusted for `LEASE` from the last answer on the connection; a connection that closes ends that at once."""

    lasting = True

    def __init__(self, connect: Callable[[], Awaitable[Any]], steady: Clock) -> None:
        self._connect = connect
        self._steady = steady
        self._heard: Heard = _nobody
        self._until = -math.inf
        self._lost = asyncio.Event()
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def until(self) -> float:
        return self._until

    async def open(self, heard: Heard) -> None:
        self._heard = heard
        self._task = asyncio.create_task(self._keep_listening())
        await self._tried.wait()

    def current(self) -> bool:
        return self._steady() < self._until

    def unsettled(self, asset_id: str) -> bool:  # noqa: ARG002 - a notification comes after the commit, never before
        return False

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_listening(self) -> None:
        while True:
            with suppress(OSError, Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._listen()
            self._tried.set()
            await asyncio.sleep(_RETRY)

    async def _listen(self) -> None:
        connection = await self._connect()
        try:
            self._lost.clear()
            connection.add_termination_listener(self._on_loss)
            async with asyncio.timeout(BEAT):
                await connection.add_listener(CHANNEL, self._on_notification)
            self._heard(None)  # what changed until now was told to nobody here
            while not self._lost.is_set():
                sent = self._steady()
                # The answer comes behind all that was committed, and so notified, before the question was sent.
                async with asyncio.timeout(BEAT):
                    await connection.execute("SELECT 1")
                self._until = sent + LEASE
                self._tried.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._lost.wait(), BEAT)
        finally:
            self._on_loss(connection)
            connection.terminate()

    def _on_loss(self, _: object) -> None:
        self._until = min(self._until, self._steady())
        self._lost.set()

    def _on_notification(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        for asset_id in str(payload).split():
            self._heard(None if asset_id == EVERYTHING else asset_id)


def _nobody(_: str | None) -> None: ...
