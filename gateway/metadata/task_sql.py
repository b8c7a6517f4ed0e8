"""The statements on the records of AI tasks, in the SQL that PostgreSQL, SQLite and D1 share.

As in `gateway.metadata.sql` a number that stands in no comparison with a column is cast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, Final, TypeVar

import orjson

from gateway.metadata.driver import Row, Statement
from gateway.metadata.task_records import Copy, CopyChanges, CopyState, Event, Stage, Task, TaskChanges, TaskListing

Record = TypeVar("Record", Task, Copy)

TASK_COLUMNS: Final = tuple(field.name for field in fields(Task))
COPY_COLUMNS: Final = tuple(field.name for field in fields(Copy))
_JSON: Final = {"options", "task_info", "task_result", "details"}
_ENUMS: Final[Mapping[type, Mapping[str, type[StrEnum]]]] = {Task: {"stage": Stage}, Copy: {"state": CopyState}}
_NUMBERS: Final = {
    *("created_at", "updated_at", "deadline", "next_ask_at", "asks", "retention_ends"),
    *("ordinal", "next_try_at", "attempts", "size"),
}


def _cast(columns: tuple[str, ...], first: int = 1) -> str:
    types = ["BIGINT" if name in _NUMBERS else "TEXT" for name in columns]
    return ", ".join(f"CAST(${number} AS {kind})" for number, kind in enumerate(types, first))


_FRAGMENTS: Final = {
    "task": ", ".join(TASK_COLUMNS),
    "task_values": _cast(TASK_COLUMNS),
    "copy": ", ".join(COPY_COLUMNS),
    "copy_values": _cast(COPY_COLUMNS),
}


def _sql(text: str, **more: str) -> str:
    for name, fragment in (more | _FRAGMENTS).items():
        text = text.replace(f"<{name}>", fragment)
    return " ".join(text.split())


# Whichever of the unique indexes it meets: the key of the same user, or the same item of a provider.
ADD_TASK: Final = _sql("INSERT INTO tasks (<task>) SELECT <task_values> WHERE true ON CONFLICT DO NOTHING RETURNING id")
GET_TASK: Final = _sql("SELECT <task> FROM tasks WHERE id = $1")
# By its own id as well: an engine that lost the answer and asked again finds the task there.
GET_SAME_TASK: Final = _sql("SELECT <task> FROM tasks WHERE id = $1 OR user_id = $2 AND idempotency_key = $3")

LIST_TASKS: Final = _sql("SELECT <task> FROM tasks WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2")
LIST_TASKS_AFTER: Final = _sql("""
    SELECT <task> FROM tasks WHERE user_id = $1 AND (created_at, id) < ($3, $4)
    ORDER BY created_at DESC, id DESC LIMIT $2
""")

# `<lock>` keeps two workers of PostgreSQL from waiting for each other's rows; elsewhere one writes at a time. Not a
# sub-select within the UPDATE: PostgreSQL may run that once a row, and each run skips what the last one locked.
CLAIM_TASKS: Final = _sql("""
    WITH due AS MATERIALIZED (
        SELECT id FROM tasks WHERE next_ask_at <= $1 ORDER BY next_ask_at LIMIT $3 <lock>
    )
    UPDATE tasks SET next_ask_at = $2, asks = asks + 1
    WHERE next_ask_at <= $1 AND id IN (SELECT id FROM due)
    RETURNING <task>
""")

ADD_COPY: Final = _sql("""
    INSERT INTO copies (<copy>) SELECT <copy_values> WHERE true ON CONFLICT DO NOTHING RETURNING id
""")
_WITH_TASK: Final = len(COPY_COLUMNS) + 1
ADD_COPY_OF_TASK: Final = _sql(
    """
    INSERT INTO copies (<copy>) SELECT <copy_values>
    WHERE EXISTS (SELECT 1 FROM tasks WHERE id = <id> AND answer_id = <answer>)
    ON CONFLICT DO NOTHING
    """,
    id=f"${_WITH_TASK}",
    answer=f"${_WITH_TASK + 1}",
)
GET_COPY_OF_ITEM: Final = _sql("""
    SELECT <copy> FROM copies WHERE provider = $1 AND provider_task_id = $2 AND role = $3 AND ordinal = $4
""")
COPIES_OF_TASK: Final = _sql("SELECT <copy> FROM copies WHERE task_id = $1 ORDER BY role, ordinal")

CLAIM_COPIES: Final = _sql("""
    WITH due AS MATERIALIZED (
        SELECT id FROM copies WHERE state = 'waiting' AND next_try_at <= $1 ORDER BY retention_ends LIMIT $4 <lock>
    )
    UPDATE copies SET next_try_at = $2, leased_by = $3, attempts = attempts + 1
    WHERE state = 'waiting' AND next_try_at <= $1 AND id IN (SELECT id FROM due)
    RETURNING <copy>
