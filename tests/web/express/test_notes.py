"""The log and the counters tell the same of a request whichever lane answered it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.app import build
from gateway.metrics import Metrics
from tests.support.delivery import CASES, Case, Known, name_of
from tests.support.gateway import PNG, MovableClock, Running, answering, settings_for, user_headers
from tests.support.raw import ask
from tests.support.storage import content
from tests.web.express.twins import watched

PROXIED = {"server.trusted_proxies": ["127.0.0.1/32"]}
LINES = (("User-Agent", "a player/1.0"), ("X-Forwarded-For", "203.0.113.9"), ("X-Request-Id", "of-the-proxy"))
TABLE: tuple[Case, ...] = tuple(case for case in CASES if all(len(value) < 1000 for _, value in case.sent))
VARYING = {"time", "ms"}


def counted(gateway: Running) -> dict[str, float]:
    """All counters that are not about the time that something took."""
    return {
        f"{sample.name}{sample.labels}": sample.value
        for metric in gateway.parts.metrics.registry.collect()
        for sample in metric.samples
        if not sample.name.endswith(("_created", "_bucket", "_sum"))
    }


async def noted(gateway: Running, case: Case, known: Known, path: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Ask once; return the line of the log, and by how much the counters went up."""
    before, number = counted(gateway), len(gateway.journal.text)
    own = f"{number:012d}"  # an id of its own, as a trusted proxy may give it
    lines = [*LINES[:2], ("X-Request-Id", own), *(line for line in case.headers(known) if line[0] != "User-Agent")]
    answer = await ask(gateway.url, case.method, path, lines)
    facts = await gateway.journal.facts(own)
    assert answer.headers["X-Request-Id"] == own
    after = counted(gateway)
    found = {name: value for name, value in facts.items() if name not in {*VARYING, "request_id"}}
    return found, {name: value - before.get(name, 0.0) for name, value in after.items() if value != before.get(name)}


async def test_both_lanes_note_the_same() -> None:
    clock, found = MovableClock(), []
    async with build(settings_for(None, {**PROXIED, "server.express": True}), clock) as parts:
        await parts.metadata.upgrade()
        plain = replace(parts, settings=settings_for(None, {**PROXIED, "server.express": False}), metrics=Metrics())
        async with answering(parts, clock) as express, answering(plain, clock) as handlers:
            path = await express.sign(await express.asset(PNG + content("notes", 600_000)))
            first = await ask(express.url, "GET", path, LINES)
            known = Known(len(first.body), first.headers["ETag"], int(clock()))
            with watched() as taken:
                for case in TABLE:
                    by_lane, by_handlers = [await noted(gateway, case, known, path) for gateway in (express, handlers)]
                    if by_lane != by_handlers:
                        found.append((name_of(case), by_lane, by_handlers))
    assert found == []
    assert len(taken.answered) > len(TABLE) // 2


async def test_tokens_and_credentials_are_in_no_line_of_the_lane() -> None:
    async with build(settings_for(None, {"server.express": True}), clock := MovableClock()) as parts:
        await parts.metadata.upgrade()
        async with answering(parts, clock) as gateway:
            asset_id = await gateway.asset()
            signed, owner = await gateway.sign(asset_id), tuple(user_headers().items())
            with watched() as taken:
                for _ in range(2):
                    await ask(gateway.url, "GET", signed)
                    await ask(gateway.url, "GET", f"/api/storage/assets/{asset_id}", owner)
            assert len(taken.answered) == 3
            text = gateway.journal.text
    assert text.count(asset_id) >= 4
    assert signed.partition("token=")[2] not in text
    assert owner[0][1].removeprefix("Bearer ") not in text
