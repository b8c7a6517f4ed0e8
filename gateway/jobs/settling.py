"""What an answer of a provider does to a task, and what the stored media do: the only place that moves a task on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.clock import Clock, Randomness, milliseconds
from gateway.jobs import outcome
from gateway.jobs.bell import Bell
from gateway.jobs.inline import Inline
from gateway.metadata.task_records import Copy, CopyState, Stage, Task, TaskChanges, TaskRecords
from gateway.metrics import Metrics
from gateway.model import new_asset_id
from gateway.providers import Job, MediaItem
from gateway.settings import Tasks

LOOKED_AFTER: Final = 60.0  # seconds between two looks at a task whose media are being copied
OPEN: Final = frozenset({Stage.CREATING, Stage.RUNNING})
RETENTION_ENDED: Final = "retention_ended"


class Settler:
    """Every step is one write that succeeds for one of many who try it at once; the others read what became of it."""

    def __init__(
        self,
        records: TaskRecords,
        settings: Tasks,
        inline: Inline,
        metrics: Metrics,
        clock: Clock,
        randomness: Randomness,
    ) -> None:
        self._records = records
        self._settings = settings
        self._inline = inline
        self._metrics = metrics
        self._clock = clock
        self._randomness = randomness
        self.copies_wait = Bell()

    async def apply(self, task: Task, job: Job, next_ask_at: int) -> Task:
        """Note what the provider says of an open task; `next_ask_at` is for one that goes on."""
        if task.stage not in OPEN:
            return task
        named: TaskChanges = {"provider_task_id": task.provider_task_id or job.provider_task_id}
        if job.status == "success":
            return await self._copy(task, job, named)
        if job.finished:
            return await self.end(task, job.status, job.error_code or job.status, job.error_message, named)
        changes: TaskChanges = {**named, "stage": Stage.RUNNING, "next_ask_at": next_ask_at}
        info = outcome.progress_info(task.media_type, job.status, job.progress)
        if (job.status, info) != (task.status, task.task_info):
            changes |= {"status": job.status, "task_info": info, "updated_at": self._now()}
        return await self._changed(task, changes)

    async def put_off(self, task: Task, next_ask_at: int) -> Task:
        """Look after a task later."""
        return await self._changed(task, {"next_ask_at": next_ask_at})

    async def end(
        self, task: Task, status: str, code: str, message: str | None, more: TaskChanges | None = None
    ) -> Task:
        """End an open task without media."""
        info = {**outcome.progress_info(task.media_type, status), "errorCode": code, "errorMessage": message}
        changes: TaskChanges = {
            **(more or {}),
            "status": status,
            "stage": Stage.DONE,
            "task_info": info,
            "error_code": code,
            "error_message": message,
            "updated_at": self._now(),
            "next_ask_at": None,
        }
        return await self._ended(task, changes)

    async def finish(self, task_id: str) -> Task | None:
        """End a task whose media are all stored or given up; else tell how far the copying is."""
        task = await self._records.tasks.get(task_id)
        if task is None or task.stage is not Stage.COPYING:
            return task
        copies = await self._records.copies.of(task_id)
        if any(copy.state is CopyState.WAITING for copy in copies):
            return await self._tell_progress(task, copies)
        failed = outcome.failure(copies)
        status = "success" if failed is None else "failed"
        error = (None, None) if failed is None else (_code(failed), failed.reason_detail)
        changes: TaskChanges = {
            "status": status,
            "stage": Stage.DONE,
            "task_info": outcome.info(task.media_type, status, copies, error),
            "task_result": outcome.result(copies),
            "error_code": error[0],
            "error_message": error[1],
            "updated_at": self._now(),
            "next_ask_at": None,
        }
        return await self._ended(task, changes)

    async def _copy(self, task: Task, job: Job, named: TaskChanges) -> Task:
        """Note every media item, so that none is lost from here on; the task goes on until they are stored."""
        now = self._now()
        ends = job.retention_ends or now + milliseconds(self._settings.retention)
        copies = [self._copy_of(task, job, item, now, ends) for item in job.media]
        changes: TaskChanges = {
            **named,
            "status": "processing",
            "stage": Stage.COPYING,
            "task_info": outcome.copying_info(task.media_type, copies),
            "updated_at": now,
            "next_ask_at": now + milliseconds(LOOKED_AFTER),
            "retention_ends": ends,
            "answer_id": self._randomness(16).hex(),
        }
        copying = await self._records.tasks.copy(task, changes, copies) or await self._current(task)
        if copying.answer_id != changes["answer_id"]:
            return copying  # the media of another answer are being copied
        for copy, item in zip(copies, job.media, strict=True):
            if item.inline is not None:
                self._inline.hold(copy, item.inline)
        self.copies_wait.ring()
        return copying

    def _copy_of(self, task: Task, job: Job, item: MediaItem, now: int, ends: int) -> Copy:
        copy = Copy(
            id=self._randomness(16).hex(),
            provider=task.provider,
            provider_task_id=task.provider_task_id or job.provider_task_id,
            role=item.role,
            ordinal=item.ordinal,
            url=item.url,
            owner=f"user:{task.user_id}",
            asset_id=new_asset_id(self._randomness),
            created_at=now,
            updated_at=now,
            next_try_at=now,
            retention_ends=ends,
            task_id=task.id,
            details=dict(item.details),
        )
        if item.inline is None:
            return copy
        leased_until = now + milliseconds(self._settings.lease)
        return replace(copy, leased_by=self._inline.worker, attempts=1, next_try_at=leased_until)

    async def _tell_progress(self, task: Task, copies: Sequence[Copy]) -> Task:
        info = outcome.copying_info(task.media_type, copies)
        if info == task.task_info:
            return task
        return await self._changed(task, {"task_info": info, "updated_at": self._now()})

    async def _ended(self, task: Task, changes: TaskChanges) -> Task:
        ended = await self._records.tasks.change(task, changes)
        if ended is None:
            return await self._current(task)
        self._metrics.tasks.labels(ended.provider, ended.status).inc()
        return ended

    async def _changed(self, task: Task, changes: TaskChanges) -> Task:
        return await self._records.tasks.change(task, changes) or await self._current(task)

    async def _current(self, task: Task) -> Task:
        return await self._records.tasks.get(task.id) or task

    def _now(self) -> int:
        return milliseconds(self._clock())


def _code(failed: Copy) -> Any:
    return RETENTION_ENDED if failed.reason == RETENTION_ENDED else f"result_{failed.reason}"
