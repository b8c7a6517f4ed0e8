"""AI tasks as their users and providers see them: generate, query, list, and what a notification does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from gateway.clock import Clock, Randomness, milliseconds
from gateway.errors import AssetgateError, NotFound, Unavailable, Unprocessable
from gateway.jobs import outcome
from gateway.jobs.asking import Asker
from gateway.jobs.background import Background
from gateway.jobs.bell import Bell
from gateway.jobs.opened import Desk, Desks
from gateway.jobs.settling import OPEN, Settler
from gateway.metadata.task_records import Event, Stage, Task, TaskChanges, TaskListing, TaskRecords
from gateway.metrics import Metrics
from gateway.model import new_asset_id
from gateway.providers import (
    GenerateRequest,
    Job,
    MediaType,
    Notification,
    ProviderError,
    ProviderKeyRefused,
    ProviderRefused,
    ProviderUnavailable,
)
from gateway.settings import Tasks
from gateway.sharing import Sharing
from policies.model import Caller

EVENT_LIFE: Final = 48 * 3600.0  # seconds; the longest that a provider repeats a notification is a day
NOTING_TRIES: Final = 6  # of writing down what a provider has begun: by then it costs money
NOTING_PAUSE: Final = 0.5  # seconds before the second of them; it doubles
KEY_REFUSED_RETRY: Final = 60  # seconds

_ASKED: Final = frozenset({Stage.RUNNING, Stage.COPYING})  # the second of our own records

Result = TypeVar("Result")
log = logging.getLogger("assetgate.tasks")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user wants made. `options` hold references; `base` is where providers reach this gateway."""

    provider: str
    model: str
    media_type: MediaType
    prompt: str
    scene: str | None
    options: Mapping[str, Any]
    base: str
    idempotency_key: str | None = None


