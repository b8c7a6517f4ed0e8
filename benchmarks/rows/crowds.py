"""Rows of many at once: everybody reads one cold video; ten thousand are connected; a thousand read slowly."""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks import client, crowd, load
from benchmarks.peers import Gateway
from benchmarks.report import OURS, Contest, Target
from benchmarks.rows.common import READERS, Pace
from benchmarks.stage import SIZES, MiB, Stage, add_cold

SLICE = MiB
_SETTLING = 3.0  # seconds in which the gateway sees that a crowd has left; who is alone then is not to pay for it
_PATIENCE = 300.0  # seconds for the whole crowd
_FETCH = re.compile(r"\S+ 206 (\d+) bytes=(\d+)-\d+\Z")


def cold(stage: Stage, stack: ExitStack, pace: Pace) -> list[Contest]:
    """Everybody reads one video from its beginning that nobody has read before: how often is each slice fetched?"""
    gateway = stack.enter_context(stage.gateway())
    numbers = itertools.count()

    def fetches() -> float:
        known = len(stage.fetched())
        number = next(numbers)
        url = client.sign(gateway, add_cold(stage, gateway, "64m", number))
        # As many URLs as readers: each has one connection, and reads the video once.
        load.sink([url] * pace.crowd, connections=pace.crowd, seconds=_PATIENCE, expected=SIZES["64m"])
        return float(most_fetches(stage.fetched()[known:], SIZES["64m"]))

    return [
        Contest(
            f"{pace.crowd:,} readers of one cold 64 MiB video",
            "fetches of a slice, at most",
            OURS,
            {OURS: fetches},
            {OURS: Target(1, at_most=True)},
            once=True,
        )
    ]


def many(stage: Stage, stack: ExitStack, pace: Pace) -> list[Contest]:
    """Memory with everybody connected, and what that does to those who are in a hurry."""
    gateway = stack.enter_context(stage.gateway())
    small, film = (client.sign(gateway, stage.ids[name]) for name in ("4k", "200m"))
    quick = client.sign(gateway, stage.ids["64k"])
    idle = min(pace.idle, crowd.raise_limits() - pace.crowd)

    def rate() -> float:
        return load.wrk(quick, connections=READERS, seconds=pace.seconds).requests_per_second

    def memory() -> float:
        with crowd.idle(small, idle), crowd.slow(film, pace.crowd):
            rate()
            megabytes = crowd.resident(gateway.process.pid)
        time.sleep(_SETTLING)
        return megabytes

    return [
        Contest(
            f"{idle:,} idle connections and {pace.crowd:,} slow readers",
            "MB resident",
            OURS,
            {OURS: memory},
            {OURS: Target(400, at_most=True)},
            once=True,
        ),
        _others(gateway, rate, small, film, idle, pace),
    ]


def most_fetches(lines: list[str], size: int) -> int:
    """The storage's log -> how often the slice was sent that was sent most often. Raises when one never was."""
    sent: Counter[int] = Counter()
    for line in lines:
        fetched = _FETCH.fullmatch(line)
        count, start = (int(fetched[1]), int(fetched[2])) if fetched else (int(line.split()[2]), 0)
        sent.update(range(start // SLICE, -(-(start + count) // SLICE)))
    if set(sent) != set(range(size // SLICE)):
        raise load.LoadFailed(f"the storage was not asked for the whole video: {lines}")
    return max(sent.values())


def _others(gateway: Gateway, rate: Callable[[], float], small: str, film: str, idle: int, pace: Pace) -> Contest:
    assert gateway.process.popen.poll() is None

    def crowded() -> float:
        with crowd.idle(small, idle), crowd.slow(film, pace.crowd):
            figure = rate()
        time.sleep(_SETTLING)
        return figure

    return Contest(
        "signed GET, 64 KiB, with all these connected",
        "requests/s",
        "the same alone",
        {"the same alone": rate, OURS: crowded},
        {"the same alone": Target(0.9)},
    )
