"""`assetgate sign`: signed URLs for references."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gateway.app import Gateway
from gateway.cli.common import CANNOT_START, SOME_FAILED, print_json, settings_command, with_gateway
from gateway.model import parse_ref
from gateway.settings.units import parse_duration
from policies.model import Caller, CallerKind

OPERATOR = Caller(CallerKind.SERVICE, "operator", scopes=frozenset({"sign", "resolve", "read"}))


@click.command()
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@click.option("--expires", help="How long they live, such as 1h. Default: what the purpose says.")
@click.option("--download", is_flag=True, help="Let browsers save the file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@settings_command
def sign(config: Path | None, refs: tuple[str, ...], expires: str | None, download: bool, as_json: bool) -> None:
    """Print a signed URL for each asset reference (asset://… or an id)."""
    try:
        seconds = parse_duration(expires)
    except ValueError as error:
        click.echo(f"assetgate: --expires {error}", err=True)
        sys.exit(CANNOT_START)

    async def work(gateway: Gateway) -> list[dict[str, Any]]:
        ids = [parse_ref(ref) or ref for ref in refs]
        base = gateway.settings.server.public_url or ""
        expires_in = seconds if isinstance(seconds, float) else None
        return await gateway.sharing.sign(OPERATOR, ids, expires_in=expires_in, download=download or None, base=base)

    results = with_gateway(config, work)
    if as_json:
        print_json(results)
    else:
        for ref, result in zip(refs, results, strict=True):
            click.echo(result.get("url") or f"{ref}: {result['error']}", err="error" in result)
    if any("error" in result for result in results):
        sys.exit(SOME_FAILED)
