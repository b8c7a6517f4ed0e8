"""Two figures of delivery from local files, each beside nginx serving the same file in the same run.

    python -m benchmarks.delivery [--rounds 5] [--seconds 3] [--json benchmarks/results/delivery.json]

The gateway does all its checks: the URL is signed, the token verified, the policy asked. nginx does none.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from benchmarks import client, load, peers, report
from tests.support.servers import processes

SMALL = 64 * 1024
RANGE = 16 * 1024 * 1024
FILM = 2 * RANGE
_MIDDLE = {"Range": f"bytes={RANGE // 2}-{RANGE // 2 + RANGE - 1}"}
RESULT = processes.ROOT / "benchmarks/results/delivery.json"


def contests(gateway: peers.Gateway, nginx: str, files: Path, seconds: int) -> list[report.Contest]:
    """Put both files into the gateway and into nginx's folder, and say what is to be measured."""
    picture, film = client.picture(SMALL), client.film(FILM)
    (files / "picture.png").write_bytes(picture)
    (files / "film.mp4").write_bytes(film)
    small = client.sign(gateway, client.upload(gateway, picture, "generated_image", "picture.png"))
    big = client.sign(gateway, client.upload(gateway, film, "generated_video", "film.mp4"))

    def requests(url: str) -> float:
        return load.wrk(url, connections=64, seconds=seconds).requests_per_second

    def megabytes(url: str) -> float:
        return load.sink(url, connections=8, seconds=seconds, expected=RANGE, headers=_MIDDLE)

    return [
        report.Contest(
            "signed GET, 64 KiB, 64 connections",
            "requests/s",
            "nginx static",
            {"nginx static": lambda: requests(f"{nginx}/picture.png"), "assetgate": lambda: requests(small)},
        ),
        report.Contest(
            "signed range of 16 MiB, 8 connections",
            "MB/s",
            "nginx static",
            {"nginx static": lambda: megabytes(f"{nginx}/film.mp4"), "assetgate": lambda: megabytes(big)},
        ),
    ]


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Runs of each, in alternation.")
@click.option("--seconds", default=3, show_default=True, help="Length of one run.")
@click.option("--json", "result", type=click.Path(path_type=Path), default=RESULT, help="Where the figures go.")
def main(rounds: int, seconds: int, result: Path) -> None:
    """Measure requests per second of small files, and bytes per second of big ones."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    load.check_tools()
    with ExitStack() as stack:
        files = stack.enter_context(processes.folder("files"))
        nginx = stack.enter_context(peers.serve_static(peers.STATIC, files))
        gateway = stack.enter_context(peers.gateway())
        outcomes = [report.hold(each, rounds, console) for each in contests(gateway, nginx.url, files, seconds)]
    console.print(report.table(outcomes))
    report.save(outcomes, result)
    console.print(f"written to {result}", highlight=False)


if __name__ == "__main__":
    main()
