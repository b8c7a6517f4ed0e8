"""The durable copying of results into the storage: every item once, however often it is tried and by whom."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from gateway.clock import Clock, Randomness, milliseconds
from gateway.errors import AssetgateError
from gateway.jobs.copying import Copier
from gateway.jobs.inline import Inline
from gateway.jobs.settling import Settler
from gateway.jobs.verdicts import Failure, expired, final_failure, next_try
from gateway.metadata.task_records import Copy, CopyState, TaskRecords
from gateway.metrics import Metrics
from gateway.model import Asset
from gateway.settings import Tasks

LEASED: Final = 4  # times what is copied at once: some wait for their host
BEATS: Final = 3  # renewals of a lease within its life

log = logging.getLogger("assetgate.persist")


class Persister:
    """Leases copies and makes them. Killed at any moment, its work is found by its lease that ends."""

    def __init__(
        self,
        records: TaskRecords,
        copier: Copier,
        inline: Inline,
        settler: Settler,
        settings: Tasks,
        metrics: Metrics,
        clock: Clock,
        randomness: Randomness,
    ) -> None:
        self._records = records
        self.copier = copier
        self.inline = inline
        self.settler = settler
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._randomness = randomness
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._leased: dict[str, Copy] = {}
        self._beating: asyncio.Task[None] | None = None
        inline.taken_by(self.take)

    def take(self, copy: Copy) -> None:
        """Begin with a copy that is leased to this worker."""
        task = asyncio.get_running_loop().create_task(self._copy(copy))
        self._under_way[copy.id], self._leased[copy.id] = task, copy
        task.add_done_callback(lambda done: self._ended(copy, done))
        if self._beating is None:
            self._beating = asyncio.get_running_loop().create_task(self._beat())

    async def work(self) -> int:
        """Copy all that can be copied now; return how many attempts that took."""
        attempts = 0
        while begun := await self._begin():
            attempts += begun
            await self.idle()
        await self.idle()
        return attempts

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))
            await asyncio.sleep(0)  # so that those that ended are taken from the list

    async def run(self) -> None:
        """Copy for ever; trouble is logged and tried again."""
        while True:
            try:
                await self._begin()
                oldest = await self._records.copies.oldest()
                self._metrics.oldest_copy.set(0 if oldest is None else self._clock() - oldest / 1000)
            except AssetgateError as trouble:
                log.warning("no copies could be leased: %s", trouble.error)
            await self.settler.copies_wait.wait(self._settings.interval)

    async def close(self) -> None:
        """Stop, and give leases back. What is held inline is stored first, for nobody else has it."""
        held = [task for copy_id, task in self._under_way.items() if self.inline.has(copy_id)]
        if held:
            await asyncio.wait(held, timeout=self._settings.lease)
        leased = list(self._leased.values())
        stopping = [*self._under_way.values(), *([self._beating] if self._beating else [])]
        for task in stopping:
            task.cancel()
        await asyncio.gather(*stopping, return_exceptions=True)
        for copy in leased:
            with suppress(AssetgateError):  # then they end by themselves
                await self._records.copies.note(copy, {"next_try_at": self._now()})

    async def _begin(self) -> int:
        room = self._settings.copies * LEASED - len(self._under_way)
        if room <= 0:
            return 0
        leased = await self._records.copies.claim(self._now(), self._lease_end(), self.inline.worker, room)
        for copy in leased:
            self.take(copy)
        return len(leased)

    def _ended(self, copy: Copy, task: asyncio.Task[None]) -> None:
        self._under_way.pop(copy.id, None)
        self._leased.pop(copy.id, None)
        self.settler.copies_wait.ring()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the copy of an item of task %s stopped; its lease will end", copy.task_id, exc_info=error)

    async def _beat(self) -> None:
        """Renew the leases of what is under way, and stop what another worker has taken over."""
        while True:
            await asyncio.sleep(self._settings.lease / BEATS)
            ids = list(self._under_way)
            try:
                kept = await self._records.copies.renew(ids, self.inline.worker, self._lease_end())
            except AssetgateError as trouble:
                log.warning("leases could not be renewed: %s", trouble.error)
                continue
            for lost in set(ids) - kept:
                if lost in self._under_way:
                    self._under_way[lost].cancel()

    async def _copy(self, copy: Copy) -> None:
        """Make one attempt, and note what became of it; what is held inline is tried here until it is stored."""
        while True:
            late = self._now() >= copy.retention_ends and not self.inline.has(copy.id)
            outcome = expired(copy) if late else await self.copier.attempt(copy)
            if isinstance(outcome, Asset):
                await self._note_stored(copy, outcome)
                return
            at = next_try(copy, outcome, self._now(), self._randomness)
            self._metrics.copy_failures.labels(copy.provider, outcome.reason, str(at is None).lower()).inc()
            if at is None:
                await self._note_failed(copy, outcome)
                return
            if self.inline.find(copy) is None:
                await self._records.copies.note(
                    copy, {"next_try_at": at, "reason": outcome.reason, "reason_detail": outcome.detail}
                )
                return
            await asyncio.sleep((at - self._now()) / 1000)

    async def _note_stored(self, copy: Copy, asset: Asset) -> None:
        noted = await self._records.copies.note(
            copy,
            {
                "state": CopyState.STORED,
                "url": None,
                "media_type": asset.media_type,
                "size": asset.size,
                "sha256": asset.sha256,
                "reason": None,
                "reason_detail": None,
                "updated_at": self._now(),
            },
        )
        self.inline.drop(copy)
        if noted is not None:
            self._metrics.copied.labels(copy.provider).inc()
            self._metrics.copied_bytes.inc(asset.size)
        await self._finish(copy)

    async def _note_failed(self, copy: Copy, failure: Failure) -> None:
        stored = await self.copier.give_up(copy)
        if stored is not None:
            await self._note_stored(copy, stored)
            return
        final = final_failure(copy, failure, self._now())
        log.warning("an item of task %s is lost: %s", copy.task_id, final.reason)
        await self._records.copies.note(
            copy,
            {
                "state": CopyState.FAILED,
                "reason": final.reason,
                "reason_detail": final.detail,
                "updated_at": self._now(),
            },
        )
        self.inline.drop(copy)
        await self._finish(copy)

    async def _finish(self, copy: Copy) -> None:
        if copy.task_id is not None:
            await self.settler.finish(copy.task_id)

    def _now(self) -> int:
        return milliseconds(self._clock())

    def _lease_end(self) -> int:
        return milliseconds(self._clock() + self._settings.lease)
