"""Waits for what nothing tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], within: float = 10.0) -> None:
    """Look again and again; fail when it takes longer than `within` seconds."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - whoever makes it true is another process, and tells nobody
            await asyncio.sleep(0.001)
