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

AT_ONCE: Final = 32  # tasks asked for
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
        self._asking: set[asyncio.Task[None]] = set()
        self.tasks_wait = Bell()

    async def poll(self) -> int:
        """Ask for every task whose time has come; return how many."""
        asked = 0
        while begun := await self._begin():
            asked += begun
            await asyncio.wait(list(self._asking))
        return asked

    async def run(self) -> None:
        """Poll for ever; trouble is logged and tried again. A provider that is slow holds nobody else up."""
        while True:
            try:
                await self._begin()
                await self._forget()
            except AssetgateError as trouble:
                log.warning("tasks could not be looked after: %s", trouble.error)
            await self.tasks_wait.wait(self._settings.interval)

    async def close(self) -> None:
        for asking in self._asking:
            asking.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _begin(self) -> int:
        room, now = AT_ONCE - len(self._asking), self._clock()
        if room <= 0:
            return 0
        due = await self._records.tasks.claim(milliseconds(now), milliseconds(now + TAKEN_FOR), room)
        for task in due:
            asking = asyncio.get_running_loop().create_task(self._ask(task))
            self._asking.add(asking)
            asking.add_done_callback(self._ended)
        return len(due)

    def _ended(self, asking: asyncio.Task[None]) -> None:
        self._asking.discard(asking)
        if len(self._asking) == AT_ONCE - 1:
            self.tasks_wait.ring()  # there was no room for the others

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
