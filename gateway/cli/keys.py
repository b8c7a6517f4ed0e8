"""`assetgate keys`: new secrets to put into the settings."""

from __future__ import annotations

import hashlib

import click

from gateway.cli.common import print_json
from gateway.clock import system_randomness
from gateway.settings.embedded import new_service_key, new_signing_key


@click.group()
def keys() -> None:
    """Signing keys and service keys."""


@keys.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def new(as_json: bool) -> None:
    """Make a signing key, and a service key with its SHA-256. Nothing is kept."""
    signing_key, service_key = new_signing_key(system_randomness), new_service_key(system_randomness)
    digest = hashlib.sha256(service_key.encode()).hexdigest()
    if as_json:
        print_json({"signing_key": signing_key, "service_key": service_key, "key_sha256": digest})
        return
    click.echo(f"signing.keys                      {signing_key}")
    click.echo(f"service key, for the application  {service_key}")
    click.echo(f"identity.services.<name>.key_sha256  {digest}")
