"""Keeps records and objects in step: expiry, deleted bytes, abandoned uploads, orphans."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from gateway.clock import Clock, milliseconds
from gateway.errors import AssetgateError
from gateway.metadata import Metadata
from gateway.settings import Sweep
from gateway.storage import Storage, Stored, Unfinished
from policies.model import State

PAGE = 500  # records a step
REPORTED = 1000  # names of orphans that a report keeps

log = logging.getLogger("assetgate.sweep")
Progress = Callable[[str, int], None]


def silent(_what: str, _count: int) -> None:
    """Report progress to nobody."""


@dataclass
class SweepReport:
    """What one sweep did, in numbers of assets or objects."""

    expired: int = 0
    abandoned: int = 0
    removed: int = 0
    forgotten: int = 0
    unfinished: int = 0


@dataclass
class OrphanReport:
    """What one comparison found: objects without a record, records without their object; the first of them by name."""

    objects: int = 0
    records: int = 0
    strays: list[str] = field(default_factory=list)
    stray_count: int = 0
    lost: list[str] = field(default_factory=list)
    lost_count: int = 0
    removed: int = 0


class Sweeper:
    """Every step can be killed and done again; several sweepers at once do no harm."""

    def __init__(self, metadata: Metadata, storage: Storage, settings: Sweep, clock: Clock) -> None:
        self._metadata = metadata
        self._storage = storage
        self._settings = settings
        self._clock = clock

    async def sweep(self, progress: Progress = silent) -> SweepReport:
        """Take expired and abandoned assets out of service, remove their bytes, forget what is long gone."""
        report = SweepReport()
        await self._expire(report, progress)
        await self._remove(report, progress)
        await self._forget(report, progress)
        if isinstance(self._storage, Unfinished):
            report.unfinished = await self._storage.discard_unfinished(self._clock() - self._settings.abandoned_after)
            progress("unfinished", report.unfinished)
        return report

    async def orphans(self, *, remove: bool, progress: Progress = silent) -> OrphanReport:
        """Merge the storage's objects and the records' keys, both sorted, and report what stands on one side alone.

        Objects younger than `sweep.abandoned_after` are left out: their record may be on its way. `remove` deletes
        strays, and marks ready records as deleted whose object a second look does not find either.
        """
        report = OrphanReport()
        young = self._clock() - self._settings.abandoned_after
        strays: list[str] = []
        async for stored, record in merge(self._storage.list(), self._metadata.stored_keys()):
            report.objects += stored is not None
            report.records += record is not None
            if record is None and stored is not None and stored.modified < young:
                strays.append(stored.key)
            elif stored is None and record is not None and record[2] is State.READY:
                await self._note_lost(report, record[0], record[1], remove=remove)
            if len(strays) == PAGE:
                await self._note_strays(report, strays, remove=remove)
            if stored is not None and report.objects % PAGE == 0:
                progress("compared", report.objects)
        await self._note_strays(report, strays, remove=remove)
        progress("compared", report.objects)
        return report

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Sweep for ever, at the intervals of the settings; trouble is logged and tried again."""
        compared_at = self._clock()
        while True:
            await sleep(self._settings.interval)
            try:
                await self.sweep()
                if self._clock() - compared_at >= self._settings.orphans_interval:
                    compared_at = self._clock()
                    # Lost records are told of but kept: a storage that is mounted wrong looks just like that.
                    found = await self.orphans(remove=False)
                    log.info(
                        "compared %d objects, %d strays, %d lost", found.objects, found.stray_count, found.lost_count
                    )
            except AssetgateError as trouble:
                log.warning("the sweep stopped early: %s", trouble.error)
            except Exception:  # nobody would notice that the sweeper had ended until the disk is full
                log.exception("the sweep failed")

    async def _expire(self, report: SweepReport, progress: Progress) -> None:
        now = milliseconds(self._clock())
        abandoned_before = now - milliseconds(self._settings.abandoned_after)
        while changed := await self._metadata.expire(now, abandoned_before, PAGE):
            expired = sum(asset.state is State.EXPIRED for asset in changed)
            report.expired += expired
            report.abandoned += len(changed) - expired
            progress("expired", report.expired + report.abandoned)

    async def _remove(self, report: SweepReport, progress: Progress) -> None:
        after = ""
        while page := await self._metadata.unswept(PAGE, after):
            await self._storage.delete([asset.object_key for asset in page])
            await self._metadata.swept([asset.id for asset in page])
            after = page[-1].id
            report.removed += len(page)
            progress("removed", report.removed)

    async def _forget(self, report: SweepReport, progress: Progress) -> None:
        before = milliseconds(self._clock() - self._settings.remember_for)
        while forgotten := await self._metadata.forget(before, PAGE):
            report.forgotten += forgotten
            progress("forgotten", report.forgotten)

    async def _note_strays(self, report: OrphanReport, strays: list[str], *, remove: bool) -> None:
        if remove and strays:
            await self._storage.delete(strays)
            report.removed += len(strays)
        report.stray_count += len(strays)
        report.strays += strays[: REPORTED - len(report.strays)]
        strays.clear()

    async def _note_lost(self, report: OrphanReport, key: str, asset_id: str, *, remove: bool) -> None:
        if await self._storage.stat(key) is not None:
            return  # it was written while the two streams ran
        report.lost_count += 1
        if len(report.lost) < REPORTED:
            report.lost.append(asset_id)
        if remove:
            now = milliseconds(self._clock())
            await self._metadata.change(
                asset_id, {"state": State.DELETED, "deleted_at": now, "stored": False}, when=State.READY
            )


Record = tuple[str, str, State]


async def merge(
    objects: AsyncIterator[Stored], records: AsyncIterator[Record]
) -> AsyncIterator[tuple[Stored | None, Record | None]]:
    """Pair two streams sorted by key, as a merge join does: memory stays flat whatever their length."""
    stored, record = await anext(objects, None), await anext(records, None)
    while stored is not None or record is not None:
        if record is None or (stored is not None and _order(stored.key) < _order(record[0])):
            yield stored, None
            stored = await anext(objects, None)
        elif stored is None or _order(record[0]) < _order(stored.key):
            yield None, record
            record = await anext(records, None)
        else:
            yield stored, record
            # Several records may share one object, which is compared once.
            key = record[0]
            stored = await anext(objects, None)
            while record is not None and record[0] == key:
                record = await anext(records, None)


def _order(key: str) -> bytes:
    return key.encode()