""")
RENEW: Final = _sql("""
    UPDATE copies SET next_try_at = $3 WHERE id IN <ids> AND leased_by = $2 AND state = 'waiting' RETURNING id
""")
OLDEST_COPY: Final = "SELECT min(created_at) FROM copies WHERE state = 'waiting'"

ADD_EVENT: Final = _sql("""
    INSERT INTO task_events (provider, event_id, nonce, expires_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING RETURNING event_id
""")
# The two that follow are no-ops for a replay: the nonce of the row is that of the first.
_FIRST: Final = "EXISTS (SELECT 1 FROM task_events WHERE provider = $1 AND event_id = $2 AND nonce = $3)"
NAME_TASK: Final = _sql(
    """
    UPDATE tasks SET provider_task_id = $4, stage = 'running'
    WHERE id = $5 AND provider = $1 AND stage = 'creating' AND provider_task_id IS NULL AND <first>
        AND NOT EXISTS (SELECT 1 FROM tasks AS other WHERE other.provider = $1 AND other.provider_task_id = $4)
    """,
    first=_FIRST,
)
WAKE_TASK: Final = _sql(
    """
    UPDATE tasks SET next_ask_at = $5
    WHERE provider = $1 AND provider_task_id = $4 AND stage = 'running' AND next_ask_at > $5 AND <first>
    """,
    first=_FIRST,
)
FORGET_EVENTS: Final = "DELETE FROM task_events WHERE expires_at <= $1 RETURNING event_id"


def change_task(seen: Task, changes: TaskChanges) -> Statement:
    """Change a task that is still in the stage in which it was seen."""
    given = _plain_all(changes)
    terms: list[str] = []
    values: list[Any] = [seen.id, str(seen.stage)]
    for name, value in given.items():
        values.append(value)
        term = f"${len(values)}"
        if name == "next_ask_at" and value is not None and seen.next_ask_at is not None:
            values.append(seen.next_ask_at)
            term = f"CASE WHEN next_ask_at < ${len(values)} THEN next_ask_at ELSE {term} END"
        terms.append(f"{name} = {term}")
    text = "UPDATE tasks SET <assigned> WHERE id = $1 AND stage = $2 RETURNING <task>"
    return _sql(text, assigned=", ".join(terms)), values


def change_copy(copy: Copy, changes: CopyChanges) -> Statement:
    """Change a copy while its lease is held, and end that."""
    given = _plain_all(changes)
    assigned = ", ".join(f"{name} = ${number}" for number, name in enumerate(given, 3))
    text = "UPDATE copies SET leased_by = NULL, <assigned> WHERE id = $1 AND leased_by = $2 RETURNING <copy>"
    return _sql(text, assigned=assigned), [copy.id, copy.leased_by, *given.values()]


def list_tasks(listing: TaskListing) -> Statement:
    if listing.after is None:
        return LIST_TASKS, [listing.user_id, listing.limit]
    return LIST_TASKS_AFTER, [listing.user_id, listing.limit, *listing.after]


def note_event(event: Event, now: int) -> list[Statement]:
    first = (event.provider, event.event_id, event.nonce)
    statements: list[Statement] = [(ADD_EVENT, (*first, event.expires_at))]
    if event.provider_task_id is not None and event.task_id is not None:
        statements.append((NAME_TASK, (*first, event.provider_task_id, event.task_id)))
    if event.provider_task_id is not None:
        statements.append((WAKE_TASK, (*first, event.provider_task_id, now)))
    return statements


def values_of(record: Task | Copy) -> list[Any]:
    return [_plain(field.name, getattr(record, field.name)) for field in fields(record)]


def read(kind: type[Record], row: Row) -> Record:
    """Make the record of a row that has all columns in order."""
    enums = _ENUMS[kind]
    values: list[Any] = [
        orjson.loads(value)
        if field.name in _JSON and value is not None
        else enums[field.name](value)
        if field.name in enums
        else value
        for field, value in zip(fields(kind), row, strict=True)
    ]
    return kind(*values)


def _plain_all(changes: TaskChanges | CopyChanges) -> dict[str, Any]:
    return {name: _plain(name, value) for name, value in changes.items()}


def _plain(name: str, value: Any) -> Any:
    """Write what drivers take: text, whole numbers, None."""
    if name in _JSON:
        return None if value is None else orjson.dumps(value).decode()
    return str(value) if isinstance(value, str) else value
