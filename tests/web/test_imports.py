"""Imports over HTTP: a reference at once, the bytes as soon as they can be had, once however often it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.ai import MP4, Bench, bench
from tests.support.gateway import running, service_headers, user_headers
from tests.support.providers.media import PNG, File

PATH = "/api/storage/assets/import"
UPLOAD = service_headers("upload")


@pytest.fixture
async def ai() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


def body(address: str, **fields: Any) -> dict[str, Any]:
    return {"url": address, "purpose": "generated_image", "owner": "user:u_1", **fields}


async def test_a_reference_is_answered_at_once_and_good_when_the_bytes_are_there(ai: Bench) -> None:
    url = ai.simulator.publish("picture", File())
    status, taken = await ai.post(PATH, body(url), UPLOAD)
    assert (status, taken["state"]) == (202, "waiting")
    info = f"{taken['previewUrl']}/info"
    assert (await ai.gateway.client.get(info, headers=user_headers())).status == 404
    await ai.work()
    async with ai.gateway.client.get(info, headers=user_headers()) as response:
        told = (await response.json())["data"]
    assert (told["assetRef"], told["source"], told["purpose"]) == (taken["assetRef"], "provider", "generated_image")
    assert (told["mimeType"], told["sizeBytes"], told["visibility"]) == ("image/png", len(PNG), "private")
    async with ai.gateway.client.get(taken["previewUrl"], headers=user_headers()) as response:
        assert await response.read() == PNG
    assert (await ai.gateway.client.get(taken["previewUrl"], headers=user_headers("u_2"))).status == 404


async def test_the_same_task_and_url_are_one_import_that_tells_how_it_went(ai: Bench) -> None:
    file = File()
    url = ai.simulator.publish("picture", file)
    answers = await asyncio.gather(*(ai.post(PATH, body(url, task="t-1"), UPLOAD) for _ in range(10)))
    assert {(status, taken["assetRef"]) for status, taken in answers} == {(202, answers[0][1]["assetRef"])}
    await ai.work()
    _, again = await ai.post(PATH, body(url, task="t-1"), UPLOAD)
    assert (again["state"], again["assetRef"], file.served) == ("stored", answers[0][1]["assetRef"], 1)
    for other in (body(url, task="t-2"), body(url + "?2", task="t-1"), body(url)):
        assert (await ai.post(PATH, other, UPLOAD))[1]["assetRef"] != again["assetRef"]


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (File(behaviour="not_found"), "not_found"),
        (File(behaviour="html"), "not_media"),
        (File(MP4, "video/mp4"), "not_media"),
        (File(b""), "empty"),
    ],
)
async def test_an_import_that_fails_says_why_and_its_owner_finds_it_gone(ai: Bench, file: File, reason: str) -> None:
    url = ai.simulator.publish("picture", file)
    _, taken = await ai.post(PATH, body(url, task="t-1"), UPLOAD)
    await ai.wait(600)
    _, told = await ai.post(PATH, body(url, task="t-1"), UPLOAD)
    assert (told["state"], told["reason"]) == ("failed", reason)
    assert (await ai.gateway.client.get(taken["previewUrl"], headers=user_headers())).status == 410
    assert await ai.gateway.objects() == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"url": "ftp://files.example/x"}, 422),
        ({"url": "file:///etc/passwd"}, 422),
        ({"url": "https://user:secret@files.example/x"}, 422),
        ({"url": "https://files.example:22/x"}, 422),
        ({"url": "no url"}, 422),
        ({"url": ""}, 422),
        ({"purpose": "nothing"}, 422),
        ({"owner": "guest:abc"}, 422),
        ({"owner": "u_1"}, 422),
        ({"visibility": "secret"}, 422),
        ({"task": ""}, 422),
        ({"headers": {"Cookie": "x"}}, 422),
    ],
)
async def test_what_cannot_be_imported_is_refused_at_once(ai: Bench, fields: dict[str, Any], status: int) -> None:
    assert (await ai.post(PATH, body("https://files.example/x.png", **fields), UPLOAD))[0] == status


async def test_only_a_service_that_may_upload_imports(ai: Bench) -> None:
    wanted = body("https://files.example/x.png")
    assert (await ai.post(PATH, wanted, user_headers()))[0] == 403
    assert (await ai.post(PATH, wanted, service_headers("read")))[0] == 403
    assert (await ai.post(PATH, wanted, {"X-Nobody": "1"}))[0] == 401


async def test_the_guard_against_private_addresses_is_on() -> None:
    async with running({"fetch.allow_http": True}) as gateway:
        async with gateway.client.post(
            PATH, json=body("http://127.0.0.1:8080/x.png", task="t-1"), headers=UPLOAD
        ) as response:
            assert response.status == 202
        await gateway.parts.ai.persister.work()
        async with gateway.client.post(
            PATH, json=body("http://127.0.0.1:8080/x.png", task="t-1"), headers=UPLOAD
        ) as response:
            told = (await response.json())["data"]
        assert (told["state"], told["reason"]) == ("failed", "address_not_allowed")
