"""Runs a contest in alternation and reports medians, ratios and the machine, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_LIBRARIES = ("aiohttp", "uvloop")


@dataclass(frozen=True)
class Contest:
    """One kind of work that several runners do; `peer` names the one that the others are compared with."""

    work: str
    unit: str
    peer: str
    runners: Mapping[str, Callable[[], float]]


@dataclass(frozen=True)
class Outcome:
    """Every figure that was measured, by runner, in the order of the runs."""

    contest: Contest
    figures: Mapping[str, list[float]]

    def median(self, runner: str) -> float:
        return statistics.median(self.figures[runner])

    def ratio(self, runner: str) -> float:
        """Say how many times the peer's median this runner's is."""
        return self.median(runner) / self.median(self.contest.peer)


def hold(contest: Contest, rounds: int, console: Console) -> Outcome:
    """Let the runners take turns (A B A B …), so that what else the machine does hits all of them alike."""
    for runner in contest.runners.values():
        runner()  # warms caches up; does not count
    figures: dict[str, list[float]] = {name: [] for name in contest.runners}
    for number in range(rounds):
        for name, runner in contest.runners.items():
            figures[name].append(runner())
            figure = f"{figures[name][-1]:,.0f} {contest.unit}"
            console.print(f"{contest.work}: round {number + 1} of {rounds}, {name}: {figure}", highlight=False)
    return Outcome(contest, figures)


def table(outcomes: list[Outcome]) -> Table:
    """Draw the outcomes for people."""
    drawn = Table(caption=", ".join(str(fact) for fact in machine().values()))
    for heading in ("work", "who", "median", "lowest to highest", "ratio"):
        drawn.add_column(heading, justify="left" if heading in {"work", "who"} else "right")
    for outcome in outcomes:
        for name, figures in outcome.figures.items():
            spread = f"{min(figures):,.0f} to {max(figures):,.0f}"
            median = f"{outcome.median(name):,.0f} {outcome.contest.unit}"
            drawn.add_row(outcome.contest.work, name, median, spread, f"{outcome.ratio(name):.2f}")
    return drawn


def save(outcomes: list[Outcome], path: Path) -> None:
    """Write the outcomes for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "outcomes": [_described(outcome) for outcome in outcomes],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def machine() -> dict[str, str]:
    """Say what the figures were measured on."""
    facts = {
        "cpu": _processor(),
        "cores": f"{os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"Python {platform.python_version()}",
    }
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False).stderr
    facts["nginx"] = nginx.rpartition(" ")[2].strip().replace("/", " ")
    return facts | {name: f"{name} {version(name)}" for name in _LIBRARIES}


def _described(outcome: Outcome) -> dict[str, Any]:
    return {
        "work": outcome.contest.work,
        "unit": outcome.contest.unit,
        "peer": outcome.contest.peer,
        "medians": {name: outcome.median(name) for name in outcome.figures},
        "ratios": {name: outcome.ratio(name) for name in outcome.figures},
        "figures": dict(outcome.figures),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = [line.partition(":")[2].strip() for line in information.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
