"""The command line: one file a command."""

from __future__ import annotations

from pathlib import Path

import click

from gateway import __version__
from gateway.cli.check import check
from gateway.cli.db import db
from gateway.cli.explain import explain
from gateway.cli.keys import keys
from gateway.cli.serve import serve
from gateway.cli.settings import settings
from gateway.cli.sign import sign
from gateway.cli.sweep import sweep
from gateway.cli.worker import worker


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="assetgate")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The settings file. Without it ./assetgate.toml, if it is there.",
)
@click.pass_context
def main(context: click.Context, config: Path | None) -> None:
    """Assetgate: private media in front of object storage."""
    context.obj = config


for command in (serve, worker, check, settings, db, sign, explain, sweep, keys):
    main.add_command(command)
