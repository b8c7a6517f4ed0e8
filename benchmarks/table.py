"""Measures the gateway against its peers on this machine, in one run: by turns, with medians, ratios and targets.

    python -m benchmarks.table [--only signed …] [--rounds 3] [--seconds 2] [--json benchmarks/results/table.json]

The peers are started here: nginx as the storage, nginx as the rival. The gateway does all its checks, and writes its
log; each group of rows has a gateway of its own. A chart is drawn beside the JSON.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from benchmarks import chart, client, crowd, load, report, verdicts
from benchmarks.rows import crowds, growth, misses, records, remembered, signing, storage
from benchmarks.rows.common import Pace
from benchmarks.stage import Stage, prepared
from tests.support.servers import processes

GROUPS: dict[str, Callable[[Stage, ExitStack, Pace], list[report.Contest]]] = {
    "signed": remembered.small,
    "ranges": remembered.ranges,
    "misses": misses.rows,
    "batch": signing.rows,
    "jwt": remembered.sessions,
    "cold": crowds.cold,
    "crowds": crowds.many,
    "workers": signing.workers,
    "storage": storage.rows,
    "connections": growth.connections,
    "records": records.rows,
    "sizes": growth.sizes,
}
RESULT = processes.ROOT / "benchmarks/results/table.json"


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(GROUPS)), help="These groups of rows; repeatable.")
@click.option("--rounds", default=3, show_default=True, help="Runs of each, in alternation, after one that warms up.")
@click.option("--seconds", default=2, show_default=True, help="Length of one run.")
@click.option("--crowd", "people", default=1000, show_default=True, help="Readers of the cold video; slow readers.")
@click.option("--idle", default=10_000, show_default=True, help="Idle connections, as far as descriptors allow.")
@click.option(
    "--records",
    "most",
    default=10_000_000,
    show_default=True,
    type=click.IntRange(min=client.BATCH),
    help="Records of the largest databases; ten million take 15 GB of disk, and minutes to be made.",
)
@click.option("--json", "result", type=click.Path(path_type=Path), default=RESULT, help="Where the figures go.")
def main(only: tuple[str, ...], rounds: int, seconds: int, people: int, idle: int, most: int, result: Path) -> None:
    """Run the rows, print them, and write them down."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    load.check_tools()
    crowd.raise_limits()
    outcomes, failed = _hold(only or tuple(GROUPS), Pace(rounds, seconds, people, idle, most), console)
    judged = verdicts.lines(outcomes)
    picture = result.with_suffix(".svg")
    report.save(outcomes, result, targets=[line.described() for line in judged])
    chart.draw(judged, picture)
    console.print(report.table(outcomes))
    console.print(verdicts.table(judged))
    console.print(f"written to {result} and {picture}", highlight=False)
    if failed:
        console.print(f"[red]failed: {', '.join(failed)}")
        sys.exit(1)


def _hold(names: tuple[str, ...], pace: Pace, console: Console) -> tuple[list[report.Outcome], list[str]]:
    """Return what was measured, and the names of what could not be: the rest is not to be lost for it."""
    outcomes: list[report.Outcome] = []
    failed: list[str] = []
    with ExitStack() as stage_stack:
        stage = stage_stack.enter_context(prepared())
        for name in names:
            with ExitStack() as stack:
                for contest in GROUPS[name](stage, stack, pace):
                    try:
                        outcomes.append(report.hold(contest, pace.rounds, console))
                    except (load.LoadFailed, OSError, subprocess.SubprocessError) as trouble:
                        console.print(f"{contest.work}: {trouble!r}", style="red", markup=False, highlight=False)
                        failed.append(contest.work)
    return outcomes, failed


if __name__ == "__main__":
    main()
