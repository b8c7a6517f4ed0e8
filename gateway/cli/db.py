"""`assetgate db`: the schema of the records."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.app import Gateway
from gateway.cli.common import print_json, settings_command, with_gateway
from gateway.clock import iso


@click.group()
def db() -> None:
    """The schema of the records."""


@db.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@settings_command
def upgrade(config: Path | None, as_json: bool) -> None:
    """Apply the migrations that are missing."""

    async def work(gateway: Gateway) -> list[str]:
        return list(await gateway.metadata.upgrade())

    applied = with_gateway(config, work)
    if as_json:
        print_json({"applied": applied})
        return
    for name in applied:
        click.echo(f"applied {name}")
    click.echo(f"{len(applied)} applied; the schema is up to date")


@db.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@settings_command
def status(config: Path | None, as_json: bool) -> None:
    """List the migrations and when they were applied."""

    async def work(gateway: Gateway) -> list[tuple[str, int | None]]:
        return [(found.name, found.applied_at) for found in await gateway.metadata.status()]

    found = [(name, None if at is None else iso(at)) for name, at in with_gateway(config, work)]
    if as_json:
        print_json([{"name": name, "appliedAt": at} for name, at in found])
        return
    for name, at in found:
        click.echo(f"{name}  {at or 'waiting'}")
