"""Sends bytes that have to be waited for, as they come out of the storage and as fast as the client takes them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from gateway.web.express.lane import Answer, Lane
from gateway.web.express.memory import Wanted
from gateway.web.respond import exactly


class Relay:
    """One answer on its way. `sent` are the bytes of the object that were handed to the transport."""

    def __init__(self, lane: Lane, answer: Answer, wanted: Wanted, transport: Any) -> None:
        self._lane = lane
        self.answer = answer
        self._wanted = wanted
        self._transport = transport
        self._writable = asyncio.Event()
        self._writable.set()
        self.sent = 0
        self.has_begun = False

    def pause(self) -> None:
        self._writable.clear()

    def resume(self) -> None:
        self._writable.set()

    async def run(self) -> None:
        """Send all of it. Raises what the storage raises: before the head, or in the middle."""
        async with self._lane.read(self._wanted) as buffers, aclosing(exactly(buffers, len(self._wanted.span))) as all_:
            async for buffer in all_:
                if self.has_begun:
                    self._transport.write(buffer)
                else:
                    self.has_begun = True
                    self._transport.writelines((self.answer.head, buffer))
                self.sent += len(buffer)
                if not self._writable.is_set():
                    await self._writable.wait()
