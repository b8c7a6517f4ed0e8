"""The poller: looks after tasks whose notification did not come, and settles what crashes left behind."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gateway.clock import Clock, milliseconds
from gateway.errors import AssetgateError
from gateway.jobs.asking import Asker
from gateway.jobs.bell import Bell
from gateway.metadata.task_records import Task, TaskRecords
from gateway.settings import Tasks

PAGE: Final = 32  # tasks asked for at once
TAKEN_FOR: Final = 90.0  # seconds after which another poller takes over a task of one that died
FORGET_EVERY: Final = 3600.0  # seconds between two looks for notifications that are too old to be replayed

log = logging.getLogger("assetgate.polling")


class Poller:
    """Several at once do no harm: a task is taken by one of them for a while."""

    def __init__(self, records: TaskRecords, asker: Asker, settings: Tasks, clock: Clock) -> None:
        self._records = records
        self._asker = asker
        self._settings = settings
        self._clock = clock
        self._forgot_at = 0.0
        self.tasks_wait = Bell()

    async def poll(self) -> int:
        """Ask for every task whose time has come; return how many."""
        asked = 0
        while due := await self._due():
            asked += len(due)
            await asyncio.gather(*(self._ask(task) for task in due))
        return asked

    async def run(self) -> None:
        """Poll for ever; trouble is logged and tried again."""
        while True:
            try:
                await self.poll()
                await self._forget()
            except AssetgateError as trouble:
                log.warning("tasks could not be looked after: %s", trouble.error)
            await self.tasks_wait.wait(self._settings.interval)

    async def _due(self) -> list[Task]:
        now = self._clock()
        return await self._records.tasks.claim(milliseconds(now), milliseconds(now + TAKEN_FOR), PAGE)

    async def _ask(self, task: Task) -> None:
        try:
            await self._asker.ask(task)
        except AssetgateError as trouble:
            log.warning("task %s could not be settled: %s", task.id, trouble.error)
        except Exception:  # one task must not stop the others
            log.exception("task %s could not be asked for", task.id)

    async def _forget(self) -> None:
        if self._clock() - self._forgot_at >= FORGET_EVERY:
            self._forgot_at = self._clock()
            await self._records.events.forget(milliseconds(self._clock()))
