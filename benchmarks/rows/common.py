"""What every group of rows is given, and the figures that many of them take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks import load

READERS = 64
STATIC, CACHED, PASSED, PROXIED = (
    "nginx static",
    "nginx cache hit",
    "nginx secure_link + proxy_pass",
    "nginx proxy_pass",
)


@dataclass(frozen=True)
class Pace:
    """How long everything takes."""

    rounds: int
    seconds: int
    crowd: int  # readers of the cold video, and slow readers
    idle: int  # connections
    records: int  # of the largest database

    @property
    def runs(self) -> int:
        """Runs of one runner, the warming one included."""
        return self.rounds + 1


def requests(
    url: str, pace: Pace, headers: Mapping[str, str] | None = None, *, connections: int = READERS
) -> Callable[[], float]:
    """Requests a second of one URL."""
    return lambda: load.wrk(url, connections=connections, seconds=pace.seconds, headers=headers).requests_per_second
