"""`assetgate sweep`: clean up now."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from gateway.app import Gateway
from gateway.cli.common import SOME_FAILED, print_json, settings_command, with_gateway
from gateway.sweeping import Progress as Report
from gateway.sweeping import silent


@click.command()
@click.option("--orphans", is_flag=True, help="Compare the storage with the records as well, and list what differs.")
@click.option("--remove", is_flag=True, help="With --orphans: remove what stands on one side alone.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@settings_command
def sweep(config: Path | None, orphans: bool, remove: bool, as_json: bool) -> None:
    """Remove what expired or was deleted, and uploads that were abandoned."""
    if remove and not orphans:
        raise click.UsageError("--remove goes with --orphans")
    console = Console(stderr=True)

    async def work(gateway: Gateway) -> dict[str, Any]:
        with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True) as bar:
            report = _reporter(bar, console) if not as_json else silent
            found: dict[str, Any] = asdict(await gateway.sweeper.sweep(report))
            if orphans:
                found["orphans"] = asdict(await gateway.sweeper.orphans(remove=remove, progress=report))
            return found

    found = with_gateway(config, work)
    if as_json:
        print_json(found)
    else:
        _print(found)
    left = found.get("orphans", {})
    if not remove and (left.get("strays") or left.get("lost")):
        sys.exit(SOME_FAILED)


def _reporter(bar: Progress, console: Console) -> Report:
    """Show a moving line on a terminal, plain lines elsewhere."""
    if not console.is_terminal:
        return lambda what, count: console.print(f"{what}: {count}", highlight=False)
    line = bar.add_task("sweeping")
    return lambda what, count: bar.update(line, description=f"{what}: {count}")


def _print(found: dict[str, Any]) -> None:
    orphans = found.pop("orphans", None)
    click.echo(", ".join(f"{name}: {count}" for name, count in found.items()))
    if orphans is None:
        return
    for key in orphans["strays"]:
        click.echo(f"object without record: {key}")
    for asset_id in orphans["lost"]:
        click.echo(f"record without object: asset://{asset_id}")
    click.echo(f"compared {orphans['objects']} objects with {orphans['records']} records; removed {orphans['removed']}")
