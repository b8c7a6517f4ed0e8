"""A store in memory whose look-ups a test can count, hold back and let fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.errors import Unavailable
from gateway.metadata.driver import Row, Statement
from gateway.metadata.lanes import Lane
from gateway.metadata.news import News, Silence
from gateway.metadata.queries import SqlMetadata
from gateway.metadata.remembered import Remembered, remember
from gateway.metadata.sqlite import SqliteDriver, connect
from tests.support.metadata import clock, settings_for


class HandClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched(SqliteDriver):
    """SQLite in memory. `news` are those of an engine that tells of changes, or does not."""

    def __init__(self, lane: Lane, *, lasting: bool) -> None:
        super().__init__(lane, lane)
        self._lasting = lasting
        self.fetched = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.trouble: Unavailable | None = None

    @property
    def news(self) -> News:
        return Silence(lasting=self._lasting)

    async def fetch(self, statement: Statement) -> Sequence[Row]:
        self.fetched += 1
        rows = await super().fetch(statement)
        await self.go_on.wait()
        if self.trouble is not None:
            raise self.trouble
        return rows

    async def batch(self, statements: Sequence[Statement], *, patient: bool = False) -> Sequence[Sequence[Row]]:
        results = await super().batch(statements, patient=patient)
        if self.trouble is not None:
            raise self.trouble  # it was done, and the answer was lost
        return results


@asynccontextmanager
async def watched(
    steady: HandClock, *, lasting: bool = True, **settings: str
) -> AsyncIterator[tuple[Remembered, Watched]]:
    """Open a memory before a watched store."""
    driver = Watched(await Lane.open([lambda: connect(":memory:")]), lasting=lasting)
    inner = SqlMetadata(driver, clock)
    await inner.upgrade()
    store = await remember(inner, settings_for("memory://", **settings).records, steady)
    try:
        yield store, driver
    finally:
        driver.go_on.set()
        await store.close()
