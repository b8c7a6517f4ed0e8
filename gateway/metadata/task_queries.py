"""The records of AI tasks on top of a driver that runs statements: every method is one statement or one batch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from gateway.errors import RecordsFault
from gateway.metadata import task_sql as sql
from gateway.metadata.driver import Driver, Row, Statement
from gateway.metadata.task_records import (
    Copy,
    CopyChanges,
    Event,
    Task,
    TaskChanges,
    TaskListing,
    TaskRecords,
)

Noting = tuple[Event, int, asyncio.Future[bool]]  # a notification, the time, and whom to tell
MOST_EVENTS: Final = 64  # in one transaction: a replay among them costs the others little


def task_records(driver: Driver) -> TaskRecords:
    """Make the records of AI tasks in the database of `driver`."""
    return TaskRecords(SqlTasks(driver), SqlCopies(driver), SqlEvents(driver))


class SqlTasks:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._claim = sql.CLAIM_TASKS.replace(" <lock>", driver.dialect.skip_locked)

    async def add(self, task: Task) -> Task:
        insert: Statement = (sql.ADD_TASK, sql.values_of(task))
        same: Statement = (sql.GET_SAME_TASK, (task.id, task.user_id, task.idempotency_key))
        _, found = await self._driver.batch([insert, same])
        if not found:
            raise RecordsFault  # another index refused it
        return sql.read(Task, found[0])

    async def get(self, task_id: str) -> Task | None:
        return _task(await self._driver.fetch((sql.GET_TASK, (task_id,))))

    async def change(self, seen: Task, changes: TaskChanges) -> Task | None:
        (rows,) = await self._driver.batch([sql.change_task(seen, changes)])
        return _task(rows)

    async def copy(self, seen: Task, changes: TaskChanges, media: Sequence[Copy]) -> Task | None:
        answer = (seen.id, changes.get("answer_id"))
        copies: list[Statement] = [(sql.ADD_COPY_OF_TASK, (*sql.values_of(copy), *answer)) for copy in media]
        return _task((await self._driver.batch([sql.change_task(seen, changes), *copies]))[0])

    async def claim(self, now: int, until: int, limit: int) -> list[Task]:
        (rows,) = await self._driver.batch([(self._claim, (now, until, limit))])
        return [sql.read(Task, row) for row in rows]

    # Behind the others, for in a class `list` is from here on no longer the built-in.
    async def list(self, listing: TaskListing) -> list[Task]:
        return [sql.read(Task, row) for row in await self._driver.fetch(sql.list_tasks(listing))]


class SqlCopies:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._claim = sql.CLAIM_COPIES.replace(" <lock>", driver.dialect.skip_locked)
        self._renew = sql.RENEW.replace("<ids>", driver.dialect.ids)

    async def add(self, copy: Copy) -> Copy:
        item = (copy.provider, copy.provider_task_id, copy.role, copy.ordinal)
        _, same = await self._driver.batch([(sql.ADD_COPY, sql.values_of(copy)), (sql.GET_COPY_OF_ITEM, item)])
        return sql.read(Copy, same[0])

    async def of(self, task_id: str) -> list[Copy]:
        return [sql.read(Copy, row) for row in await self._driver.fetch((sql.COPIES_OF_TASK, (task_id,)))]

    async def claim(self, now: int, until: int, by: str, limit: int) -> list[Copy]:
        (rows,) = await self._driver.batch([(self._claim, (now, until, by, limit))])
        return sorted((sql.read(Copy, row) for row in rows), key=lambda copy: copy.retention_ends)

    async def renew(self, ids: Sequence[str], by: str, until: int) -> set[str]:
        if not ids:
            return set()
        (rows,) = await self._driver.batch([(self._renew, (json.dumps(list(ids)), by, until))])
        return {row[0] for row in rows}

    async def note(self, copy: Copy, changes: CopyChanges) -> Copy | None:
        (rows,) = await self._driver.batch([sql.change_copy(copy, changes)])
        return sql.read(Copy, rows[0]) if rows else None

    async def oldest(self) -> int | None:
        rows = await self._driver.fetch((sql.OLDEST_COPY, ()))
        return None if rows[0][0] is None else int(rows[0][0])


class SqlEvents:
    """Notifications that come while others are being written travel together with the next transaction.

    A commit waits for the disk; a burst of notifications would wait in line, each for its own.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._waiting: list[Noting] = []
        self._writing: asyncio.Task[None] | None = None

    async def note(self, event: Event, now: int) -> bool:
        noted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, now, noted))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return await noted

    async def _write(self) -> None:
        try:
            while self._waiting:
                travelling, self._waiting = self._waiting[:MOST_EVENTS], self._waiting[MOST_EVENTS:]
                await self._write_together(travelling)
        finally:
            self._writing = None

    async def _write_together(self, travelling: list[Noting]) -> None:
        # In one order everywhere, so that two workers do not wait for each other's rows.
        travelling.sort(key=lambda one: (one[0].provider, one[0].provider_task_id or "", one[0].event_id))
        statements: list[Statement] = []
        firsts: list[int] = []
        for event, now, _ in travelling:
            firsts.append(len(statements))
            statements += sql.note_event(event, now)
        try:
            rows = await self._driver.batch(statements)
        except Exception as trouble:  # noqa: BLE001 - it is those who wait that it is for
            for _, _, noted in travelling:
                if not noted.done():
                    noted.set_exception(trouble)
            return
        for first, (_, _, noted) in zip(firsts, travelling, strict=True):
            if not noted.done():  # who has left does not hear of it
                noted.set_result(bool(rows[first]))

    async def forget(self, now: int) -> int:
        (rows,) = await self._driver.batch([(sql.FORGET_EVENTS, (now,))])
        return len(rows)


def _task(rows: Sequence[Row]) -> Task | None:
    return sql.read(Task, rows[0]) if rows else None
