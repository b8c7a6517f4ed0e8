"""Runs a contest in alternation and reports medians, ratios and the machine, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_LIBRARIES = ("aiohttp", "uvloop")


OURS = "assetgate"


@dataclass(frozen=True)
class Target:
    """What our figure is to be, as a ratio to a peer's or by itself."""

    value: float
    at_most: bool = False

    def is_met(self, figure: float) -> bool:
        return figure <= self.value if self.at_most else figure >= self.value

    def __str__(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {self.value:,g}"


@dataclass(frozen=True)
class Contest:
    """One kind of work that several runners do; `peer` names the one that the others are compared with.

    `targets` are ratios of `OURS` by peer; that under `OURS` is of the figure itself. What is done `once` is too long,
    or too cold, to be done again.
    """

    work: str
    unit: str
    peer: str
    runners: Mapping[str, Callable[[], float]]
    targets: Mapping[str, Target] = field(default_factory=dict)
    once: bool = False


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
    rounds = 1 if contest.once else rounds
    if not contest.once:
        for runner in contest.runners.values():
            runner()  # warms caches up; does not count
    figures: dict[str, list[float]] = {name: [] for name in contest.runners}
    for number in range(rounds):
        for name, runner in contest.runners.items():
            figures[name].append(runner())
            figure = f"{amount(figures[name][-1])} {contest.unit}"
            console.print(f"{contest.work}: round {number + 1} of {rounds}, {name}: {figure}", highlight=False)
    return Outcome(contest, figures)


def amount(figure: float) -> str:
    """Write a figure with as many digits as mean something."""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:,.3g}"


def table(outcomes: list[Outcome]) -> Table:
    """Draw the outcomes for people."""
    drawn = Table(caption=", ".join(str(fact) for fact in machine().values()))
    for heading in ("work", "who", "median", "lowest to highest", "ratio"):
        drawn.add_column(heading, justify="left" if heading in {"work", "who"} else "right")
    for outcome in outcomes:
        for name, figures in outcome.figures.items():
            spread = f"{amount(min(figures))} to {amount(max(figures))}"
            median = f"{amount(outcome.median(name))} {outcome.contest.unit}"
            drawn.add_row(outcome.contest.work, name, median, spread, f"{outcome.ratio(name):.2f}")
    return drawn


def save(outcomes: list[Outcome], path: Path, **more: Any) -> None:
    """Write the outcomes for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "outcomes": [_described(outcome) for outcome in outcomes],
        **more,
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
