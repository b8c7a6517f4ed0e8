"""Waits for what nothing tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], within: float = 10.0) -> None:
    """Look again and again; fail when it takes longer than `within` seconds."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.001)
