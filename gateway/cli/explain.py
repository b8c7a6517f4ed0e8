"""`assetgate explain`: which rule decided, and what it read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gateway.app import Gateway
from gateway.cli.common import SOME_FAILED, print_json, settings_command, with_gateway
from gateway.errors import NotFound
from gateway.model import is_asset_id, parse_ref
from gateway.tokens import verify
from gateway.web.explaining import action_named, caller_named, explained
from policies.engine import explain as run_rules
from policies.model import Action, Question


@click.command()
@click.argument("ref")
@click.option("--as", "caller", default="anonymous", help="anonymous, user:<id>, guest:<hash> or service:<scope>,…")
@click.option("--action", default=Action.READ.value, help=", ".join(Action))
@click.option("--token", help="An access token that comes along.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@settings_command
def explain(config: Path | None, ref: str, caller: str, action: str, token: str | None, as_json: bool) -> None:
    """Decide about REF for a caller without doing it, and print the rule that decided and what it read."""

    async def work(gateway: Gateway) -> dict[str, Any]:
        asset_id = parse_ref(ref) or ref
        if not is_asset_id(asset_id):
            raise NotFound(f"{ref} is no asset reference")
        asset = (await gateway.metadata.get([asset_id])).get(asset_id)
        now = gateway.clock()
        claims = verify(token, asset_id, gateway.keys, now) if token else None
        subject = asset.subject if asset else None
        return explained(
            run_rules(Question(caller_named(caller), action_named(action), subject, claims, now), gateway.rules)
        )

    found = with_gateway(config, work)
    if as_json:
        print_json(found)
    else:
        _print(found)
    if not found["allowed"]:
        sys.exit(SOME_FAILED)


def _print(found: dict[str, Any]) -> None:
    click.echo(f"{'allowed' if found['allowed'] else 'denied'}: {found['reason']}, by {found['rule'] or 'no rule'}")
    if found["told"] != found["reason"]:
        click.echo(f"the caller is told: {found['told']}")
    click.echo(f"read of the caller: {_line(found['caller'])}")
    click.echo(f"read of the asset:  {_line(found['asset']) if found['asset'] else 'there is none'}")
    for entry in found["rules"]:
        verdict = f"{entry['effect']} ({entry['reason']})" if entry["effect"] else "has nothing to say"
        click.echo(f"  {entry['rule']}: {verdict}")


def _line(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in facts.items() if value not in (None, []))
