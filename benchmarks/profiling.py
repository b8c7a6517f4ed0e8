"""Samples a gateway under a load of signed GETs, and writes down the lines where it is found most often.

    python -m benchmarks.profiling [--seconds 10] [--rate 500] [--size 64k] [--text benchmarks/results/profile.txt]

py-spy needs the right to look into our own child: root, or a kernel that allows it (kernel.yama.ptrace_scope = 0 or 1).
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import click

from benchmarks import client, load, report
from benchmarks.stage import SIZES, prepared
from tests.support.servers import processes

RESULT = processes.ROOT / "benchmarks/results/profile.txt"
_MOST = 40  # lines
_READERS = 64


@click.command()
@click.option("--seconds", default=10, show_default=True, help="How long it is looked at.")
@click.option("--rate", default=500, show_default=True, help="Samples a second.")
@click.option("--size", default="64k", type=click.Choice(list(SIZES)), show_default=True, help="Of the object.")
@click.option("--text", "result", type=click.Path(path_type=Path), default=RESULT, help="Where the lines go.")
def main(seconds: int, rate: int, size: str, result: Path) -> None:
    """Write the hottest lines: where the time is spent, and on whose behalf."""
    load.check_tools()
    with prepared() as stage, stage.gateway() as gateway:
        url = client.sign(gateway, stage.ids[size])
        load.wrk(url, connections=_READERS, seconds=1)
        stacks, requests = _sampled(gateway.process.pid, url, seconds, rate)
    text = "\n".join(_described(stacks, size, requests)) + "\n"
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(text, encoding="utf-8")
    click.echo(f"{text}written to {result}")


def _sampled(pid: int, url: str, seconds: int, rate: int) -> tuple[Counter[tuple[str, ...]], float]:
    """Return how often each stack was seen, outermost frame first, and the requests a second meanwhile."""
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        # In C as well: much of a request is spent in the loop and in the kernel.
        options = ["--format", "raw", "--rate", str(rate), "--duration", str(seconds), "--native", "--nonblocking"]
        command = [processes.program("py-spy"), "record", *options, "--pid", str(pid), "--output", file.name]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as spy:
            requests = load.wrk(url, connections=_READERS, seconds=seconds).requests_per_second
            if spy.wait(seconds + 60):
                raise load.LoadFailed(f"py-spy ended with {spy.returncode}")
        lines = Path(file.name).read_text(encoding="utf-8").splitlines()
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        frames, _, count = line.rpartition(" ")
        stacks[tuple(frames.split(";"))] += int(count)
    return stacks, requests


def _described(stacks: Counter[tuple[str, ...]], size: str, requests: float) -> list[str]:
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
        for frame in set(stack):
            whole[frame] += count
    facts = ", ".join(report.machine().values())
    return [
        f"signed GET, {size}, {requests:,.0f} requests/s while being sampled, {stacks.total():,} samples; {facts}",
        "",
        "by itself",
        *_hottest(own, stacks.total()),
        "",
        "with what it calls",
        *_hottest(whole, stacks.total()),
    ]


def _hottest(seen: Counter[str], total: int) -> list[str]:
    return [f"{count / total:7.1%}  {frame}" for frame, count in seen.most_common(_MOST)]


if __name__ == "__main__":
    main()
