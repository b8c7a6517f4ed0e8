"""Holds the outcomes against their targets: one line for each target."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from benchmarks import report
from benchmarks.report import OURS, Outcome, Target


@dataclass(frozen=True)
class Line:
    """One target and what came of it. Without a peer the figure itself is what is judged."""

    work: str
    unit: str
    peer: str | None
    ours: float
    theirs: float | None
    target: Target

    @property
    def judged(self) -> float:
        return self.ours if self.theirs is None else self.ours / self.theirs

    @property
    def is_met(self) -> bool:
        return self.target.is_met(self.judged)

    @property
    def share(self) -> float:
        """How far the target is reached: 1 and more is met."""
        if not self.target.at_most:
            return self.judged / self.target.value
        return self.target.value / self.judged if self.judged else 1.0

    def described(self) -> dict[str, object]:
        return {
            "work": self.work,
            "unit": self.unit,
            "against": self.peer,
            "ours": self.ours,
            "theirs": self.theirs,
            "judged": self.judged,
            "target": str(self.target),
            "met": self.is_met,
        }


def lines(outcomes: list[Outcome]) -> list[Line]:
    return [_line(outcome, name, target) for outcome in outcomes for name, target in outcome.contest.targets.items()]


def table(judged: list[Line]) -> Table:
    """Draw the lines for people."""
    drawn = Table(title="targets", caption=", ".join(report.machine().values()))
    for heading in ("work", "against"):
        drawn.add_column(heading)
    for heading in ("ours", "theirs", "ratio", "target", "met"):
        drawn.add_column(heading, justify="right")
    for line in judged:
        theirs = "" if line.theirs is None else report.amount(line.theirs)
        ratio = "" if line.theirs is None else f"{line.judged:.2f}"
        ours = f"{report.amount(line.ours)} {line.unit}"
        met = "[green]yes" if line.is_met else "[red]no"
        drawn.add_row(line.work, line.peer or "", ours, theirs, ratio, str(line.target), met)
    return drawn


def _line(outcome: Outcome, name: str, target: Target) -> Line:
    contest, ours = outcome.contest, outcome.median(OURS)
    if name == OURS:
        return Line(contest.work, contest.unit, None, ours, None, target)
    return Line(contest.work, contest.unit, name, ours, outcome.median(name), target)
