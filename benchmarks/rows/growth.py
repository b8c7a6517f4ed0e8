"""Rows of growing work on what is remembered: more connections, and a cache of slices that fills up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import client, load
from benchmarks.peers import Gateway
from benchmarks.report import OURS, Contest
from benchmarks.rows.common import CACHED, READERS, Pace, requests
from benchmarks.stage import SIZES, MiB, Stage, copy_id
from gateway.delivery import slice_files

_CONNECTIONS = (1, 10, 100, 1000)
# The second holds more slices than a worker keeps maps of: up to Python 3.12, an eighth of the descriptors it may have.
_CACHES = (128 * MiB, 512 * MiB)
_TAKEN = slice_files.disk_use(SIZES["64k"])  # bytes: such an object is one slice
_EMPTY = "cache empty but for one object"
_PATIENCE = 300.0  # seconds until a cache is filled


def connections(stage: Stage, stack: ExitStack, pace: Pace) -> list[Contest]:
    """Signed GETs of one object over ever more keep-alive connections, beside nginx with `secure_link`."""
    gateway = stack.enter_context(stage.gateway())
    urls = {CACHED: stage.linked("cached", "64k"), OURS: client.sign(gateway, stage.ids["64k"])}
    return [
        Contest(
            f"signed GET, 64 KiB, keep-alive connections: {count:,}",
            "requests/s",
            CACHED,
            {name: requests(url, pace, connections=count) for name, url in urls.items()},
        )
        for count in _CONNECTIONS
    ]


def sizes(stage: Stage, stack: ExitStack, pace: Pace) -> list[Contest]:
    """Signed GETs, by turns, of all that a cache holds; and of twice as much, so that each makes room for another."""
    contests = []
    for capacity in _CACHES:
        most = capacity // _TAKEN
        states = {_EMPTY: 1, "cache 50% full": most // 2, "cache full": most, "cache full, evicting": 2 * most}
        contests.append(
            Contest(
                f"signed GET, 64 KiB, of a cache of {capacity // MiB} MiB",
                "requests/s",
                _EMPTY,
                {name: _by_turns(stage, stack, capacity, count, pace) for name, count in states.items()},
            )
        )
    return contests


def _by_turns(stage: Stage, stack: ExitStack, capacity: int, count: int, pace: Pace) -> Callable[[], float]:
    """Requests a second of so many objects in the order of a ring; the cache has been filled before the first run."""
    cache = f"\n[cache]\nmax_bytes = {capacity}\nadmit_after = 1\n"
    gateway = stack.enter_context(stage.gateway(cache, copies={"64k": count}))
    urls: deque[str] = deque()

    def rate() -> float:
        if not urls:
            urls.extend(client.sign_all(gateway, [copy_id("64k", number) for number in range(count)]))
            _fill(gateway, urls, min(count, capacity // _TAKEN))
        done = load.wrk_by_turns(urls, connections=READERS, seconds=pace.seconds)
        # The next run goes on where this one ended: what it has just read would be there still.
        urls.rotate(-(done.requests + READERS))
        return done.requests_per_second

    return rate


def _fill(gateway: Gateway, urls: deque[str], count: int) -> None:
    """Read so many once, and turn to the others. Raises `LoadFailed` when the cache then holds another number."""
    load.sink(list(urls)[:count], connections=READERS, seconds=_PATIENCE, expected=SIZES["64k"])
    urls.rotate(-count)
    slices, _ = slice_files.found_in(Path(gateway.process.log).parent / "data/cache")
    if len(slices) != count:
        raise load.LoadFailed(f"the cache holds {len(slices):,} slices instead of {count:,}")
