"""The engines and lanes on which the tables of delivery and ownership run over HTTP: a line for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.servers.d1 import D1
from tests.support.servers.s3 import S3Server

Fixture = Callable[[str], Any]  # asks for a fixture of the session by its name
Overrides = Mapping[str, Any]  # settings by dotted name


def _s3(folder: Path, fixture: Fixture) -> Overrides:
    """A bucket on Swift, with the slice cache before it. Its keys are in `fixture("swift_keys")`'s environment."""
    server: S3Server = fixture("swift_keys")
    return {"storage": server.storage_url(server.create_bucket()), "cache.path": f"{folder}/cache"}


def _d1(fixture: Fixture) -> Overrides:
    """A database on D1 that takes as many requests as come."""
    server: D1 = fixture("d1")
    limits = {"d1.base_url": server.api, "d1.api_token": server.token, "d1.requests_per_second": 100_000}
    return {"metadata": f"d1://{server.account}/{server.create_database()}", **limits}


# The settings that make a pair of (metadata, storage), in a folder of its own or on servers that the session runs.
ENGINES: dict[str, Callable[[Path, Fixture], Overrides]] = {
    "memory+memory": lambda folder, fixture: {"metadata": "memory://", "storage": "memory://"},
    "sqlite+file": lambda folder, fixture: {
        "metadata": f"sqlite:///{folder}/assetgate.db",
        "storage": f"file:///{folder}/objects",
    },
    "postgres+s3": lambda folder, fixture: {"metadata": fixture("postgres").create_database(), **_s3(folder, fixture)},
    "d1+s3": lambda folder, fixture: {**_d1(fixture), **_s3(folder, fixture)},
}

# The ways that a request can take through one process.
LANES: dict[str, Overrides] = {
    "handlers": {"server.express": False},
    "express": {"server.express": True},
}


class Engine(NamedTuple):
    """One combination of the two tables."""

    pair: str
    lane: str

    def __str__(self) -> str:
        return f"{self.pair}-{self.lane}"

    def settings(self, folder: Path, fixture: Fixture) -> Overrides:
        return {**ENGINES[self.pair](folder, fixture), **LANES[self.lane]}


COMBINATIONS = [Engine(pair, lane) for pair in ENGINES for lane in LANES]
