"""What every command shares: settings, exit codes, and one way to print."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
import orjson

from gateway.app import Gateway, build
from gateway.clock import system_randomness
from gateway.errors import AssetgateError, CannotStart
from gateway.settings import Settings
from gateway.settings.embedded import Secrets, read_or_make
from gateway.settings.reading import load

SOME_FAILED = 1
CANNOT_START = 2

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Started:
    """The effective settings, and the secrets of the embedded mode where it is that."""

    settings: Settings
    secrets: Secrets | None


def start(config: Path | None) -> Started:
    """Read the settings; with neither metadata nor storage of the operator's own, it is the embedded mode."""
    loaded = load(config, os.environ)
    if {"metadata", "storage"} & loaded.own:
        return Started(loaded.settings, None)
    secrets = read_or_make(system_randomness)
    return Started(load(config, os.environ, secrets.tables).settings, secrets)


def settings_command(function: Callable[Concatenate[Path | None, Given], Result]) -> Callable[Given, Result]:
    """Hand the command the path given with `--config`, and turn what cannot start into exit code 2."""

    @click.pass_obj
    @wraps(function)
    def command(config: Path | None, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return function(config, *args, **kwargs)
        except CannotStart as trouble:
            for problem in trouble.problems:
                click.echo(f"assetgate: {problem}", err=True)
            sys.exit(CANNOT_START)
        except AssetgateError as trouble:
            click.echo(f"assetgate: {trouble.detail} ({trouble.error})", err=True)
            sys.exit(CANNOT_START)

    return command


def with_gateway(config: Path | None, work: Callable[[Gateway], Awaitable[Result]]) -> Result:
    """Open the parts, do the work, close them."""

    async def run() -> Result:
        async with build(start(config).settings) as gateway:
            return await work(gateway)

    return asyncio.run(run())


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run on uvloop, as the gateway does in production."""
    import uvloop  # noqa: PLC0415 - commands that only print need not wait for it

    return uvloop.run(main)


def print_json(document: Any) -> None:
    click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
