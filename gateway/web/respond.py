"""The one place that writes an object's bytes to a client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from gateway.delivery.plan import Delivery
from gateway.errors import StorageFault
from gateway.metrics import Metrics
from gateway.storage import Buffer, Resident, Storage
from gateway.web.heads import Shared, varying
from gateway.web.middleware import REQUEST_ID, STARTED
from policies.model import Grant

STEP: Final = 256 * 1024  # bytes a write; larger ones gained nothing when measured


async def respond(
    request: web.Request, delivery: Delivery, grant: Grant, storage: Storage, metrics: Metrics, shared: Shared
) -> web.StreamResponse:
    """Send the head and the wanted bytes. Trouble before the first byte raises; after it the connection breaks."""
    more = (*varying(delivery, request.headers.get("Origin"), shared), ("X-Request-Id", request[REQUEST_ID]))
    response = web.StreamResponse(status=delivery.status, headers=CIMultiDict(delivery.fixed + more))
    if delivery.wanted is None:
        request[STARTED] = True
        await response.prepare(request)
        return response
    async with opened(storage, grant, delivery.wanted) as buffers:
        request[STARTED] = True
        metrics.streams.inc()
        try:
            await response.prepare(request)
            await _send(response, buffers, len(delivery.wanted), metrics)
        except BaseException:
            metrics.broken.inc()
            # What was promised cannot be sent any more: only a broken connection says so.
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            metrics.streams.dec()
    return response


async def _send(response: web.StreamResponse, buffers: AsyncIterator[Buffer], promised: int, metrics: Metrics) -> None:
    async for buffer in exactly(buffers, promised):
        await response.write(buffer)
        metrics.sent.inc(len(buffer))
    await response.write_eof()


async def exactly(buffers: AsyncIterator[Buffer], promised: int) -> AsyncGenerator[Buffer, None]:
    """Hand on as many bytes as were promised. Raises `StorageFault` before there are more, and after fewer."""
    sent = 0
    async for buffer in buffers:
        sent += len(buffer)
        if sent > promised:
            raise StorageFault
        yield buffer
    if sent != promised:
        raise StorageFault


@asynccontextmanager
async def opened(storage: Storage, grant: Grant, wanted: range) -> AsyncIterator[AsyncIterator[Buffer]]:
    """Open the wanted bytes: from memory maps at once where they are resident, else as the storage has them."""
    resident = storage.resident(grant, wanted) if isinstance(storage, Resident) else None
    if resident is not None:
        yield _steps(resident)
        return
    async with storage.read(grant, wanted) as buffers:
        yield buffers


async def _steps(view: memoryview) -> AsyncIterator[Buffer]:
    for start in range(0, len(view), STEP):
        yield view[start : start + STEP]
