"""`assetgate worker`: the work beside the serving, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.app import build
from gateway.cli.common import Started, run, settings_command, started_quietly
from gateway.serving.background import background
from gateway.serving.server import stopped_by_signal
from gateway.web.observed import set_up_logging


@click.command()
@settings_command
def worker(config: Path | None) -> None:
    """Sweep, copy results and look after tasks for ever; run it where `worker.inline` is false."""
    started = started_quietly(config)
    set_up_logging(started.settings.log.format)
    run(working(started))


async def working(started: Started) -> None:
    """Work until SIGTERM or SIGINT."""
    async with build(started.settings) as gateway:
        await gateway.metadata.upgrade()
        stopped = stopped_by_signal()
        async with background(gateway):
            click.echo("Assetgate worker running")
            await stopped.wait()
