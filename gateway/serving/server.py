"""One serving process: from the open socket to the last byte of the drain."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from gateway.app import Gateway, build, web_application
from gateway.errors import AssetgateError, InvalidRequest
from gateway.serving.background import background
from gateway.serving.sockets import BACKLOG
from gateway.settings import Settings
from gateway.web.middleware import problem


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
        response = problem(error, "")
        response.force_close()
        return response


async def serve(settings: Settings, listening: socket.socket, ready: Callable[[], None], *, sweeps: bool) -> None:
    """Serve until SIGTERM or SIGINT, then let what streams finish within `server.drain_timeout`."""
    async with build(settings) as gateway:
        await gateway.metadata.upgrade()
        stopped = stopped_by_signal()
        async with _housekeeping(gateway, wanted=sweeps), _accepting(gateway, listening):
            ready()
            await stopped.wait()


def stopped_by_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


@asynccontextmanager
async def _accepting(gateway: Gateway, listening: socket.socket) -> AsyncIterator[None]:
    """Accept connections; at the end accept no more, and wait for those that are being answered."""
    loop = asyncio.get_running_loop()
    # A client that goes away cancels its handler, so that what it held is free at once.
    runner = web.AppRunner(
        web_application(gateway),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=gateway.settings.server.drain_timeout,
    )
    await runner.setup()

    def connected() -> asyncio.Protocol:
        handler: Any = Handler(runner.server, loop=loop, access_log=None)  # type: ignore[arg-type]  # set up above
        return handler  # type: ignore[no-any-return]

    server = await loop.create_server(connected, sock=listening, backlog=BACKLOG)
    try:
        yield
    finally:
        server.close()
        await runner.cleanup()


@asynccontextmanager
async def _housekeeping(gateway: Gateway, *, wanted: bool) -> AsyncIterator[None]:
    """Do the work beside the serving, when the settings want it so."""
    if not (wanted and gateway.settings.worker.inline):
        yield
        return
    async with background(gateway):
        yield
