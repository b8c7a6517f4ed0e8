"""`assetgate check`: are the settings good, and does everything answer that they name?"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from gateway.app import Gateway
from gateway.cli.common import SOME_FAILED, print_json, settings_command, with_gateway
from gateway.errors import AssetgateError, CannotStart
from gateway.web.health import NO_SUCH_KEY


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@settings_command
def check(config: Path | None, as_json: bool) -> None:
    """Check the settings and connect to what they name."""
    results = with_gateway(config, _checked)
    if as_json:
        print_json(results)
    else:
        for name, state in results.items():
            click.echo(f"{name}: {state}")
    if any(state != "ok" for state in results.values()):
        sys.exit(SOME_FAILED)


async def _checked(gateway: Gateway) -> dict[str, str]:
    async def schema() -> None:
        waiting = [found.name for found in await gateway.metadata.status() if found.applied_at is None]
        if waiting:
            raise CannotStart(f"{len(waiting)} migrations wait: assetgate db upgrade")

    async def storage() -> None:
        await gateway.storage.stat(NO_SUCH_KEY)

    steps: dict[str, Callable[[], Awaitable[None]]] = {
        "metadata": gateway.metadata.ping,
        "schema": schema,
        "storage": storage,
    }
    return {name: await _state(step) for name, step in steps.items()}


async def _state(step: Callable[[], Awaitable[None]]) -> str:
    try:
        await step()
    except AssetgateError as error:
        return f"{error.error}: {error.detail}"
    except CannotStart as error:
        return str(error)
    return "ok"
