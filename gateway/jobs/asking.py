"""Asks the provider how a task stands: once at a time for each, and no more often than it likes."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from typing import Final

from gateway.clock import Clock, Randomness, milliseconds
from gateway.jobs.opened import Desk, Desks
from gateway.jobs.settling import OPEN, Settler
from gateway.jobs.waits import backoff
from gateway.metadata.task_records import Stage, Task
from gateway.providers import (
    Handle,
    JobNotFound,
    MediaType,
    ProviderError,
    ProviderKeyRefused,
    ProviderRefused,
    ProviderUnavailable,
)
from gateway.settings import Tasks

FIRST_RETRY: Final = 3.0  # seconds; of a provider that did not answer, or takes no notifications
RATE_LIMITED_FOR: Final = 10.0  # seconds, where it does not say how long
UNKNOWN_AT_FIRST: Final = 60.0  # seconds in which a new job may not be known everywhere at the provider
REMEMBERED: Final = 10_000  # tasks of which is known when they were asked for
OPERATOR_NEEDED: Final = 300.0  # seconds until a key that was refused is tried again

log = logging.getLogger("assetgate.tasks")


class Asker:
    """The truth about a task is what the provider answers; whoever wants to know it asks here."""

    def __init__(self, desks: Desks, settler: Settler, settings: Tasks, clock: Clock, randomness: Randomness) -> None:
        self._desks = desks
        self._settler = settler
        self._settings = settings
        self._clock = clock
        self._randomness = randomness
        self._under_way: dict[str, asyncio.Task[Task]] = {}
        self._asked: OrderedDict[str, int] = OrderedDict()  # when tasks were asked for last, in milliseconds

    def asked_since(self, task: Task, moment: int) -> bool:
        """Tell whether this process has asked for the task after `moment`, and nobody does at present."""
        return task.id not in self._under_way and self._asked.get(task.id, 0) > moment

    async def ask(self, task: Task) -> Task:
        """Look after a task; those who ask for one at the same time share the answer."""
        asking = self._under_way.get(task.id)
        if asking is None:
            asking = asyncio.get_running_loop().create_task(self._ask(task))
            self._under_way[task.id] = asking
            asking.add_done_callback(lambda done: self._landed(task.id, done))
        return await asyncio.shield(asking)

    def next_ask(self, task: Task, desk: Desk) -> int:
        """When to ask next for a task that goes on: soon, where no notification will come."""
        first = self._settings.first_ask if desk.provider.accepts_notifications else FIRST_RETRY
        return self._later(backoff(task.asks + 1, first, self._settings.longest_wait, self._randomness))

    async def close(self) -> None:
        for asking in list(self._under_way.values()):
            asking.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _landed(self, task_id: str, asking: asyncio.Task[Task]) -> None:
        self._under_way.pop(task_id, None)
        if not asking.cancelled():
            asking.exception()  # who waited may have left; then asyncio would complain that nobody looked

    async def _ask(self, task: Task) -> Task:
        if task.stage is Stage.COPYING:
            return await self._settler.finish(task.id) or task
        if task.stage not in OPEN:
            return task
        desk = self._desks.find(task.provider)
        if task.provider_task_id is None:
            return await self._settle_unnamed(task)
        overdue = milliseconds(self._clock()) >= task.deadline
        if desk is None:
            return await self._give_up(task, None) if overdue else await self._put_off(task, OPERATOR_NEEDED)
        if desk.paused_until > self._clock() and not overdue:
            return await self._put_off(task, desk.paused_until - self._clock())
        asked = await self._answered(task, desk)
        return await self._give_up(asked, desk) if overdue and asked.stage is Stage.RUNNING else asked

    async def _answered(self, task: Task, desk: Desk) -> Task:
        self._asked[task.id] = milliseconds(self._clock())
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)
        try:
            async with desk.calls:
                job = await desk.provider.query(handle_of(task))
        except ProviderError as error:
            return await self._unanswered(task, desk, error)
        return await self._settler.apply(task, job, self.next_ask(task, desk))

    async def _unanswered(self, task: Task, desk: Desk, error: ProviderError) -> Task:
        wait = backoff(task.asks + 1, FIRST_RETRY, self._settings.longest_wait, self._randomness)
        if isinstance(error, ProviderUnavailable):
            if error.status == 429:  # noqa: PLR2004 - RFC 6585
                wait = max(wait, error.retry_after or RATE_LIMITED_FOR)
                desk.pause(self._clock() + (error.retry_after or RATE_LIMITED_FOR))
            return await self._put_off(task, max(wait, error.retry_after or 0.0))
        if isinstance(error, ProviderKeyRefused):
            log.error("%s does not accept the gateway's key", desk.name)
            return await self._put_off(task, OPERATOR_NEEDED)
        young = milliseconds(self._clock()) < task.created_at + milliseconds(UNKNOWN_AT_FIRST)
        if isinstance(error, JobNotFound) and young:
            return await self._put_off(task, wait)
        if isinstance(error, ProviderRefused):
            return await self._settler.end(task, "failed", error.code, error.message or None)
        return await self._put_off(task, wait)

    async def _settle_unnamed(self, task: Task) -> Task:
        """Settle a task whose creation was interrupted: a notification may still name it, until the grace is over."""
        ends = task.created_at + milliseconds(self._settings.creation_grace)
        if milliseconds(self._clock()) < ends:
            return await self._settler.put_off(task, ends)
        words = "The gateway was interrupted while it asked the provider to begin, and nothing was heard since"
        return await self._settler.end(task, "failed", "creation_interrupted", words)

    async def _give_up(self, task: Task, desk: Desk | None) -> Task:
        """End a task whose deadline is over, and ask the provider to stop, for it may cost until it does."""
        if desk is not None:
            with suppress(ProviderError):
                await desk.provider.cancel(handle_of(task))
        words = "The provider did not finish in the time that it is given"
        return await self._settler.end(task, "failed", "deadline_passed", words)

    async def _put_off(self, task: Task, seconds: float) -> Task:
        return await self._settler.put_off(task, self._later(seconds))

    def _later(self, seconds: float) -> int:
        return milliseconds(self._clock() + seconds)


def handle_of(task: Task) -> Handle:
    """Name a task to its provider, with the user whose it is."""
    media_type: MediaType = task.media_type  # type: ignore[assignment]  # checked when the task was made
    return Handle(task.provider_task_id or "", task.user_id, task.model, media_type, task.options)
