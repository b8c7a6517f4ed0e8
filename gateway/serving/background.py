"""The work beside the serving: sweeping, copying results, looking after tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from gateway.app import Gateway

PAUSE: Final = 5.0  # seconds before a loop that stopped by a mistake of ours is begun again

log = logging.getLogger("assetgate.background")


@asynccontextmanager
async def background(gateway: Gateway) -> AsyncIterator[None]:
    """Do all of it while the context is open."""
    loops = {
        "sweeping": gateway.sweeper.run,
        "copying": gateway.ai.persister.run,
        "polling": gateway.ai.poller.run,
    }
    running = [asyncio.create_task(_kept_going(name, loop), name=name) for name, loop in loops.items()]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _kept_going(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await loop()
        except Exception:
            log.exception("%s stopped; it is begun again", name)
        await asyncio.sleep(PAUSE)
