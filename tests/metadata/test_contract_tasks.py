"""What every store must do with AI tasks, the copies of their media, and notifications."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.metadata import Metadata
from gateway.metadata.task_records import Copy, CopyState, Event, Stage, Task, TaskListing
from tests.support.metadata import LATER, NOW


def a_task(task_id: str = "task-00000001", **facts: Any) -> Task:
    usual: dict[str, Any] = {
        "id": task_id,
        "user_id": "ada",
        "provider": "replicate",
        "media_type": "image",
        "model": "owner/name",
        "prompt": "a llama \N{LLAMA}",
        "options": {"image": "asset://asset-00000001", "deep": [1, None, {"a": True}]},
        "status": "pending",
        "stage": Stage.CREATING,
        "created_at": NOW,
        "updated_at": NOW,
        "deadline": NOW + 1000,
        "next_ask_at": NOW + 100,
    }
    return Task(**(usual | facts))


def a_copy(number: int = 0, **facts: Any) -> Copy:
    usual: dict[str, Any] = {
        "id": f"copy-{number}",
        "provider": "replicate",
        "provider_task_id": "job-1",
        "role": "image",
        "ordinal": number,
        "url": "https://files.example/x.png",
        "owner": "user:ada",
        "asset_id": f"asset-{number:08}",
        "created_at": NOW,
        "updated_at": NOW,
        "next_try_at": NOW,
        "retention_ends": NOW + 1000,
        "task_id": "task-00000001",
        "details": {"title": "\N{LLAMA}"},
    }
    return Copy(**(usual | facts))


def an_event(**facts: Any) -> Event:
    usual: dict[str, Any] = {
        "provider": "replicate",
        "event_id": "msg_1",
        "provider_task_id": "job-1",
        "task_id": None,
        "expires_at": NOW + 1000,
        "nonce": "n1",
    }
    return Event(**(usual | facts))


RUNNING: dict[str, Any] = {"stage": Stage.RUNNING, "provider_task_id": "job-1"}
COPYING: dict[str, Any] = {"stage": Stage.COPYING, "answer_id": "a1", "status": "processing"}


async def test_a_task_comes_back_as_it_was_added(store: Metadata) -> None:
    tasks = store.task_records.tasks
    full = a_task(
        scene="x", provider_task_id="job-1", task_result={"media": []}, error_code="c", error_message="m",
        idempotency_key="k", asks=3, retention_ends=NOW, answer_id="a", task_info={"images": []},
    )  # fmt: skip
    for task in (full, a_task("task-00000002")):
        assert await tasks.add(task) == task
        assert await tasks.get(task.id) == task
    assert await tasks.get("task-00000003") is None


async def test_of_one_idempotency_key_a_user_has_one_task(store: Metadata) -> None:
    tasks = store.task_records.tasks
    added = await asyncio.gather(*(tasks.add(a_task(f"task-0000000{n}", idempotency_key="k")) for n in range(8)))
    assert len({task.id for task in added}) == 1
    other = a_task("task-0000000x", idempotency_key="k", user_id="bob")
    assert await tasks.add(other) == other
    for number in range(2):
        assert (await tasks.add(a_task(f"task-1000000{number}"))).id == f"task-1000000{number}"


async def test_a_task_changes_only_in_the_stage_in_which_it_was_seen(store: Metadata) -> None:
    tasks = store.task_records.tasks
    seen = await tasks.add(a_task())
    running = await tasks.change(seen, {**RUNNING, "task_info": {"status": "x"}, "next_ask_at": NOW + 50})  # type: ignore[typeddict-item]
    assert running == replace(seen, **RUNNING, task_info={"status": "x"}, next_ask_at=NOW + 50)
    assert await tasks.change(seen, {"status": "failed"}) is None
    assert await tasks.get(seen.id) == running
    done = await tasks.change(running, {"stage": Stage.DONE, "next_ask_at": None})
    assert done == replace(running, stage=Stage.DONE, next_ask_at=None)


async def test_whoever_wants_a_task_looked_after_earlier_is_heard(store: Metadata) -> None:
    tasks = store.task_records.tasks
    seen = await tasks.add(a_task(**RUNNING))
    assert await store.task_records.events.note(an_event(), NOW)
    changed = await tasks.change(seen, {"next_ask_at": NOW + 500})
    assert changed is not None
    assert changed.next_ask_at == NOW
    again = await tasks.change(changed, {"next_ask_at": NOW + 500})
    assert again is not None
    assert again.next_ask_at == NOW + 500


async def test_due_tasks_are_claimed_once_and_again_when_nobody_looked_after_them(store: Metadata) -> None:
    tasks = store.task_records.tasks
    for number in range(6):
        await tasks.add(a_task(f"task-{number:08}", next_ask_at=NOW + number if number < 5 else None))
    claims = await asyncio.gather(*(tasks.claim(NOW + 3, NOW + 90, 2) for _ in range(5)))
    claimed = [task for claim in claims for task in claim]
    assert sorted(task.id for task in claimed) == [f"task-{number:08}" for number in range(4)]
    assert {(task.asks, task.next_ask_at) for task in claimed} == {(1, NOW + 90)}
    assert sorted(task.asks for task in await tasks.claim(NOW + 90, NOW + 180, 10)) == [1, 2, 2, 2, 2]
    assert await tasks.claim(NOW + 179, NOW + 300, 10) == []


async def test_tasks_are_listed_by_user_newest_first(store: Metadata) -> None:
    tasks = store.task_records.tasks
    for number in (0, 1, 2):
        await tasks.add(a_task(f"task-{number:08}", created_at=NOW + min(number, 1)))
    await tasks.add(a_task("task-of-bob-1", user_id="bob"))
    whole = await tasks.list(TaskListing("ada", 10))
    assert [task.id[-1] for task in whole] == ["2", "1", "0"]
    first = await tasks.list(TaskListing("ada", 2))
    rest = await tasks.list(TaskListing("ada", 2, (first[-1].created_at, first[-1].id)))
    assert [*first, *rest] == whole


async def test_media_are_added_with_the_stage_by_the_first_answer_alone(store: Metadata) -> None:
    records = store.task_records
    seen = await records.tasks.add(a_task(**RUNNING))
    answers = [
        records.tasks.copy(
            seen,
            {**COPYING, "answer_id": f"a{n}"},  # type: ignore[typeddict-item]
            [a_copy(item, id=f"copy-{n}-{item}", asset_id=f"asset-{n}-{item}") for item in range(n + 1)],
        )
        for n in range(5)
    ]
    copying = [task for task in await asyncio.gather(*answers) if task is not None]
    assert len(copying) == 1
    copies = await records.copies.of(seen.id)
    winner = int((copying[0].answer_id or "")[1:])
    assert [copy.id for copy in copies] == [f"copy-{winner}-{item}" for item in range(winner + 1)]
    assert await records.tasks.copy(seen, {**COPYING}, [a_copy(9)]) is None  # type: ignore[typeddict-item]
    assert len(await records.copies.of(seen.id)) == winner + 1


async def test_an_item_is_there_once_whoever_adds_it(store: Metadata) -> None:
    copies = store.task_records.copies
    added = await asyncio.gather(*(copies.add(a_copy(id=f"racer-{n}", asset_id=f"asset-{n}")) for n in range(8)))
    assert len({copy.asset_id for copy in added}) == 1
    assert (await copies.add(a_copy(1))).asset_id == "asset-00000001"
    full = a_copy(
        2, url=None, task_id=None, purpose="avatar", visibility="public", state=CopyState.STORED, attempts=2,
        leased_by="w", media_type="image/png", size=2**40, sha256="ab", reason="r", reason_detail="d",
    )  # fmt: skip
    assert await copies.add(full) == full


async def test_copies_are_leased_once_the_most_urgent_first(store: Metadata) -> None:
    copies = store.task_records.copies
    for number in range(6):
        await copies.add(a_copy(number, retention_ends=NOW + 100 - number, next_try_at=NOW + number // 5))
    claims = await asyncio.gather(*(copies.claim(NOW, NOW + 60, f"w{n}", 2) for n in range(4)))
    leased = [copy for claim in claims for copy in claim]
    assert sorted(copy.id for copy in leased) == [f"copy-{number}" for number in range(5)]
    assert {(copy.attempts, copy.next_try_at) for copy in leased} == {(1, NOW + 60)}
    assert [copy.ordinal for copy in await copies.claim(LATER, NOW + 60, "w", 1)] == [5]
    again = await copies.claim(NOW + 60, NOW + 120, "x", 2)
    assert [(copy.ordinal, copy.attempts, copy.leased_by) for copy in again] == [(5, 2, "x"), (4, 2, "x")]


async def test_a_lease_is_renewed_and_ended_by_its_holder_alone(store: Metadata) -> None:
    copies = store.task_records.copies
    await copies.add(a_copy(0))
    await copies.add(a_copy(1))
    first = {copy.id: copy for copy in await copies.claim(NOW, NOW + 60, "w", 2)}
    assert await copies.renew(list(first), "w", NOW + 90) == {"copy-0", "copy-1"}
    assert await copies.renew(list(first), "x", NOW + 99) == set()
    assert await copies.renew([], "w", NOW + 99) == set()
    await copies.claim(NOW + 90, NOW + 150, "x", 1)
    noted = [await copies.note(copy, {"state": CopyState.STORED, "size": 7, "url": None}) for copy in first.values()]
    assert sum(copy is not None for copy in noted) == 1, "the other's lease was lost"
    stored = next(copy for copy in noted if copy is not None)
    assert (stored.state, stored.size, stored.url, stored.leased_by) == (CopyState.STORED, 7, None, None)
    assert await copies.note(first[stored.id], {"state": CopyState.FAILED}) is None, "a lease ends once"


async def test_the_oldest_waiting_copy_is_known(store: Metadata) -> None:
    copies = store.task_records.copies
    assert await copies.oldest() is None
    await copies.add(a_copy(0, created_at=NOW + 5))
    await copies.add(a_copy(1, created_at=NOW, state=CopyState.STORED))
    assert await copies.oldest() == NOW + 5


async def test_of_many_repetitions_of_a_notification_one_counts(store: Metadata) -> None:
    records = store.task_records
    await records.tasks.add(a_task(**RUNNING))
    noted = await asyncio.gather(*(records.events.note(an_event(nonce=f"n{n}"), NOW) for n in range(8)))
    assert sorted(noted) == [False] * 7 + [True]
    (claimed,) = await records.tasks.claim(NOW, NOW + 90, 10)
    assert not await records.events.note(an_event(nonce="late"), NOW)
    assert await records.tasks.claim(NOW, NOW + 90, 10) == []
    assert await records.events.note(an_event(event_id="msg_2", nonce="n9"), NOW)
    assert [task.id for task in await records.tasks.claim(NOW, NOW + 90, 10)] == [claimed.id]


@pytest.mark.parametrize(
    ("event", "named"),
    [
        ({"task_id": "task-00000001"}, True),
        ({"task_id": "task-00000001", "provider": "fal"}, False),
        ({"task_id": "task-00000009"}, False),
        ({"task_id": "task-00000001", "provider_task_id": "job-taken"}, False),
        ({"task_id": "task-00000001", "provider_task_id": None}, False),
        ({}, False),
    ],
)
async def test_a_task_without_a_name_takes_the_one_of_its_own_notification(
    store: Metadata, event: dict[str, Any], named: bool
) -> None:
    records = store.task_records
    await records.tasks.add(a_task())
    await records.tasks.add(a_task("task-00000002", stage=Stage.RUNNING, provider_task_id="job-taken"))
    assert await records.events.note(an_event(**event), NOW)
    found = await records.tasks.get("task-00000001")
    assert found is not None
    expected = (Stage.RUNNING, "job-1", NOW) if named else (Stage.CREATING, None, NOW + 100)
    assert (found.stage, found.provider_task_id, found.next_ask_at) == expected


async def test_notifications_are_forgotten_when_nobody_can_replay_them(store: Metadata) -> None:
    events = store.task_records.events
    await events.note(an_event(provider_task_id=None), NOW)
    assert await events.forget(NOW + 999) == 0
    assert await events.forget(NOW + 1000) == 1
    assert await events.note(an_event(provider_task_id=None), NOW)
