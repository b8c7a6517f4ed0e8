"""A feed out of a storage that has to be waited for: a task reads it, a piece at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

from gateway.storage import Buffer, Storage
from gateway.web.express.memory import Wanted
from gateway.web.respond import exactly

Begin = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Pumped:
    """A `Feed`. The next piece is read when the one before it was taken."""

    def __init__(self, storage: Storage, wanted: Wanted, ready: Callable[[], None], begin: Begin) -> None:
        self._piece: Buffer | None = None
        self._trouble: Exception | None = None
        self._left = len(wanted.span)
        self._taken = asyncio.Event()
        self._ready = ready
        self._task = begin(self._read(storage, wanted))

    def take(self) -> Buffer | None:
        piece, self._piece = self._piece, None
        if piece is not None:
            self._left -= len(piece)
            self._taken.set()
        elif self._trouble is not None:
            raise self._trouble
        return piece

    def close(self) -> None:
        if self._left:  # else it ends by itself, and perhaps it is its own step that we are called from
            self._task.cancel()

    async def _read(self, storage: Storage, wanted: Wanted) -> None:
        try:
            async with storage.read(*wanted) as buffers, aclosing(exactly(buffers, len(wanted.span))) as pieces:
                async for piece in pieces:
                    self._piece = piece
                    self._taken.clear()
                    self._ready()
                    await self._taken.wait()
        except Exception as trouble:  # noqa: BLE001 - who takes gets it, and answers for it
            self._trouble = trouble
            self._ready()
