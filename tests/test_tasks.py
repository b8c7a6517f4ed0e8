"""AI tasks end to end: from the prompt to the bytes behind a signed URL, for every provider."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.ai import FILES, GENERATE, MP3, NAMES, QUERY, Bench, bench, until
from tests.support.gateway import PNG as GATEWAY_PNG
from tests.support.gateway import service_headers, user_headers
from tests.support.providers.media import PNG, File

every_provider = pytest.mark.parametrize("ai", NAMES, indirect=True)


@pytest.fixture
async def ai(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with bench(getattr(request, "param", "replicate")) as made:
        yield made


@pytest.fixture
async def ai_gemini() -> AsyncIterator[Bench]:
    async with bench("gemini") as made:
        yield made


@every_provider
async def test_a_notified_result_is_stored_and_plays_by_signed_url(ai: Bench) -> None:
    task = await ai.generate()
    assert (task["status"], ai.media(task)) == ("pending", [])
    ai.succeed(task)
    assert await ai.deliver(task) == [200]
    await ai.work()
    done = await ai.query(task)
    assert done["status"] == done["taskInfo"]["status"] == "success"
    (url,) = ai.urls(done)
    content, media_type = FILES[ai.media_type]
    assert await ai.read(url) == content
    (item,) = done["taskResult"]["media"]
    assert (item["mimeType"], item["sizeBytes"]) == (media_type, len(content))


@every_provider
async def test_a_result_without_notification_is_found_by_asking(ai: Bench) -> None:
    task = await ai.generate()
    await ai.wait(60)
    assert (await ai.record(task)).status in {"pending", "processing"}
    ai.succeed(task)
    await ai.wait(150)
    done = await ai.query(task)
    assert done["status"] == "success"
    assert await ai.read(ai.urls(done)[0]) == FILES[ai.media_type][0]


async def test_a_synchronous_answer_is_stored_without_anybody_asking(ai_gemini: Bench) -> None:
    task = await ai_gemini.generate(model="gemini-3-pro-image", mediaType="image")
    assert (task["status"], task["taskInfo"]["status"]) == ("processing", "copying")
    await ai_gemini.gateway.parts.ai.persister.idle()
    done = await ai_gemini.query(task)
    assert done["status"] == "success"
    assert await ai_gemini.read(done["taskInfo"]["images"][0]["imageUrl"]) == PNG
    assert [call.method for call in ai_gemini.simulator.calls] == ["POST"]


@every_provider
async def test_references_reach_the_provider_as_urls_that_outlive_its_queue_and_are_never_stored(ai: Bench) -> None:
    asset = await ai.gateway.asset()
    ref = f"asset://{asset}"
    own_url = f"{ai.gateway.url}{await ai.gateway.sign(asset)}"
    options = {"images": [ref, own_url], "deep": {"image_url": f"/api/storage/assets/{asset}"}}
    task = await ai.generate(options=options)
    assert task["options"] == {"images": [ref, ref], "deep": {"image_url": ref}}
    assert "token=" not in json.dumps((await ai.record(task)).options)
    sent = json.dumps(ai.job(task).body)
    urls = re.findall(rf"{ai.gateway.url}/api/storage/assets/[^\"]+", sent)
    assert urls
    assert ref not in sent
    ai.gateway.clock.move(23 * 3600)
    assert await ai.read(urls[0]) == GATEWAY_PNG


@pytest.mark.parametrize("theirs", ["another", "missing", "expired"])
async def test_a_reference_that_is_not_theirs_refuses_the_request_before_the_provider_is_called(
    ai: Bench, theirs: str
) -> None:
    asset = await ai.gateway.asset(headers=user_headers("u_2")) if theirs == "another" else "3f0d8f5a-0b1e-4c55-9a53"
    if theirs == "expired":
        guest = await ai.gateway.upload(("purpose", "reference_image"), ("files", "a.png", GATEWAY_PNG))
        asset = (await guest.json())["data"]["assetId"]
        ai.gateway.clock.move(90_000)
    body = ai.body(options={"image": "https://elsewhere.example/x.png", "input": [{"image_url": f"asset://{asset}"}]})
    status, problem = await ai.post(GENERATE, body)
    assert status == 422
    assert problem["fields"] == {"/options/input/0/image_url": "not_found"}
    assert ai.simulator.calls == []
    _, listed = await ai.listed()
    assert listed["tasks"] == []


async def test_the_same_idempotency_key_is_the_same_task(ai: Bench) -> None:
    headers = user_headers() | {"Idempotency-Key": "k-1"}
    first, *others = await asyncio.gather(*(ai.generate(headers) for _ in range(10)))
    assert {task["id"] for task in others} == {first["id"]}
    assert len(ai.simulator.jobs) == 1
    other = await ai.generate(user_headers("u_2") | {"Idempotency-Key": "k-1"})
    assert other["id"] != first["id"]
    status, problem = await ai.post(GENERATE, ai.body(prompt="another"), headers)
    assert (status, list(problem["fields"])) == (422, ["Idempotency-Key"])


async def test_a_task_is_its_owners_alone(ai: Bench) -> None:
    task = await ai.generate()
    stranger, unsigned = user_headers("u_2"), {"X-Nobody": "1"}
    assert (await ai.post(QUERY, {"taskId": task["id"]}, stranger))[0] == 404
    assert (await ai.post(QUERY, {"taskId": "nothing-of-the-kind"}))[0] == 404
    assert (await ai.post(QUERY, {"taskId": task["id"]}, unsigned))[0] == 401
    assert (await ai.post(GENERATE, ai.body(), unsigned))[0] == 401
    assert (await ai.post(GENERATE, ai.body(userId="u_2")))[0] == 403
    assert (await ai.listed(stranger))[1]["tasks"] == []
    assert [entry["id"] for entry in (await ai.listed())[1]["tasks"]] == [task["id"]]


async def test_a_service_acts_for_the_user_that_it_names(ai: Bench) -> None:
    service = service_headers("tasks")
    asset = await ai.gateway.asset(headers=user_headers("u_7"))
    task = await ai.generate(service, userId="u_7", options={"image": f"asset://{asset}"})
    assert task["userId"] == "u_7"
    assert (await ai.post(QUERY, {"taskId": task["id"], "userId": "u_7"}, service))[0] == 200
    assert (await ai.post(QUERY, {"taskId": task["id"], "userId": "u_8"}, service))[0] == 404
    assert (await ai.post(QUERY, {"taskId": task["id"]}, service))[0] == 422
    assert (await ai.post(GENERATE, ai.body(userId="u_7"), service_headers("sign")))[0] == 403
    theirs = ai.body(userId="u_8", options={"image": f"asset://{asset}"})
    assert (await ai.post(GENERATE, theirs, service))[0] == 422, "the user's rights count, not the service's"


async def test_tasks_are_listed_newest_first_page_by_page(ai: Bench) -> None:
    made = []
    for number in range(5):
        ai.gateway.clock.move(1)
        made.append((await ai.generate(prompt=str(number)))["id"])
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        _, page = await ai.listed(query=f"?limit=2{cursor and '&cursor=' + cursor}")
        found += [task["id"] for task in page["tasks"]]
        cursor = page["cursor"]
    assert found == made[::-1]
    for query in ("?limit=0", "?limit=101", "?limit=x"):
        assert (await ai.listed(query=query))[0] == 422
    assert (await ai.listed(query="?cursor=!!"))[0] == 400


async def test_a_finished_task_is_never_asked_for_again_and_its_references_stay(ai: Bench) -> None:
    task = await ai.generate()
    ai.succeed(task)
    await ai.deliver(task)
    await ai.work()
    done, calls = await ai.query(task), len(ai.simulator.calls)
    ai.simulator.succeed(ai.job(task).id, File(PNG + b"another"))
    ai.gateway.clock.move(200)
    await ai.simulator.deliver(ai.job(task).id)
    await ai.work()
    again = await ai.query(task)
    assert (await ai.record(task)).task_info == (await ai.record(done)).task_info
    assert [entry["id"] for entry in ai.media(again)] == [entry["id"] for entry in ai.media(done)]
    assert len(ai.simulator.calls) == calls
    assert len(await ai.copies(task)) == 1


async def test_queries_within_a_second_are_one_question(ai: Bench) -> None:
    task = await ai.generate()
    await asyncio.gather(*(ai.query(task) for _ in range(20)))
    await ai.query(task)
    assert len(ai.simulator.calls) == 2, "to begin, and to ask once"
    ai.gateway.clock.move(2)
    await ai.query(task)
    assert len(ai.simulator.calls) == 3


async def test_a_query_carries_the_users_id_to_the_providers_adapter(
    ai: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    task = await ai.generate(user_headers("u_42"))
    ai.simulator.scripted.append((500, {}, {}))
    await ai.query(task, user_headers("u_42"))
    assert [record.user_id for record in caplog.records if hasattr(record, "user_id")] == ["u_42"]


@pytest.mark.parametrize(
    ("status", "answer", "expected", "code"),
    [
        (422, {"detail": "the prompt is too long"}, 200, "provider_refused"),
        (401, {"detail": "bad token"}, 503, "provider_key_refused"),
        (429, {"detail": "slow down"}, 503, "provider_rate_limited"),
        (503, {"detail": "busy"}, 503, "provider_unavailable"),
    ],
)
async def test_a_creation_that_is_refused_ends_the_task(
    ai: Bench, status: int, answer: object, expected: int, code: str
) -> None:
    ai.simulator.scripted.append((status, answer, {"Retry-After": "7"}))
    headers = user_headers() | {"Idempotency-Key": "k-1"}
    assert (await ai.post(GENERATE, ai.body(), headers))[0] == expected
    (task,) = (await ai.listed())[1]["tasks"]
    assert (task["status"], task["errorCode"]) == ("failed", code)
    again = await ai.generate(headers)
    assert again["status"] == ("failed" if expected == 200 else "pending"), "what may pass can be sent again"


async def test_what_may_have_begun_is_not_begun_again_and_a_notification_names_it(ai: Bench) -> None:
    """The provider begins the job, and its answer is lost on the way."""
    ai.simulator.scripted.append((502, "<html>", {}))
    task = await ai.generate()
    assert task["status"] == "pending"
    assert task["providerTaskId"] is None
    callback = ai.simulator.calls[0].body["webhook"]
    job = ai.simulator.new_job(ai.model, ai.simulator.calls[0].body, callback)
    ai.simulator.succeed(job.id)
    assert await ai.simulator.deliver(job.id) == [200]
    await ai.work()
    done = await ai.query(task)
    assert (done["status"], done["providerTaskId"]) == ("success", job.id)


async def test_of_a_creation_nobody_hears_of_again_the_owner_is_told_after_the_grace(ai: Bench) -> None:
    ai.simulator.scripted.append((502, "<html>", {}))
    task = await ai.generate()
    await ai.wait(14 * 60)
    assert (await ai.query(task))["status"] == "pending"
    await ai.wait(2 * 60)
    assert (await ai.query(task))["errorCode"] == "creation_interrupted"


async def is_named(ai: Bench, task: dict[str, Any]) -> bool:
    return (await ai.record(task)).provider_task_id is not None


async def test_a_slow_creation_goes_on_when_its_client_has_left(ai: Bench) -> None:
    released = asyncio.Event()
    ai.simulator.hold_creation(released)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ai.generate(), 0.2)
    released.set()
    (task,) = (await ai.listed())[1]["tasks"]
    await until(lambda: is_named(ai, task))
    assert list(ai.simulator.jobs) == [(await ai.record(task)).provider_task_id]


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": "nobody"},
        {"provider": "fal"},
        {"model": ""},
        {"mediaType": "smell"},
        {"mediaType": None},
        {"prompt": 7},
        {"prompt": "a\0b"},
        {"prompt": "x" * 100_001},
        {"options": []},
        {"surprise": 1},
        {"userId": ""},
    ],
)
async def test_a_malformed_request_costs_nothing(ai: Bench, changes: dict[str, object]) -> None:
    assert (await ai.post(GENERATE, {**ai.body(), **changes}))[0] == 422
    assert ai.simulator.calls == []


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
async def test_an_idempotency_key_is_visible_ascii(ai: Bench, key: str) -> None:
    assert (await ai.post(GENERATE, ai.body(), user_headers() | {"Idempotency-Key": key}))[0] == 400


async def test_thumbnails_and_covers_are_items_too() -> None:
    async with bench("kie") as ai:
        task = await ai.generate(model="V4", mediaType="music")
        job = ai.simulator.jobs[task["providerTaskId"]]
        ai.simulator.succeed(job.id, File(MP3, "audio/mpeg"))
        ai.simulator.publish(f"{job.id}-0.jpeg", File())
        await ai.simulator.deliver(job.id)
        await ai.work()
        done = await ai.query(task)
        (song,) = done["taskInfo"]["songs"]
        assert (await ai.read(song["audioUrl"]), await ai.read(song["imageUrl"])) == (MP3, PNG)
        assert song["title"] == "Iron Man"
        assert sorted(item["role"] for item in done["taskResult"]["media"]) == ["cover", "song"]


async def test_no_answer_tells_where_a_provider_keeps_its_files(ai: Bench) -> None:
    task = await ai.generate()
    ai.succeed(task)
    (url,) = ai.job(task).urls
    seen = [await ai.query(task)]
    await ai.work()
    seen += [await ai.query(task), (await ai.listed())[1]]
    assert url not in json.dumps(seen)
    assert (await ai.copies(task))[0].url is None, "once it is stored nobody needs it"