class TaskService:
    """Begins tasks, so that none is paid for and forgotten, and tells how they stand."""

    def __init__(
        self,
        records: TaskRecords,
        desks: Desks,
        sharing: Sharing,
        settler: Settler,
        asker: Asker,
        settings: Tasks,
        metrics: Metrics,
        clock: Clock,
        randomness: Randomness,
        tasks_wait: Bell,
    ) -> None:
        self._records = records
        self._desks = desks
        self._sharing = sharing
        self._settler = settler
        self._asker = asker
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._randomness = randomness
        self._tasks_wait = tasks_wait
        self._creating = Background()

    async def generate(self, caller: Caller, user_id: str, wanted: Wanted) -> Task:
        """Begin a task of `user_id`. A reference that they may not share refuses it before anything is written.

        Raises `Unprocessable`; `Unavailable` when the provider has surely begun nothing and may do so later.
        """
        desk = self._desks.find(wanted.provider)
        if desk is None:
            known = ", ".join(self._desks) or "none"
            raise Unprocessable(f"provider is one of: {known}", fields={"provider": "is not one of the settings"})
        options = await self._sharing.resolve(
            caller, {"options": wanted.options}, expires_in=self._settings.reference_life, base=wanted.base
        )
        new = self._new_task(user_id, wanted)
        task = await self._records.tasks.add(new)
        if task.id != new.id:
            return _same(task, wanted)
        self._metrics.tasks.labels(task.provider, "created").inc()
        request = GenerateRequest(
            model=wanted.model,
            prompt=wanted.prompt,
            media_type=wanted.media_type,
            options=options["options"],
            callback_url=f"{wanted.base}/api/ai/notify/{wanted.provider}?task={task.id}",
            idempotency_key=task.id,
        )
        # A client that leaves now must not leave a job behind that nobody knows of.
        creating = self._creating.begin(lambda: self._create(task, desk, request))
        await asyncio.wait([creating], timeout=self._settings.creation_patience)
        return creating.result() if creating.done() else task

    async def query(self, user_id: str, task_id: str) -> Task:
        """Return a task of this user, asked for at its provider unless it is over or was asked for just now."""
        task = await self._records.tasks.get(task_id)
        if task is None or task.user_id != user_id:
            raise NotFound
        fresh = milliseconds(self._clock() - self._settings.query_interval)
        if task.stage not in _ASKED or self._asker.asked_since(task, fresh):
            return task
        return await self._asker.ask(task)

    async def list(self, listing: TaskListing) -> list[Task]:
        return await self._records.tasks.list(listing)

    async def notified(self, provider: str, notification: Notification, task_id: str | None) -> bool:
        """Write down that a provider has news; False for a replay. What is true of it is asked for afterwards."""
        now = self._clock()
        event = Event(
            provider=provider,
            event_id=notification.event_id,
            provider_task_id=notification.provider_task_id,
            task_id=task_id,
            expires_at=milliseconds(now + EVENT_LIFE),
            nonce=self._randomness(16).hex(),
        )
        new = await self._records.events.note(event, milliseconds(now))
        if new:
            self._tasks_wait.ring()
        return new

    async def close(self, patience: float) -> None:
        """Wait for what providers are being asked to begin."""
        await self._creating.close(patience)

    def _new_task(self, user_id: str, wanted: Wanted) -> Task:
        now = milliseconds(self._clock())
        return Task(
            id=new_asset_id(self._randomness),
            user_id=user_id,
            provider=wanted.provider,
            media_type=wanted.media_type,
            model=wanted.model,
            prompt=wanted.prompt,
            scene=wanted.scene,
            options=wanted.options,
            status="pending",
            stage=Stage.CREATING,
            created_at=now,
            updated_at=now,
            deadline=now + milliseconds(self._settings.deadline),
            task_info=outcome.progress_info(wanted.media_type, "creating"),
            idempotency_key=wanted.idempotency_key,
            next_ask_at=now + milliseconds(self._settings.creation_grace),
        )

    async def _create(self, task: Task, desk: Desk, request: GenerateRequest) -> Task:
        try:
            job = await desk.provider.create(request)
        except ProviderError as error:
            return await self._not_created(task, desk, error)
        created = await _insist(lambda: self._settler.apply(task, job, self._asker.next_ask(task, desk)))
        _check_name(created, job)
        return created

    async def _not_created(self, task: Task, desk: Desk, error: ProviderError) -> Task:
        """End a task that surely was not begun; one of which nobody knows waits for a notification."""
        if isinstance(error, ProviderUnavailable) and error.uncertain:
            log.warning("%s may have begun task %s or not: %s", desk.name, task.id, error.code)
            return task
        refused = isinstance(error, ProviderRefused)
        # Freed, so that the same request may be sent again.
        freed: TaskChanges = {} if refused else {"idempotency_key": None}
        ended = await _insist(lambda: self._settler.end(task, "failed", error.code, error.message or None, freed))
        if refused:
            return ended
        if isinstance(error, ProviderKeyRefused):
            log.error("%s does not accept the gateway's key", desk.name)
            detail = "The provider does not accept the gateway's key"
            raise Unavailable(detail, error="provider_key_refused", retry_after=KEY_REFUSED_RETRY) from error
        after = getattr(error, "retry_after", None)
        detail = "The provider cannot begin the task now"
        raise Unavailable(detail, error="provider_unavailable", retry_after=int(after or 5)) from error


def _same(task: Task, wanted: Wanted) -> Task:
    """Return the task of an idempotency key, if it is for the same request."""
    asked = (wanted.provider, wanted.model, wanted.media_type, wanted.prompt, wanted.scene, dict(wanted.options))
    if asked != (task.provider, task.model, task.media_type, task.prompt, task.scene, dict(task.options)):
        detail = "The idempotency key belongs to another request of yours"
        raise Unprocessable(detail, fields={"Idempotency-Key": "was used for another request"})
    return task


def _check_name(task: Task, job: Job) -> None:
    if task.provider_task_id not in (None, job.provider_task_id) and task.stage in OPEN:
        log.error("task %s has two names at its provider", task.id)


async def _insist(write: Callable[[], Awaitable[Result]]) -> Result:
    """Write down what must not be forgotten; records that are away for a moment are waited for."""
    for number in range(NOTING_TRIES - 1):
        try:
            return await write()
        except AssetgateError as trouble:
            log.warning("a task could not be noted yet: %s", trouble.error)
            await asyncio.sleep(NOTING_PAUSE * 2**number)
    return await write()
