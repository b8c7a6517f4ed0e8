"""Rows of growing records: what is looked up among a thousand of them and among millions, none of it remembered."""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack

import asyncpg
import uvloop

from benchmarks import client, load, paced
from benchmarks.filling import Growing, id_of, insert_into_postgres, insert_into_sqlite
from benchmarks.report import OURS, Contest, Target
from benchmarks.rows.common import Pace
from benchmarks.stage import Stage
from gateway.app import Gateway, build
from gateway.errors import AssetgateError
from policies.engine import decide
from policies.model import Action, Caller, CallerKind, Question
from tests.support.gateway import settings_for
from tests.support.servers import postgres, processes

_FEW, _MANY = 1000, 1_000_000  # records
_FLAT = Target(1.5, at_most=True)
_WARMING = 20  # steps on new connections; PostgreSQL plans a statement anew for the first five
_LEAST = 30  # steps, however short the run
_SIGNER = Caller(CallerKind.SERVICE, "bench", scopes=frozenset({"sign"}))

Step = Callable[[Gateway, int], Awaitable[float]]  # the parts, and of how many records -> the seconds that it took


def rows(_stage: Stage, stack: ExitStack, pace: Pace) -> list[Contest]:
    """Decisions and batches in one growing database of each engine, by turns with a small one."""
    folder = stack.enter_context(processes.folder("records"))
    server = stack.enter_context(postgres.running())
    few, growing = (Growing(f"sqlite:///{folder}/{name}.db", insert_into_sqlite) for name in ("few", "growing"))
    sqlite = _contests("SQLite", few, growing, pace)
    few, growing = (Growing(server.create_database(), insert_into_postgres) for _ in range(2))
    return [*sqlite, *_contests("PostgreSQL", few, growing, pace)]


def _contests(engine: str, few: Growing, growing: Growing, pace: Pace) -> list[Contest]:
    kinds: list[tuple[str, Step, Callable[[Sequence[float]], float]]] = [
        ("decision on a read, median", _decision, _median),
        ("decision on a read, p99", _decision, paced.p99),
        (f"batch sign of {client.BATCH:,} refs, median", _batch, _median),
    ]
    peer = f"{_FEW:,} records"
    return [
        Contest(
            f"{kind}, {engine}, {count:,} records, none remembered",
            "ms",
            peer,
            {peer: _runner(few, _FEW, step, figure, pace), OURS: _runner(growing, count, step, figure, pace)},
            {peer: _FLAT} if count == pace.records else {},
        )
        for count in sorted({min(_MANY, pace.records), pace.records})
        for kind, step, figure in kinds
    ]


def _runner(
    database: Growing, count: int, step: Step, figure: Callable[[Sequence[float]], float], pace: Pace
) -> Callable[[], float]:
    """Grow the database if it is still smaller, which is in the run that warms up, and measure."""

    def run() -> float:
        try:
            database.grow(count)
            return figure(uvloop.run(_steps(database, step, pace.seconds)))
        except (AssetgateError, sqlite3.Error, asyncpg.PostgresError) as trouble:
            raise load.LoadFailed(repr(trouble)) from trouble

    return run


async def _steps(database: Growing, step: Step, seconds: float) -> list[float]:
    """Go step by step on opened parts; return the seconds that each took, sorted."""
    took: list[float] = []
    async with build(settings_for(None, {"metadata": database.url, "records.remember": 0})) as parts:
        for _ in range(_WARMING):
            await step(parts, database.count)
        until = time.perf_counter() + seconds
        while len(took) < _LEAST or time.perf_counter() < until:
            took.append(await step(parts, database.count))
    return sorted(took)


async def _decision(parts: Gateway, count: int) -> float:
    """Look up any record and decide on its owner's read."""
    number = random.randrange(count)
    asset_id, owner = id_of(number), Caller(CallerKind.USER, str(number))
    began = time.perf_counter()
    asset = (await parts.metadata.get([asset_id]))[asset_id]
    decide(Question(owner, Action.READ, asset.subject, None, parts.clock()), parts.rules)
    return time.perf_counter() - began


async def _batch(parts: Gateway, count: int) -> float:
    """Sign the URLs of any thousand records for a service."""
    ids = [id_of(number) for number in random.sample(range(count), client.BATCH)]
    began = time.perf_counter()
    answers = await parts.sharing.sign(_SIGNER, ids)
    took = time.perf_counter() - began
    if any("error" in answer for answer in answers):
        raise load.LoadFailed("not all of the references were signed")
    return took


def _median(sorted_seconds: Sequence[float]) -> float:
    return statistics.median(sorted_seconds) * 1000
