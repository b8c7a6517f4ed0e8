"""The records, kept in memory while nobody changes them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from gateway.clock import Clock
from gateway.errors import RecordsTimeout, RecordsUnavailable
from gateway.generations import Generations
from gateway.metadata import Changes, Listing, Metadata, MigrationStatus, Quota
from gateway.metadata.news import News
from gateway.metadata.task_records import TaskRecords
from gateway.model import Asset
from gateway.settings import Records
from policies.model import State

Result = TypeVar("Result")
Flight = asyncio.Task[dict[str, Asset]]

_RENEWED_FROM: Final = 0.8  # of its life
_AWAY: Final = (RecordsUnavailable, RecordsTimeout)


class Entry(NamedTuple):
    """What was found at an id, until when (seconds of the steady clock) that is good, and from when it is renewed."""

    asset: Asset | None
    until: float
    renewed_from: float


@dataclass(frozen=True, slots=True)
class Lives:
    """How long (seconds) what was read is good, and how many records to keep."""

    size: int
    present: float
    absent: float
    stale: float

    @classmethod
    def of(cls, settings: Records, news: News) -> Lives:
        present = settings.remember_for if news.lasting else min(settings.remember_for, settings.unannounced_for)
        return cls(settings.remember, present, min(present, settings.absent_for), settings.stale_for)


async def remember(metadata: Metadata, settings: Records, steady: Clock = time.monotonic) -> Remembered:
    """Put a memory before an opened store; closing it closes both."""
    remembered = Remembered(metadata, settings, steady)
    try:
        await remembered.open()
    except BaseException:
        await remembered.close()
        raise
    return remembered


class Remembered:
    """A store whose `get` answers from memory what was read before and that nobody changed since.

    `steady` is a clock that nobody sets: no step of the wall clock lengthens a life. Concurrent look-ups of one id are
    one. A look-up that a change overtook is answered, and neither kept nor joined by those who ask after the change.
    """

    def __init__(self, inner: Metadata, settings: Records, steady: Clock = time.monotonic) -> None:
        self._inner = inner
        self._news = inner.news
        self._lives = Lives.of(settings, self._news)
        self._steady = steady
        self._entries = Generations[str, Entry](self._lives.size)
        self._flights: dict[str, Flight] = {}
        self.current: Callable[[], bool] = self._news.current

    @property
    def news(self) -> News:
        return self._news

    @property
    def task_records(self) -> TaskRecords:
        return self._inner.task_records

    async def open(self) -> None:
        await self._news.open(self._heard)

    async def close(self) -> None:
        await self._news.close()
        for flight in set(self._flights.values()):
            flight.cancel()
        await asyncio.gather(*self._flights.values(), return_exceptions=True)
        await self._inner.close()

    def peek(self, asset_id: str) -> Asset | None:
        """Return the record if it is remembered and good this very moment. It is the same object until it changes.

        One that is asked for in the last part of its life is read anew beside that: what is in use stays in memory.
        """
        if not self.current():
            return None
        entry, now = self._entries.get(asset_id), self._steady()
        if entry is None or now >= entry.until:
            return None
        if now >= entry.renewed_from and asset_id not in self._flights:
            # Once: when that fails, the record ends when it would have.
            self._entries.keep(asset_id, entry._replace(renewed_from=entry.until))
            self._fly([asset_id])
        return entry.asset

    async def get(self, ids: Sequence[str]) -> dict[str, Asset]:
        if not self.current():
            return await self._or_stale(ids, self._inner.get(ids))
        found, missing, now = dict[str, Asset](), list[str](), self._steady()
        for asset_id in ids:
            entry = self._entries.get(asset_id)
            if entry is None or now >= entry.until:
                missing.append(asset_id)
            elif entry.asset is not None:
                found[asset_id] = entry.asset
        return found | await self._or_stale(missing, self._looked_up(missing)) if missing else found

    async def add(self, asset: Asset, quota: Quota | None = None, now: int = 0) -> int:
        return await self._around([asset.id], self._inner.add(asset, quota, now))

    async def change(
        self, asset_id: str, changes: Changes, when: State, quota: Quota | None = None, now: int = 0
    ) -> Asset | None:
        return await self._around([asset_id], self._inner.change(asset_id, changes, when, quota, now))

    async def revoke(self, asset_id: str, at: int) -> Asset | None:
        return await self._around([asset_id], self._inner.revoke(asset_id, at))

    async def claim(self, guest: str, user: str, now: int) -> list[str]:
        return await self._unknown(self._inner.claim(guest, user, now), lambda claimed: claimed)

    async def expire(self, now: int, pending_before: int, limit: int) -> list[Asset]:
        expiring = self._inner.expire(now, pending_before, limit)
        return await self._unknown(expiring, lambda expired: [asset.id for asset in expired])

    async def discard(self, asset_id: str) -> None:
        await self._around([asset_id], self._inner.discard(asset_id))

    async def unswept(self, limit: int, after: str = "") -> list[Asset]:
        return await self._inner.unswept(limit, after)

    async def swept(self, ids: Sequence[str]) -> None:
        await self._around(ids, self._inner.swept(ids))

    async def forget(self, before: int, limit: int) -> int:
        # What these records said, that the asset is gone, stays true: no need to drop them.
        return await self._inner.forget(before, limit)

    def stored_keys(self, after: str = "") -> AsyncIterator[tuple[str, str, State]]:
        return self._inner.stored_keys(after)

    async def upgrade(self) -> Sequence[str]:
        return await self._unknown(self._inner.upgrade(), lambda applied: [None] if applied else [])

    async def status(self) -> Sequence[MigrationStatus]:
        return await self._inner.status()

    async def ping(self) -> None:
        await self._inner.ping()

    # Behind the others, for in a class `list` is from here on no longer the built-in.
    async def list(self, listing: Listing) -> list[Asset]:
        return await self._inner.list(listing)

    async def _looked_up(self, missing: Iterable[str]) -> dict[str, Asset]:
        """Read what is not being read already, and wait for all of it."""
        flights: dict[str, Flight] = {}
        unread = [asset_id for asset_id in dict.fromkeys(missing) if not self._joined(asset_id, flights)]
        if unread:
            flights |= dict.fromkeys(unread, self._fly(unread))
        # Shielded: one who leaves takes nobody along.
        landed = {flight: await asyncio.shield(flight) for flight in set(flights.values())}
        return {
            asset_id: landed[flight][asset_id] for asset_id, flight in flights.items() if asset_id in landed[flight]
        }

    def _fly(self, ids: Sequence[str]) -> Flight:
        """Begin to read records, and keep them when they are there."""
        flight = asyncio.create_task(self._inner.get(ids))
        self._flights |= dict.fromkeys(ids, flight)
        started = self._steady()
        flight.add_done_callback(lambda done: self._land(ids, started, done))
        return flight

    def _joined(self, asset_id: str, flights: dict[str, Flight]) -> bool:
        flight = self._flights.get(asset_id)
        if flight is None:
            return False
        flights[asset_id] = flight
        return True

    def _land(self, ids: Sequence[str], started: float, flight: Flight) -> None:
        """Keep what was read, unless a change came meanwhile: then the flight is no longer the one of the id."""
        good = self.current() and not flight.cancelled() and flight.exception() is None
        if not flight.cancelled():
            flight.exception()  # all who waited may have left; then asyncio would complain that nobody looked
        for asset_id in ids:
            if self._flights.get(asset_id) is not flight:
                continue
            del self._flights[asset_id]
            if good and not self._news.unsettled(asset_id):
                asset = flight.result().get(asset_id)
                self._keep(asset_id, asset, started)

    def _keep(self, asset_id: str, asset: Asset | None, started: float) -> None:
        old = self._entries.get(asset_id)
        if old is not None and old.asset == asset:
            asset = old.asset  # what was made of it stays good
        life = self._lives.absent if asset is None else self._lives.present
        renewed_from = started + life * (math.inf if asset is None else _RENEWED_FROM)
        self._entries.keep(asset_id, Entry(asset, started + life, renewed_from))

    async def _or_stale(self, ids: Sequence[str], reading: Awaitable[dict[str, Asset]]) -> dict[str, Asset]:
        try:
            return await reading
        except _AWAY:
            stale = self._stale(ids)
            if stale is None:
                raise
            return stale

    def _stale(self, ids: Iterable[str]) -> dict[str, Asset] | None:
        """Answer from what was good at most `stale_for` ago, all of it or nothing."""
        found, since = {}, self._steady() - self._lives.stale
        for asset_id in ids:
            entry = self._entries.get(asset_id)
            if entry is None or entry.asset is None or since >= min(entry.until, self._news.until):
                return None
            found[asset_id] = entry.asset
        return found

    async def _around(self, ids: Sequence[str], write: Awaitable[Result]) -> Result:
        """Drop the records before their change, so that none is read old, and after it, if one was."""
        self._drop(ids)
        try:
            return await write
        finally:
            self._drop(ids)

    async def _unknown(self, write: Awaitable[Result], changed: Callable[[Result], Sequence[Any]]) -> Result:
        """Drop the records that a write says it changed; all of them when it failed, for it may have changed any."""
        try:
            result = await write
        except BaseException:
            self._heard(None)
            raise
        self._drop(changed(result))
        return result

    def _drop(self, ids: Iterable[str | None]) -> None:
        for asset_id in ids:
            self._heard(asset_id)

    def _heard(self, asset_id: str | None) -> None:
        if asset_id is None:
            self._entries.clear()
            self._flights = {}
        else:
            self._entries.drop(asset_id)
            self._flights.pop(asset_id, None)
