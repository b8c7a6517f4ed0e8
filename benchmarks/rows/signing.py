"""Rows of signing a thousand references in one request, as a page with many pictures needs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks import client, load
from benchmarks.peers import Gateway
from benchmarks.report import OURS, Contest, Target
from benchmarks.rows.common import Pace
from benchmarks.stage import Stage, copy_id

_CONNECTIONS = 2  # so that one request waits while another is answered: the worker's core is what is measured
_MANY = 32  # so that the kernel spreads them over two workers nearly evenly
_FORGETTING = "\n[records]\nremember = 0\n"


def rows(stage: Stage, stack: ExitStack, pace: Pace) -> list[Contest]:
    """References signed a second, with the records in memory and without."""
    kinds = (("records remembered", "", 100_000), ("records not remembered", _FORGETTING, 20_000))
    return [
        _contest(kind, stack.enter_context(stage.gateway(more, copies={"64k": client.BATCH})), target, pace)
        for kind, more, target in kinds
    ]


def _contest(kind: str, gateway: Gateway, target: float, pace: Pace) -> Contest:
    return Contest(
        f"batch sign of {client.BATCH:,} refs, {kind}",
        "refs/s",
        OURS,
        {OURS: _references(gateway, pace, _CONNECTIONS)},
        {OURS: Target(target)},
    )


def workers(stage: Stage, stack: ExitStack, pace: Pace) -> list[Contest]:
    """Two workers beside one, at work that leaves the load generator next to nothing to do: both cores are free."""
    copies = {"64k": client.BATCH}
    one, two = (stack.enter_context(stage.gateway(workers=count, copies=copies)) for count in (1, 2))
    return [
        Contest(
            f"two workers, batch sign of {client.BATCH:,} refs",
            "refs/s",
            "one worker",
            {"one worker": _references(one, pace, _MANY), OURS: _references(two, pace, _MANY)},
            {"one worker": Target(1.8)},
        )
    ]


def _references(gateway: Gateway, pace: Pace, connections: int) -> Callable[[], float]:
    references = [f"asset://{copy_id('64k', number)}" for number in range(client.BATCH)]
    client.sign_all(gateway, [copy_id("64k", number) for number in range(client.BATCH)])  # fails if one is not signed
    body = json.dumps({"assetRefs": references}).encode()
    headers = {"Authorization": f"Bearer {gateway.service_key}"}

    def rate() -> float:
        url = gateway.url + client.SIGN
        done = load.wrk_post(url, body, connections=connections, seconds=pace.seconds, headers=headers)
        return done.requests_per_second * client.BATCH

    return rate
