"""Gives turns to requests at the rate that a service takes them: a token bucket."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.clock import Clock
from gateway.errors import RecordsUnavailable

Sleep = Callable[[float], Awaitable[None]]

_LONGEST_PAUSE: Final = 300.0  # seconds that a service is obeyed that asks for a pause


class Limiter:
    """Turns come in the order asked: `burst` at once after a quiet time, then `rate` a second."""

    def __init__(
        self, rate: float, burst: int, longest_wait: float, steady: Clock, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._interval = 1 / rate
        self._slack = (burst - 1) * self._interval
        self._longest_wait = longest_wait
        self._steady = steady
        self._sleep = sleep
        self._next = -math.inf  # when the bucket's next turn would be due if none were saved up
        self._paused_until = -math.inf

    async def turn(self) -> None:
        """Wait for a turn. Raises `RecordsUnavailable` at once when it would come too late, and takes none."""
        now = self._steady()
        due = max(self._next, now - self._slack)
        wait = max(due, self._paused_until) - now
        if wait > self._longest_wait:
            raise RecordsUnavailable("The records are asked too often", retry_after=math.ceil(wait))
        self._next = due + self._interval
        if wait > 0:
            await self._sleep(wait)

    def pause(self, seconds: float) -> None:
        """Give no turns for so long: the service asked for it."""
        self._paused_until = max(self._paused_until, self._steady() + min(seconds, _LONGEST_PAUSE))
