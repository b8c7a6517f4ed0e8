"""The whole port on top of a driver that runs statements: every method is one statement or one batch."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Final

from gateway.clock import Clock
from gateway.metadata import AssetExists, Changes, Listing, MigrationStatus, Quota, QuotaExceeded, sql
from gateway.metadata.driver import Driver, Row, Statement
from gateway.metadata.migrations import Migrations
from gateway.metadata.news import News
from gateway.metadata.sql import asset_of
from gateway.metadata.task_queries import task_records
from gateway.metadata.task_records import TaskRecords
from gateway.model import Asset
from policies.model import State

PAGE: Final = 1000  # keys read at a time while all are compared with the storage
_AFTER_EVERY_ID: Final = "~"  # sorts behind all that an id may hold


class SqlMetadata:
    """Every member of the family: a driver, and the statements that all of them share."""

    def __init__(self, driver: Driver, clock: Clock) -> None:
        self._driver = driver
        self.news: News = driver.news
        self.task_records: TaskRecords = task_records(driver)
        self._migrations = Migrations(driver, clock)
        self._get_many = sql.GET_MANY.replace("<ids>", driver.dialect.ids)
        self._swept = sql.SWEPT.replace("<ids>", driver.dialect.ids)

    async def add(self, asset: Asset, quota: Quota | None = None, now: int = 0) -> int:
        values = sql.values_of(asset)
        if quota is None:
            added = await self._write(sql.ADD, *values)
            if not added:
                raise AssetExists(asset.id)
            return 0
        held, added = await self._locked(
            (self._driver.dialect.lock_owner, (asset.owner,)),
            (sql.HELD, (asset.owner, now)),
            (sql.ADD_WITHIN_QUOTA, (*values, now, quota.max_files, quota.max_bytes)),
        )
        if not added:
            _refuse_beyond(quota, held[0], asset.size)
            raise AssetExists(asset.id)
        return int(held[0][1])

    async def get(self, ids: Sequence[str]) -> dict[str, Asset]:
        if not ids:
            return {}
        one: Statement = (sql.GET, (ids[0],))
        many: Statement = (self._get_many, (json.dumps(list(ids)),))
        rows = await self._driver.fetch(one if len(ids) == 1 else many)
        return {row[0]: asset_of(row) for row in rows}

    async def change(
        self, asset_id: str, changes: Changes, when: State, quota: Quota | None = None, now: int = 0
    ) -> Asset | None:
        if quota is None:
            return _first(await self._write(*_spread(sql.change(changes, asset_id, when))))
        held, changed = await self._locked(
            (self._driver.dialect.lock_owner_of, (asset_id,)),
            (sql.HELD_BESIDE, (asset_id, str(when), now)),
            sql.change_within_quota(changes, asset_id, when, quota, now),
        )
        if held and not changed:
            _refuse_beyond(quota, held[0], changes["size"])
        return _first(changed)

    async def revoke(self, asset_id: str, at: int) -> Asset | None:
        return _first(await self._write(sql.REVOKE, asset_id, at))

    async def claim(self, guest: str, user: str, now: int) -> list[str]:
        return sorted(row[0] for row in await self._write(sql.CLAIM, guest, user, now))

    async def expire(self, now: int, pending_before: int, limit: int) -> list[Asset]:
        return [asset_of(row) for row in await self._write(sql.EXPIRE, now, pending_before, limit)]

    async def discard(self, asset_id: str) -> None:
        await self._write(sql.DISCARD, asset_id)

    async def unswept(self, limit: int, after: str = "") -> list[Asset]:
        return [asset_of(row) for row in await self._driver.fetch((sql.UNSWEPT, (after, limit)))]

    async def swept(self, ids: Sequence[str]) -> None:
        if ids:
            await self._write(self._swept, json.dumps(list(ids)))

    async def forget(self, before: int, limit: int) -> int:
        return len(await self._write(sql.FORGET, before, limit))

    async def stored_keys(self, after: str = "") -> AsyncIterator[tuple[str, str, State]]:
        last = (after, _AFTER_EVERY_ID)
        while rows := await self._driver.fetch((sql.STORED_KEYS, (*last, PAGE))):
            for key, asset_id, state in rows:
                yield key, asset_id, State(state)
            last = (rows[-1][0], rows[-1][1])

    async def upgrade(self) -> Sequence[str]:
        return await self._migrations.upgrade()

    async def status(self) -> Sequence[MigrationStatus]:
        return await self._migrations.status()

    async def ping(self) -> None:
        await self._driver.fetch((sql.PING, ()))

    async def close(self) -> None:
        await self._driver.close()

    # Behind the others, for in a class `list` is from here on no longer the built-in.
    async def list(self, listing: Listing) -> list[Asset]:
        return [asset_of(row) for row in await self._driver.fetch(sql.listing(listing))]

    async def _write(self, text: str, *values: object) -> Sequence[Row]:
        (rows,) = await self._driver.batch([(text, values)])
        return rows

    async def _locked(
        self, lock: tuple[str | None, Sequence[object]], *statements: Statement
    ) -> Sequence[Sequence[Row]]:
        """Run a batch that counts before it writes, alone among those of the same owner."""
        text, values = lock
        if text is None:
            return await self._driver.batch(statements)
        return (await self._driver.batch([(text, values), *statements]))[1:]


def _first(rows: Sequence[Row]) -> Asset | None:
    return asset_of(rows[0]) if rows else None


def _spread(statement: Statement) -> tuple[str, *tuple[object, ...]]:
    return statement[0], *statement[1]


def _refuse_beyond(quota: Quota, held: Row, size: int) -> None:
    if held[0] >= quota.max_files:
        raise QuotaExceeded("max_files")
    if held[1] + size > quota.max_bytes:
        raise QuotaExceeded("max_bytes")
