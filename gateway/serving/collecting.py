"""When cyclic garbage is looked for: often among what is new, seldom among all."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

NEW: Final = 5_000  # containers more than were freed, until the new ones are looked through: half a millisecond
NEVER: Final = 1_000_000
ALL_AFTER: Final = 600.0  # seconds


@asynccontextmanager
async def collecting() -> AsyncIterator[None]:
    """Collect by a rhythm of our own.

    Python would walk everything each time that it has grown by a quarter, and all that came lately at every tenth look
    at what is new. What a gateway remembers (records, decisions, slices) is much, lives long and ends by its reference
    counts: to walk it took a tenth of a second and more, in which nobody was answered.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW, NEVER, NEVER)
    walking = asyncio.create_task(_walk())
    try:
        yield
    finally:
        walking.cancel()
        gc.set_threshold(*before)
        gc.unfreeze()


async def _walk() -> None:
    while True:
        await asyncio.sleep(ALL_AFTER)
        gc.collect()
