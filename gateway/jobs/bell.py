"""Wakes a loop of this process when there is work, so that it need not look for it all the time."""

from __future__ import annotations

import asyncio


class Bell:
    """Rung once or often between two waits, it ends the next one at once."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, seconds: float) -> None:
        """Wait until it is rung, at most `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return
        self._rung.clear()
