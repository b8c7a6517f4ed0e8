"""The engines and lanes on which the tables of delivery and ownership run over HTTP: a line for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Fixture = Callable[[str], Any]  # asks for a fixture of the session by its name
Overrides = Mapping[str, Any]  # settings by dotted name

# The settings that make a pair of (metadata, storage), in a folder of its own or on servers that the session runs.
ENGINES: dict[str, Callable[[Path, Fixture], Overrides]] = {
    "memory+memory": lambda folder, fixture: {"metadata": "memory://", "storage": "memory://"},
    "sqlite+file": lambda folder, fixture: {
        "metadata": f"sqlite:///{folder}/assetgate.db",
        "storage": f"file:///{folder}/objects",
    },
}

# The ways that a request can take through one process.
LANES: dict[str, Overrides] = {
    "handlers": {"server.express": False},
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
