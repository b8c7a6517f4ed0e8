"""One serving process: from the open socket to the last byte of the drain."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.app import Gateway, build, web_application
from gateway.serving.background import background
from gateway.serving.collecting import collecting
from gateway.settings import Settings
from gateway.web.connections import accepting
from gateway.web.observed import OBSERVED, AccessLog

log = logging.getLogger("assetgate.serving")


async def serve(
    settings: Settings,
    listening: socket.socket,
    ready: Callable[[], None],
    access_log: AccessLog,
    *,
    sweeps: bool,
) -> None:
    """Serve until SIGTERM or SIGINT, then let what streams finish within `server.drain_timeout`."""
    async with build(settings) as gateway:
        await gateway.metadata.upgrade()
        stopped = stopped_by_signal()
        application = web_application(gateway, access_log)
        answering = accepting(application, listening, gateway.metrics, settings.server.drain_timeout)
        async with _housekeeping(gateway, wanted=sweeps), answering, collecting():
            ready()
            await stopped.wait()
        application[OBSERVED].settle()


def stopped_by_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # A reload exchanges workers; a process without a supervisor goes on as it is instead of dying of the signal.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, log.warning, "nothing to reload: server.workers is 1")
    return stopped


@asynccontextmanager
async def _housekeeping(gateway: Gateway, *, wanted: bool) -> AsyncIterator[None]:
    """Do the work beside the serving, when the settings want it so."""
    if not (wanted and gateway.settings.worker.inline):
        yield
        return
    async with background(gateway):
        yield
