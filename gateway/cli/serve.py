"""`assetgate serve`: the gateway itself."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import click
from aiohttp import web

from gateway.app import Gateway, build, web_application
from gateway.cli.common import Started, run, settings_command, start
from gateway.errors import CannotStart
from gateway.settings import Server
from gateway.settings.embedded import SECRETS_FILE
from gateway.web.observed import set_up_logging

BACKLOG = 1024  # connections that wait to be accepted


@click.command()
@settings_command
def serve(config: Path | None) -> None:
    """Run the gateway. Without settings it is the embedded mode: SQLite and files under ./data."""
    started = start(config)
    set_up_logging(started.settings.log.format)
    run(serving(started))


async def serving(started: Started) -> None:
    """Serve until SIGTERM or SIGINT, then let what streams finish within `server.drain_timeout`."""
    settings = started.settings
    async with build(settings) as gateway:
        await gateway.metadata.upgrade()
        stopped = _until_signalled()
        runner = web.AppRunner(
            web_application(gateway),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=settings.server.drain_timeout,
        )
        await runner.setup()
        listening = _listen(settings.server)
        async with _housekeeping(gateway):
            await web.SockSite(runner, listening, backlog=BACKLOG).start()
            _announce(started, listening)
            await stopped.wait()
            await runner.cleanup()


def _listen(server: Server) -> socket.socket:
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        listening = socket.create_server((server.host, server.port), family=family, backlog=BACKLOG)
    except OSError as error:
        where = f"{server.host}:{server.port}"
        raise CannotStart(
            f"server.host, server.port: cannot listen on {where}: {os.strerror(error.errno or 0)}"
        ) from error
    listening.setblocking(False)
    return listening


def _announce(started: Started, listening: socket.socket) -> None:
    secrets = started.secrets
    if secrets is not None and secrets.made:
        click.echo(f"Made a signing key and a service key with all scopes; both are kept in {SECRETS_FILE}")
        click.echo(f"The service key is {secrets.service_key}")
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"Assetgate listening on http://{shown}:{port}")


def _until_signalled() -> asyncio.Event:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


@asynccontextmanager
async def _housekeeping(gateway: Gateway) -> AsyncIterator[None]:
    """Sweep beside the serving, when the settings want it so."""
    if not gateway.settings.worker.inline:
        yield
        return
    sweeping = asyncio.create_task(gateway.sweeper.run())
    try:
        yield
    finally:
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping
