"""The copying of results: each item once, whatever fails, and each failure with its reason on the task."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.app import build
from gateway.errors import StorageUnavailable
from gateway.jobs.filling import key_of
from gateway.metadata.task_records import Copy
from gateway.serving.background import background
from gateway.storage import Sink
from policies.model import State
from tests.support.ai import LOCAL, MP4, Bench, bench, until
from tests.support.gateway import settings_for, user_headers
from tests.support.providers.media import PNG, Behaviour, File
from tests.support.providers.signing import standard_headers


@pytest.fixture
async def ai() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


async def failed_after(ai: Bench, seconds: float, *files: File) -> dict[str, Any]:
    """Let a task end with these files, and return it as it is after so long."""
    task = await ai.generate()
    ai.succeed(task, *files)
    await ai.deliver(task)
    await ai.work()
    await ai.wait(seconds)
    return await ai.query(task)


@pytest.mark.parametrize(
    ("behaviour", "code", "words"),
    [
        ("not_found", "result_not_found", "not there"),
        ("forbidden", "result_forbidden", "refuses"),
        ("html", "result_not_media", "text/html"),
        ("gzip", "result_encoded", "compresses"),
        ("endless", "result_too_large", "larger"),
        ("rate_limited", "retention_ended", "rate_limited"),
        ("broken", "retention_ended", "unavailable"),
        ("truncated", "retention_ended", "truncated"),
    ],
)
async def test_a_result_that_cannot_be_had_has_its_reason_on_the_task(
    behaviour: Behaviour, code: str, words: str
) -> None:
    async with bench(settings={"purposes.generated_image.max_bytes": "1 MiB", "fetch.max_bytes": "2 MiB"}) as ai:
        task = await failed_after(ai, 3700, File(behaviour=behaviour))
        assert (task["status"], task["errorCode"], task["taskInfo"]["errorCode"]) == ("failed", code, code)
        assert words in task["errorMessage"]
        assert await ai.gateway.objects() == []
        assert (await ai.gateway.client.get((await ai.copies(task))[0].asset_id)).status == 404
        counted = ai.gateway.parts.metrics.exposition().decode()
        assert 'final="true"' in counted
        assert 'assetgate_tasks_total{provider="replicate",status="failed"} 1.0' in counted


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://evil.example/x.png", "result_host_not_allowed"),
        ("http://127.0.0.1:22/x.png", "result_host_not_allowed"),
        ("https://user:secret@127.0.0.1/x.png", "result_url_invalid"),
    ],
)
async def test_a_result_elsewhere_is_never_fetched(ai: Bench, url: str, code: str) -> None:
    task = await ai.generate()
    ai.succeed(task)
    ai.job(task).urls[:] = [url]
    await ai.deliver(task)
    await ai.work()
    assert (await ai.query(task))["errorCode"] == code


async def test_what_passes_is_tried_again_until_it_is_stored(ai: Bench) -> None:
    file = File(behaviour="broken")
    task = await ai.generate()
    ai.succeed(task, file)
    await ai.deliver(task)
    await ai.work()
    waiting = await ai.query(task)
    assert (waiting["status"], waiting["taskInfo"]["status"]) == ("processing", "copying")
    assert (waiting["taskInfo"]["copied"], waiting["taskInfo"]["toCopy"]) == (0, 1)
    await ai.wait(600)
    file.behaviour = "ok"
    await ai.wait(400)
    assert (await ai.query(task))["status"] == "success"
    assert file.served < 30, "the waits grow"


async def test_a_host_that_names_a_time_is_left_alone_until_then(ai: Bench) -> None:
    file = File(behaviour="rate_limited")
    task = await ai.generate()
    ai.succeed(task, file)
    await ai.deliver(task)
    await ai.work()
    ai.gateway.clock.move(6.5)
    await ai.work()
    assert file.served == 1
    ai.gateway.clock.move(1)
    await ai.work()
    assert file.served == 2


async def test_several_media_are_stored_and_one_that_is_lost_fails_the_task_and_keeps_the_others(ai: Bench) -> None:
    files = [File(PNG + b"0"), File(behaviour="not_found"), File(PNG + b"2")]
    task = await failed_after(ai, 3700, *files)
    assert (task["status"], task["errorCode"]) == ("failed", "result_not_found")
    assert [await ai.read(url) for url in ai.urls(task)] == [PNG + b"0", PNG + b"2"]
    assert task["taskResult"]["media"][1] == {"role": "image", "ordinal": 1, "error": "not_found"}


async def test_the_file_of_a_refused_url_is_opened_with_the_key_or_by_a_fresh_url() -> None:
    async with bench("replicate") as ai:
        done = await failed_after(ai, 0, File(key=ai.simulator.key_header))
        assert done["status"] == "success"
    async with bench("kie") as ai:
        task = await ai.generate()
        ai.succeed(task)
        (url,) = ai.job(task).urls
        ai.simulator.media.files[url.rpartition("/")[2]].fresh_only = True
        await ai.deliver(task)
        await ai.work()
        assert (await ai.query(task))["status"] == "success"


async def test_who_deletes_an_asset_before_its_bytes_came_gets_no_asset(ai: Bench) -> None:
    task = await ai.generate()
    ai.succeed(task, File(behaviour="broken"))
    await ai.deliver(task)
    await ai.work()
    (copy,) = await ai.copies(task)
    await ai.gateway.parts.metadata.change(copy.asset_id, {"state": State.DELETED, "deleted_at": 1}, State.PENDING)
    await ai.wait(60)
    assert (await ai.query(task))["errorCode"] == "result_withdrawn"


async def ended(ai: Bench, task: dict[str, Any]) -> dict[str, Any]:
    """Wait until others have brought a task to its end."""
    await until(lambda: is_done(ai, task))
    return await ai.query(task)


async def is_done(ai: Bench, task: dict[str, Any]) -> bool:
    return (await ai.record(task)).stage == "done"


async def renewed_since(ai: Bench, task: dict[str, Any], moment: int) -> bool:
    return (await ai.copies(task))[0].next_try_at != moment


async def exposed(ai: Bench, line: str) -> bool:
    return line in ai.gateway.parts.metrics.exposition().decode()


async def test_fifty_notifications_and_fifty_queries_at_once_store_each_item_once(tmp_path: Path) -> None:
    files = [File(PNG + bytes([number])) for number in range(4)]
    async with bench(folder=tmp_path, settings={"tasks.query_interval": 0}) as ai, background(ai.gateway.parts):
        task = await ai.generate()
        ai.succeed(task, *files)
        _, body = ai.simulator.signed(ai.job(task).id)

        async def notify(number: int) -> None:
            headers = standard_headers(f"msg_{number}", ai.gateway.clock(), body)
            async with ai.gateway.client.post(ai.notify_path, data=body, headers=headers) as response:
                assert response.status == 200

        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(notify(number))
                group.create_task(ai.query(task))
        done = await ended(ai, task)
        answers = await asyncio.gather(*(ai.query(task) for _ in range(50)))
        assert {tuple(entry["id"] for entry in ai.media(answer)) for answer in (done, *answers)} == {
            tuple(copy.asset_id for copy in await ai.copies(task))
        }
        assert [file.served for file in files] == [1, 1, 1, 1]
        assert len(await ai.gateway.objects()) == len(await ai.gateway.records()) == 4


async def test_two_workers_share_the_work_and_store_each_item_once(tmp_path: Path) -> None:
    files = [File(PNG + bytes([number])) for number in range(12)]
    async with bench(folder=tmp_path) as ai, AsyncExitStack() as stack:
        settings = settings_for(tmp_path, {**LOCAL, "providers.replicate": ai.simulator.tables()})
        others = [await stack.enter_async_context(build(settings, ai.gateway.clock)) for _ in range(2)]
        task = await ai.generate()
        ai.succeed(task, *files)
        await asyncio.gather(*(other.ai.poller.poll() for other in others), ai.query(task))
        await asyncio.gather(*(other.ai.persister.work() for other in (*others, ai.gateway.parts)))
        assert (await ai.query(task))["status"] == "success"
        assert [file.served for file in files] == [1] * 12
        assert len(await ai.gateway.objects()) == 12


async def waiting_copy(ai: Bench, task: dict[str, Any]) -> Copy:
    """Lease the copy of a task to a worker that will not be heard of again."""
    ai.succeed(task)
    await ai.deliver(task)
    await ai.gateway.parts.ai.poller.poll()
    now = int(ai.gateway.clock() * 1000)
    (copy,) = await ai.gateway.parts.metadata.task_records.copies.claim(now, now + 60_000, "another", 1)
    return copy


async def begin(ai: Bench, copy: Copy, *, until: str) -> None:
    """Do what the other worker did before it died: reserve the asset, store the bytes, make it ready."""
    parts, copier = ai.gateway.parts, ai.gateway.parts.ai.persister.copier
    if until == "leased":
        return
    await copier.filling.reserve(copy)
    if until == "reserved":
        return
    if until == "stored":
        async with parts.storage.create(key_of(copy), "image/png") as sink:
            await sink.write(PNG)
            await sink.commit()
        return
    assert (await copier.attempt(copy)).state is State.READY  # type: ignore[union-attr]  # a failure would fail here


@pytest.mark.parametrize("until", ["leased", "reserved", "stored", "ready"])
async def test_a_worker_that_dies_anywhere_leaves_an_item_that_is_stored_once(ai: Bench, until: str) -> None:
    task = await ai.generate()
    copy = await waiting_copy(ai, task)
    await begin(ai, copy, until=until)
    await ai.work()
    assert (await ai.query(task))["status"] == "processing", "the lease still holds"
    ai.gateway.clock.move(61)
    await ai.work()
    done = await ai.query(task)
    assert done["status"] == "success"
    assert ai.media(done)[0]["id"] == copy.asset_id
    assert await ai.read(ai.urls(done)[0]) == PNG
    assert len(await ai.gateway.objects()) == len(await ai.gateway.records()) == 1


async def test_a_worker_that_was_taken_for_dead_and_comes_back_changes_nothing(ai: Bench) -> None:
    task = await ai.generate()
    late = await waiting_copy(ai, task)
    await ai.gateway.parts.ai.persister.copier.filling.reserve(late)
    ai.gateway.clock.move(61)
    await ai.work()
    done = await ai.query(task)
    outcome = await ai.gateway.parts.ai.persister.copier.attempt(late)
    assert outcome.sha256 == hashlib.sha256(PNG).hexdigest()  # type: ignore[union-attr]  # it adopts what is there
    copies = ai.gateway.parts.metadata.task_records.copies
    assert await copies.note(late, {"next_try_at": 0}) is None
    assert (await ai.query(task))["taskResult"]["media"][0]["sha256"] == outcome.sha256  # type: ignore[union-attr]
    assert done["status"] == "success"
    assert len(await ai.gateway.objects()) == 1


async def test_what_was_held_inline_by_a_worker_that_died_is_asked_for_again() -> None:
    async with bench("gemini") as ai:
        inline = ai.gateway.parts.ai.persister.inline
        inline.taken_by(lambda _: None)
        task = await ai.generate(model="gemini-3-pro-image", mediaType="image")
        (copy,) = await ai.copies(task)
        inline.drop(copy)
        await ai.wait(300)
        done = await ai.query(task)
        assert (done["status"], done["errorCode"]) == ("failed", "result_not_found")
        assert "does not repeat" in done["errorMessage"]


async def test_what_is_held_inline_is_stored_when_the_storage_is_back(ai: Bench) -> None:
    task = await ai.generate()
    ai.simulator.succeed(ai.job(task).id)
    ai.job(task).urls[:] = ["data:image/png;base64," + base64.b64encode(PNG).decode()]
    storage = ai.gateway.parts.storage
    create, calls = storage.create, 0

    @asynccontextmanager
    async def away_at_first(key: str, media_type: str) -> AsyncIterator[Sink]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise StorageUnavailable
        async with create(key, media_type) as sink:
            yield sink

    storage.create = away_at_first  # type: ignore[method-assign]  # a storage that is away for a moment
    assert await ai.deliver(task) == [200]
    await ai.gateway.parts.ai.poller.poll()
    ai.gateway.clock.move(5)
    await ai.work()
    assert (await ai.query(task))["status"] == "success"
    assert calls == 2


async def test_leases_are_renewed_while_a_slow_file_comes_and_a_lost_one_stops_the_copy(tmp_path: Path) -> None:
    async with bench(folder=tmp_path, settings={"tasks.lease": 1}) as ai:
        task = await ai.generate()
        ai.succeed(task, File(PNG, behaviour="drip"))
        await ai.deliver(task)
        await ai.gateway.parts.ai.poller.poll()
        copying = asyncio.create_task(ai.gateway.parts.ai.persister.work())
        await asyncio.sleep(0.2)
        ai.gateway.clock.move(0.9)
        first = (await ai.copies(task))[0].next_try_at
        await until(lambda: renewed_since(ai, task, first))
        ai.gateway.clock.move(10)
        now = int(ai.gateway.clock() * 1000)
        assert await ai.gateway.parts.metadata.task_records.copies.claim(now, now + 60_000, "another", 1)
        await asyncio.wait_for(copying, 5)
        assert await ai.gateway.objects() == []


async def test_a_large_result_is_copied_with_flat_memory(tmp_path: Path) -> None:
    size = int(os.environ.get("ASSETGATE_TEST_LARGE_MIB", "256")) * 2**20
    settings = {"purposes.generated_video.max_bytes": size, "fetch.max_bytes": size}
    async with bench(folder=tmp_path, settings=settings) as ai:
        task = await ai.generate(model="deployments/acme/clips", mediaType="video")
        job = ai.simulator.jobs[task["providerTaskId"]]
        ai.simulator.succeed(job.id, File(MP4, "video/mp4", padded_to=size))
        await ai.simulator.deliver(job.id)
        before = resident_peak()
        await ai.work()
        grown = resident_peak() - before
        done = await ai.query(task)
        assert (done["status"], done["taskResult"]["media"][0]["sizeBytes"]) == ("success", size)
        assert grown < 48 * 2**20, f"{grown / 2**20:.0f} MiB"


def resident_peak() -> int:
    """Reset and read the peak of this process's resident memory (proc(5), clear_refs)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak


async def test_the_operator_sees_how_long_the_oldest_item_waits(ai: Bench) -> None:
    task = await ai.generate(user_headers("u_1"))
    ai.succeed(task, File(behaviour="broken"))
    await ai.deliver(task)
    await ai.gateway.parts.ai.poller.poll()
    ai.gateway.clock.move(30)
    async with background(ai.gateway.parts):
        await until(lambda: exposed(ai, "assetgate_oldest_waiting_item_seconds 30"))


async def test_a_worker_that_is_told_to_stop_gives_its_leases_back(tmp_path: Path) -> None:
    async with bench(folder=tmp_path) as ai:
        settings = settings_for(tmp_path, {**LOCAL, "providers.replicate": ai.simulator.tables()})
        task = await ai.generate()
        file = File(PNG, behaviour="drip")
        ai.succeed(task, file)
        await ai.query(task)
        async with build(settings, ai.gateway.clock) as other, background(other):
            await until(lambda: is_served(file))
        file.behaviour = "ok"
        await ai.work()
        assert (await ai.query(task))["status"] == "success"


async def is_served(file: File) -> bool:
    return file.served > 0
