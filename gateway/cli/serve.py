"""`assetgate serve`: the gateway itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import click

from gateway.cli.common import Started, run, settings_command, start
from gateway.serving.server import serve as serve_here
from gateway.serving.sockets import allow_descriptors, listen, url_of
from gateway.serving.supervisor import READY, Supervisor
from gateway.settings.embedded import SECRETS_FILE
from gateway.web.observed import set_up_logging


@click.command()
@click.option("--slot", type=int, hidden=True, help="Which worker this is; the supervisor says so.")
@click.option("--listening", type=int, hidden=True, help="The descriptor of its socket.")
@click.option("--ready", type=int, hidden=True, help="The descriptor to write to when it accepts requests.")
@settings_command
def serve(config: Path | None, slot: int | None, listening: int | None, ready: int | None) -> None:
    """Run the gateway. Without settings it is the embedded mode: SQLite and files under ./data."""
    allow_descriptors()
    started = start(config)
    access_log = set_up_logging(started.settings.log.format)
    if slot is not None and listening is not None and ready is not None:
        own = socket.socket(fileno=listening)
        run(serve_here(started.settings, own, lambda: _tell(ready), access_log, sweeps=slot == 0))
        return
    workers = started.settings.server.workers or os.cpu_count() or 1
    sockets = listen(started.settings.server, workers)
    if workers == 1:
        run(serve_here(started.settings, sockets[0], lambda: _announce(started, sockets[0]), access_log, sweeps=True))
    else:
        supervisor = Supervisor(config, started.settings.server, sockets)
        run(supervisor.run(lambda: _announce(started, sockets[0])))


def _tell(descriptor: int) -> None:
    os.write(descriptor, READY)
    os.close(descriptor)


def _announce(started: Started, listening: socket.socket) -> None:
    secrets = started.secrets
    if secrets is not None and secrets.made:
        click.echo(f"Made a signing key and a service key with all scopes; both are kept in {SECRETS_FILE}")
        click.echo(f"The service key is {secrets.service_key}")
    click.echo(f"Assetgate listening on {url_of(listening)}")
