"""Samples a gateway under a load of signed GETs, remembered or missed, and writes down its hottest lines.

    python -m benchmarks.profiling [--work miss] [--native] [--seconds 10] [--text benchmarks/results/profile.txt]

py-spy (`make profile` installs it) needs the right to look into our own child: root, or a kernel that allows it
(kernel.yama.ptrace_scope = 0 or 1).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import click

from benchmarks import client, load, report
from benchmarks.stage import copy_id, prepared
from tests.support.servers import processes

RESULT = processes.ROOT / "benchmarks/results/profile.txt"
_MOST = 40  # lines
_READERS = 64
_WAITING = "_worker (concurrent/futures/thread.py"  # a thread without work, which py-spy may take for busy
_MOST_MISSES = 15_000  # a second


@click.command()
@click.option("--seconds", default=10, show_default=True, help="How long it is looked at.")
@click.option("--rate", default=200, show_default=True, help="Samples a second.")
@click.option("--work", default="hit", type=click.Choice(["hit", "miss"]), show_default=True, help="What is asked for.")
@click.option("--native", is_flag=True, help="Look into C as well: slower, and rougher.")
@click.option("--text", "result", type=click.Path(path_type=Path), default=RESULT, help="Where the lines go.")
def main(seconds: int, rate: int, work: str, native: bool, result: Path) -> None:
    """Write the hottest lines: where the time is spent, and on whose behalf."""
    load.check_tools()
    options = ["--rate", str(rate), "--duration", str(seconds), *(["--native"] if native else [])]
    copies = {"64k": _MOST_MISSES * seconds} if work == "miss" else {}
    with prepared() as stage, stage.gateway(copies=copies) as gateway:
        url = client.sign(gateway, stage.ids["64k"])
        load.wrk(url, connections=_READERS, seconds=1)
        missed = client.sign_all(gateway, [copy_id("64k", number) for number in range(copies.get("64k", 0))])
        stacks, requests = _sampled(gateway.process.pid, missed or [url], seconds, options)
    text = "\n".join(_described(stacks, work, requests)) + "\n"
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(text, encoding="utf-8")
    click.echo(f"{text}written to {result}")


def _sampled(pid: int, urls: list[str], seconds: int, options: list[str]) -> tuple[Counter[tuple[str, ...]], float]:
    """Return how often each stack was seen, outermost frame first, and the requests a second meanwhile."""
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        spying: processes.Command = [Path(sys.executable).with_name("py-spy"), "record", "--format", "raw", *options]
        command = [*spying, "--pid", str(pid), "--output", file.name]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as spy:
            if len(urls) > 1:
                seen = load.wrk_each(urls, connections=_READERS, seconds=seconds)
            else:
                seen = load.wrk(urls[0], connections=_READERS, seconds=seconds)
            if spy.wait(seconds + 60):
                raise load.LoadFailed(f"py-spy ended with {spy.returncode}")
        lines = Path(file.name).read_text(encoding="utf-8").splitlines()
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        frames, _, count = line.rpartition(" ")
        if not frames.rpartition(";")[2].startswith(_WAITING):
            stacks[tuple(frames.split(";"))] += int(count)
    return stacks, seen.requests_per_second


def _described(stacks: Counter[tuple[str, ...]], work: str, requests: float) -> list[str]:
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
        for frame in set(stack):
            whole[frame] += count
    facts = ", ".join(report.machine().values())
    return [
        f"signed GET, 64 KiB, {work}: {requests:,.0f} requests/s while being sampled, {stacks.total():,} samples",
        facts,
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
