"""Rows of what is not remembered: every request asks for an object that nobody has asked for before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from benchmarks import client, load, paced
from benchmarks.peers import Gateway
from benchmarks.report import OURS, Contest, Target
from benchmarks.rows.common import PROXIED, READERS, Pace
from benchmarks.stage import SIZES, Copies, Stage, copy_id, copy_key

_MOST_SMALL = 20_000  # requests a second; more than one worker can do
_MOST_BIG = 150
_RATE = 400  # requests a second of the open loop: a third of what the slowest part can do
_BIG_READERS = 8
DIRECT = "the storage itself"

Urls = Callable[[list[int]], list[str]]


def rows(stage: Stage, stack: ExitStack, pace: Pace) -> list[Contest]:
    """Misses of 64 KiB and 16 MiB beside nginx `proxy_pass`, and their first bytes beside the storage's own."""
    small = _MOST_SMALL * pace.seconds
    counts = {"64k": (small + _RATE * pace.seconds) * pace.runs, "16m": _MOST_BIG * pace.seconds * pace.runs}
    gateway = stack.enter_context(stage.gateway(copies=counts))
    copies = {name: Copies(name, count) for name, count in counts.items()}
    return [
        _small(stage, gateway, copies["64k"], small, pace),
        _big(stage, gateway, copies["16m"], pace),
        _first_byte(stage, gateway, copies["64k"], pace),
    ]


def _small(stage: Stage, gateway: Gateway, copies: Copies, count: int, pace: Pace) -> Contest:
    def rate(urls: list[str]) -> float:
        return load.wrk_each(urls, connections=READERS, seconds=pace.seconds).requests_per_second

    # nginx keeps nothing: it may have the same names each time, twice as many, for it may be faster.
    plain = _plain(stage.front.url, "plain", "64k", list(range(2 * count)))
    return Contest(
        "miss, 64 KiB",
        "requests/s",
        PROXIED,
        {PROXIED: lambda: rate(plain), OURS: lambda: rate(_signed(gateway, "64k", copies.take(count)))},
        {PROXIED: Target(0.8)},
    )


def _big(stage: Stage, gateway: Gateway, copies: Copies, pace: Pace) -> Contest:
    count = _MOST_BIG * pace.seconds

    def megabytes(urls: list[str]) -> float:
        return load.sink(urls, connections=_BIG_READERS, seconds=pace.seconds, expected=SIZES["16m"])

    plain = _plain(stage.front.url, "plain", "16m", list(range(4 * count)))
    return Contest(
        "miss, 16 MiB",
        "MB/s",
        PROXIED,
        {PROXIED: lambda: megabytes(plain), OURS: lambda: megabytes(_signed(gateway, "16m", copies.take(count)))},
        {PROXIED: Target(1.1)},
    )


def _first_byte(stage: Stage, gateway: Gateway, copies: Copies, pace: Pace) -> Contest:
    count = _RATE * pace.seconds

    def p99(urls: list[str]) -> float:
        asked = [load.request_for(url) for url in urls]
        return paced.run(paced.http_p99(urls[0], asked, _RATE, expected=SIZES["64k"], first_byte=True))

    direct = _plain(stage.storage.url, "media", "64k", list(range(count)))
    return Contest(
        f"first byte of a miss, p99 at {_RATE}/s",
        "ms",
        DIRECT,
        {DIRECT: lambda: p99(direct), OURS: lambda: p99(_signed(gateway, "64k", copies.take(count)))},
        {DIRECT: Target(1.5, at_most=True)},
    )


def _plain(base: str, way: str, name: str, numbers: list[int]) -> list[str]:
    return [f"{base}/{way}/{copy_key(name, number)}" for number in numbers]


def _signed(gateway: Gateway, name: str, numbers: list[int]) -> list[str]:
    return client.sign_all(gateway, [copy_id(name, number) for number in numbers])
