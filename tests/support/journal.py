"""The log of requests as an operator gets it, line by line, for tests to read."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import orjson

from gateway.web.observed import AccessLog, Observed

PATIENCE = 20.0  # seconds


class Journal:
    """Give `log` to the application, and its `observed` back; what is logged is read by the request's id."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self.log = AccessLog(self._stream, readable=False)
        self.observed: Observed
        self._facts: dict[str, dict[str, Any]] = {}
        self._seen = 0

    async def facts(self, request_id: str) -> dict[str, Any]:
        """What is noted of one request; it is when the last byte has gone out, which its client may see before."""
        async with asyncio.timeout(PATIENCE):
            while request_id not in self._facts:
                await asyncio.sleep(0)
                self._read()
        return self._facts[request_id]

    @property
    def text(self) -> str:
        """All that was written so far."""
        self.observed.settle()
        return self._stream.getvalue()

    def _read(self) -> None:
        self.observed.settle()
        self._stream.seek(self._seen)
        for line in self._stream:
            facts = orjson.loads(line)
            self._facts[facts["request_id"]] = facts
        self._seen = self._stream.tell()
