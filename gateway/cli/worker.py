"""`assetgate worker`: the work beside the serving, in a process of its own."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import click

from gateway.app import build
from gateway.cli.common import Started, run, settings_command, start
from gateway.web.observed import set_up_logging


@click.command()
@settings_command
def worker(config: Path | None) -> None:
    """Sweep for ever; run it where `worker.inline` is false."""
    started = start(config)
    set_up_logging(started.settings.log.format)
    run(working(started))


async def working(started: Started) -> None:
    """Work until SIGTERM or SIGINT."""
    async with build(started.settings) as gateway:
        await gateway.metadata.upgrade()
        sweeping = asyncio.create_task(gateway.sweeper.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, sweeping.cancel)
        click.echo("Assetgate worker running")
        with suppress(asyncio.CancelledError):
            await sweeping
