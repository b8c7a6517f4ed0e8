"""Rows of what is remembered: small signed GETs, ranges, 304, and a caller who is signed in."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack

import jwt

from benchmarks import client, load
from benchmarks.report import OURS, Contest, Target
from benchmarks.rows.common import CACHED, PASSED, STATIC, Pace, requests
from benchmarks.stage import JWT_SECRET, OWNER, KiB, MiB, Stage

RANGE = 16 * MiB
_MIDDLE = {"Range": f"bytes={RANGE // 2 + 1000}-{RANGE // 2 + RANGE + 999}"}
_SEEK = {"Range": f"bytes={100 * MiB + 12345}-{100 * MiB + 12345 + 64 * KiB - 1}"}
_LIFE = 3600  # seconds of the JWT


def small(stage: Stage, stack: ExitStack, pace: Pace) -> list[Contest]:
    """Signed GETs of 64 KiB and 4 KiB, beside nginx with `secure_link`."""
    gateway = stack.enter_context(stage.gateway())
    rows = []
    for name, size, targets in (
        ("64k", "64 KiB", {CACHED: Target(0.8), PASSED: Target(1.8)}),
        ("4k", "4 KiB", {CACHED: Target(0.7)}),
    ):
        rivals = {CACHED: "cached", PASSED: "passed"}
        runners = {rival: requests(stage.linked(rivals[rival], name), pace) for rival in targets}
        runners[OURS] = requests(client.sign(gateway, stage.ids[name]), pace)
        rows.append(Contest(f"signed GET, {size}", "requests/s", CACHED, runners, targets))
    return rows


def ranges(stage: Stage, stack: ExitStack, pace: Pace) -> list[Contest]:
    """Ranges of films and 304, beside nginx that serves the files statically and checks nothing."""
    gateway = stack.enter_context(stage.gateway())
    film, video = (client.sign(gateway, stage.ids[name]) for name in ("32m", "200m"))

    def megabytes(url: str) -> float:
        return load.sink(url, connections=8, seconds=pace.seconds, expected=RANGE, headers=_MIDDLE)

    return [
        Contest(
            "range of 16 MiB, 8 readers",
            "MB/s",
            STATIC,
            {STATIC: lambda: megabytes(stage.static("32m")), OURS: lambda: megabytes(film)},
            {STATIC: Target(1.1)},
        ),
        Contest(
            "64 KiB range of a 200 MiB video",
            "requests/s",
            STATIC,
            {STATIC: requests(stage.static("200m"), pace, _SEEK), OURS: requests(video, pace, _SEEK)},
            {STATIC: Target(0.8)},
        ),
        Contest(
            "304",
            "requests/s",
            STATIC,
            {STATIC: _not_modified(stage.static("200m"), pace), OURS: _not_modified(video, pace)},
            {STATIC: Target(0.8)},
        ),
    ]


def sessions(stage: Stage, stack: ExitStack, pace: Pace) -> list[Contest]:
    """GETs by a JWT, beside our own by a signed URL."""
    gateway = stack.enter_context(stage.gateway())
    now = int(time.time())
    token = jwt.encode({"sub": OWNER, "iat": now, "exp": now + _LIFE}, JWT_SECRET, "HS256")
    plain = f"{gateway.url}/api/storage/assets/{stage.ids['64k']}"
    signed = client.sign(gateway, stage.ids["64k"])
    return [
        Contest(
            "JWT GET, 64 KiB",
            "requests/s",
            "our signed GET",
            {
                "our signed GET": requests(signed, pace),
                OURS: requests(plain, pace, {"Authorization": f"Bearer {token}"}),
            },
            {"our signed GET": Target(0.9)},
        )
    ]


def _not_modified(url: str, pace: Pace) -> Callable[[], float]:
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10) as answer:  # noqa: S310
        tag = answer.headers["ETag"]
    return requests(url, pace, {"If-None-Match": tag})
