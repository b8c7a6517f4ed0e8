"""Connections in: the express lane in front, aiohttp's handler behind it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import hdrs, web

from gateway.clock import system_randomness
from gateway.errors import AssetgateError, InvalidRequest
from gateway.metrics import Metrics
from gateway.web.express.front import Fronts
from gateway.web.express.lane import Lane
from gateway.web.heads import SERVER
from gateway.web.middleware import problem

log = logging.getLogger("assetgate.web")
BACKLOG = 1024  # connections that wait to be accepted
LANE = web.AppKey("lane", object)


class Handler(web.RequestHandler):
    """aiohttp's handler of a connection; what is no HTTP is answered in our words."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it may repeat what the client sent
    ) -> web.StreamResponse:
        """Answer what aiohttp's parser refused; an answer that has begun is broken off."""
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer has begun") from exc
        malformed = status < AssetgateError.status
        error = InvalidRequest("This is no HTTP request that can be understood") if malformed else AssetgateError()
        request_id = system_randomness(12).hex()
        if not malformed:
            log.error("request %s failed", request_id, exc_info=exc)
        response = problem(error, request_id)
        response.headers.update({hdrs.SERVER: SERVER, "X-Request-Id": request_id})
        response.force_close()
        return response


@asynccontextmanager
async def accepting(
    application: web.Application, listening: socket.socket, metrics: Metrics, drain_timeout: float
) -> AsyncIterator[None]:
    """Accept connections; at the end accept no more, and wait for those that are being answered."""
    loop = asyncio.get_running_loop()
    # A client that goes away cancels its handler, so that what it held is free at once.
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=drain_timeout)
    await runner.setup()

    def handler() -> Any:
        return Handler(runner.server, loop=loop, access_log=None)  # type: ignore[arg-type]  # it was set up above

    lane = application[LANE]
    fronts = Fronts(lane, metrics, handler) if isinstance(lane, Lane) else None
    connected: Callable[[], asyncio.Protocol] = fronts.connected if fronts is not None else handler
    server = await loop.create_server(connected, sock=listening, backlog=BACKLOG)
    try:
        yield
    finally:
        server.close()
        draining = [runner.cleanup()] if fronts is None else [fronts.drain(drain_timeout), runner.cleanup()]
        await asyncio.gather(*draining)
