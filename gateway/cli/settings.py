"""`assetgate settings`: the effective settings, secrets masked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from gateway.cli.common import print_json, settings_command, start

_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]*@")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@settings_command
def settings(config: Path | None, as_json: bool) -> None:
    """Print the effective settings, secrets masked."""
    effective = _masked(start(config).settings.model_dump(mode="json"))
    if as_json:
        print_json(effective)
        return
    for name, value in _flat(effective, ""):
        click.echo(f"{name} = {value}")


def _masked(value: Any) -> Any:
    """Hide the passwords inside URLs; secrets of their own are masked by their type."""
    if isinstance(value, dict):
        return {name: _masked(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    return _PASSWORD.sub(r"\1***@", value) if isinstance(value, str) else value


def _flat(table: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in table.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        elif value is not None:
            rows.append((prefix + name, value))
    return rows
