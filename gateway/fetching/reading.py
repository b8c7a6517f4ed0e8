"""Reads a body within its bounds: bytes, time, and a pace below which a host is only holding us up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from aiohttp import ClientConnectionError, ClientPayloadError, ClientResponse

from gateway.fetching.failures import FetchFailed, Reason

STALL: Final = 30.0  # seconds of waiting in which at least LEAST_PROGRESS must come
LEAST_PROGRESS: Final = 16 * 1024  # bytes


class Pace:
    """How long may still be waited: until the end, and for LEAST_PROGRESS bytes never longer than the stall.

    Only waiting counts: a reader that is slow to store what came is not the host's fault, the end apart.
    """

    def __init__(self, stall: float, left: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._stall = stall
        self._end = self._loop.time() + left
        self._waited = 0.0
        self._came = 0

    def patience(self) -> float:
        left = self._end - self._loop.time()
        return max(0.0, min(left, self._stall - self._waited))

    def note(self, began: float, size: int) -> None:
        self._waited += self._loop.time() - began
        self._came += size
        if self._came >= LEAST_PROGRESS:
            self._waited, self._came = 0.0, 0


async def chunks_of(response: ClientResponse, allowed: int, pace: Pace) -> AsyncGenerator[bytes, None]:
    loop, total = asyncio.get_running_loop(), 0
    while True:
        began = loop.time()
        try:
            async with asyncio.timeout(pace.patience()):
                chunk = await response.content.readany()
        except TimeoutError:
            raise FetchFailed(Reason.TOO_SLOW, "The file came too slowly") from None
        except (ClientPayloadError, ClientConnectionError, ConnectionError) as error:
            raise FetchFailed(Reason.TRUNCATED, "The file broke off before its end") from error
        if not chunk:
            return
        total += len(chunk)
        if total > allowed:
            raise FetchFailed(Reason.TOO_LARGE, f"The file is larger than {allowed} bytes")
        pace.note(began, len(chunk))
        yield chunk


def checked_size(response: ClientResponse, allowed: int) -> int | None:
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise FetchFailed(Reason.ENCODED, "The host compresses what was asked for as it is", status=response.status)
    size = response.content_length
    if size is not None and size > allowed:
        raise FetchFailed(Reason.TOO_LARGE, f"The file is larger than {allowed} bytes", status=response.status)
    return size
