"""The poller: tasks whose notification did not come, providers in trouble, and what crashes left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ai import LOCAL, Bench, bench, until
from tests.support.gateway import running


@pytest.fixture
async def ai() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


async def is_stored(ai: Bench, task: dict[str, Any]) -> bool:
    return (await ai.copies(task))[0].state == "stored"


def asked(ai: Bench) -> int:
    return sum(call.method == "GET" for call in ai.simulator.calls)


async def test_the_questions_grow_rarer_and_never_stop(ai: Bench) -> None:
    await ai.generate()
    await ai.wait(600)
    first = asked(ai)
    assert 5 <= first <= 15
    await ai.wait(600)
    assert 4 <= asked(ai) - first <= 10


async def test_a_provider_without_notifications_is_asked_sooner() -> None:
    async with bench("kie", {"providers.kie.webhook_secrets": []}) as ai:
        task = await ai.generate()
        assert ai.job(task).callback_url is None
        ai.succeed(task)
        await ai.wait(15)
        assert (await ai.query(task))["status"] == "success"


async def test_an_unheard_of_status_is_asked_again_until_the_deadline(ai: Bench) -> None:
    task = await ai.generate()
    ai.simulator.advance(ai.job(task).id, "unheard_of")
    await ai.wait(5 * 3600)
    assert (await ai.query(task))["status"] == "processing"
    await ai.wait(1.1 * 3600)
    done = await ai.query(task)
    assert (done["status"], done["errorCode"]) == ("failed", "deadline_passed")
    assert ai.simulator.calls[-1].path.endswith("/cancel"), "what goes on there may cost"


async def test_a_failure_and_a_cancellation_are_told(ai: Bench) -> None:
    failed, canceled = await ai.generate(), await ai.generate()
    ai.simulator.fail(ai.job(failed).id, "out of memory")
    ai.simulator.cancel(ai.job(canceled).id)
    await ai.wait(45)
    told = await ai.query(failed)
    assert (told["status"], told["errorCode"], told["errorMessage"]) == ("failed", "replicate_failed", "out of memory")
    assert told["taskInfo"]["errorMessage"] == "out of memory"
    assert (await ai.query(canceled))["status"] == "canceled"


async def test_a_rate_limit_silences_all_questions_to_that_provider(ai: Bench) -> None:
    tasks = [await ai.generate() for _ in range(3)]
    ai.simulator.scripted.append((429, {"detail": "slow"}, {"Retry-After": "300"}))
    await ai.query(tasks[0])
    before = asked(ai)
    await ai.wait(280)
    for task in tasks:
        await ai.query(task)
    assert asked(ai) == before
    await ai.wait(200)
    assert asked(ai) > before


@pytest.mark.parametrize("status", [500, 502, 503, 401])
async def test_a_provider_in_trouble_ends_no_task(ai: Bench, status: int) -> None:
    task = await ai.generate()
    ai.succeed(task)
    ai.simulator.scripted.extend([(status, {}, {})] * 2)
    await ai.wait(1200)
    assert (await ai.query(task))["status"] == "success"


async def test_a_job_that_the_provider_has_forgotten_ends_and_a_young_one_is_asked_again(ai: Bench) -> None:
    task = await ai.generate()
    job = ai.simulator.jobs.pop(task["providerTaskId"])
    await ai.query(task)
    assert (await ai.record(task)).status == "pending"
    ai.simulator.jobs[job.id] = job
    await ai.wait(60)
    assert (await ai.record(task)).status == "pending"
    del ai.simulator.jobs[job.id]
    await ai.wait(150)
    assert (await ai.query(task))["errorCode"] == "provider_job_unknown"


async def test_a_result_that_the_provider_has_deleted_says_so(ai: Bench) -> None:
    task = await ai.generate()
    ai.succeed(task)
    ai.gateway.clock.move(2 * 3600)
    await ai.work()
    assert (await ai.query(task))["errorCode"] == "retention_ended"


async def test_a_poller_that_died_leaves_its_tasks_to_another(ai: Bench) -> None:
    task = await ai.generate()
    ai.succeed(task)
    ai.gateway.clock.move(30)
    now = int(ai.gateway.clock() * 1000)
    claimed = await ai.gateway.parts.metadata.task_records.tasks.claim(now, now + 90_000, 10)
    assert [one.id for one in claimed] == [task["id"]]
    await ai.work()
    assert (await ai.record(task)).status == "pending"
    await ai.wait(100)
    assert (await ai.query(task))["status"] == "success"


async def test_a_notification_during_a_question_has_it_asked_again(ai: Bench) -> None:
    task = await ai.generate()
    ai.gateway.clock.move(30)
    now = int(ai.gateway.clock() * 1000)
    (claimed,) = await ai.gateway.parts.metadata.task_records.tasks.claim(now, now + 90_000, 10)
    ai.succeed(task)
    assert await ai.deliver(task) == [200]
    # The answer to the first question was made before the job ended.
    settler = ai.gateway.parts.ai.persister.settler
    await settler.put_off(claimed, now + 60_000)
    await ai.work()
    assert (await ai.query(task))["status"] == "success"


async def test_a_task_whose_media_are_stored_and_that_nobody_finished_is_finished(ai: Bench) -> None:
    """The worker died between noting the last item and the task."""
    task = await ai.generate()
    ai.succeed(task)
    await ai.query(task)
    settler = ai.gateway.parts.ai.persister.settler
    finish, settler.finish = settler.finish, asyncio.Event().wait  # type: ignore[assignment,method-assign]
    working = asyncio.create_task(ai.gateway.parts.ai.persister.work())
    await until(lambda: is_stored(ai, task))
    working.cancel()
    settler.finish = finish  # type: ignore[method-assign]  # the next worker is whole
    assert (await ai.record(task)).stage == "copying"
    ai.gateway.clock.move(61)
    await ai.gateway.parts.ai.poller.poll()
    assert (await ai.query(task))["status"] == "success"


async def test_a_provider_that_left_the_settings_ends_its_tasks_at_the_deadline(tmp_path: Path) -> None:
    async with bench(folder=tmp_path) as ai:
        task = await ai.generate()
    async with running(LOCAL, folder=tmp_path) as gateway:
        tasks, poller = gateway.parts.metadata.task_records.tasks, gateway.parts.ai.poller
        for hours, code in ((1, None), (6, "deadline_passed")):
            gateway.clock.move(hours * 3600)
            await poller.poll()
            found = await tasks.get(task["id"])
            assert found is not None
            assert found.error_code == code
