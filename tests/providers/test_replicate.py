"""Replicate: what its predictions may hold, and who is given its token."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from gateway.providers import GenerateRequest, Handle, Job
from gateway.providers.replicate import STATUSES, Replicate
from tests.support.providers.media import PNG
from tests.support.providers.opened import NOW, VECTORS, body_of, opened, standard_headers_of
from tests.support.providers.replicate import ReplicateSimulator

MODEL = "black-forest-labs/flux-schnell"
HANDLE = Handle("p_1", "u_1", MODEL, "image", {})
OUT = "https://replicate.delivery/xezq/abc/out-0.webp"


@pytest.fixture
async def simulator() -> AsyncIterator[ReplicateSimulator]:
    async with ReplicateSimulator(lambda: NOW) as started:
        yield started


@pytest.fixture
async def provider(simulator: ReplicateSimulator) -> AsyncIterator[Replicate]:
    async with ClientSession() as session:
        yield Replicate(simulator.settings(result_hosts=None), lambda: NOW, session)


async def answered(provider: Replicate, simulator: ReplicateSimulator, **prediction: Any) -> Job:
    simulator.scripted.append((200, {"id": "p_1", "status": "succeeded", **prediction}, {}))
    return await provider.query(HANDLE)


async def test_the_vector_names_its_prediction() -> None:
    vector = VECTORS["REP-C1"]
    async with ClientSession() as session:
        provider = opened("replicate", session, webhook_secrets=["whsec_" + "A" * 32, vector["secret"]])
        notification = await provider.verify(standard_headers_of(vector), body_of(vector), NOW)
    assert notification.provider_task_id == "gm3qorzdhgbfurvjtvhg6dckhu"
    assert (notification.event_id, notification.hint) == ("msg_test_replicate_0001", "success")


async def test_an_empty_body_that_is_signed_concerns_no_task() -> None:
    vector = VECTORS["SW-C-EMPTY"]
    async with ClientSession() as session:
        provider = opened("replicate", session, webhook_secrets=[vector["secret"]])
        notification = await provider.verify(standard_headers_of(vector), b"", NOW)
    assert notification.provider_task_id is None


@pytest.mark.parametrize("word", [*STATUSES, "paused", "", None, 7])
async def test_every_status_has_a_word_of_ours(provider: Replicate, simulator: ReplicateSimulator, word: Any) -> None:
    found = await answered(provider, simulator, status=word, output=OUT)
    assert found.status == (STATUSES.get(word, "processing") if isinstance(word, str) else "processing")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (OUT, [("image", 0, OUT)]),
        ([OUT, OUT + "?2"], [("image", 0, OUT), ("image", 1, OUT + "?2")]),
        ([OUT, OUT], [("image", 0, OUT)]),
        ({"a": {"b": [OUT]}, "text": "see https://replicate.com"}, [("image", 0, OUT)]),
        ({"file": OUT, "licence": "https://example.com/licence"}, [("image", 0, OUT)]),
        (["https://elsewhere.example/a.png"], [("image", 0, "https://elsewhere.example/a.png")]),
        ({"video": OUT[:-5] + ".mp4", "thumbnail": OUT}, [("video", 0, OUT[:-5] + ".mp4"), ("thumbnail", 0, OUT)]),
        (["https://x.replicate.delivery/a.png", "https://replicate.delivery.evil.example/a.png"], "first"),
    ],
)
async def test_media_are_found_wherever_the_schema_puts_them(
    provider: Replicate, simulator: ReplicateSimulator, output: Any, expected: Any
) -> None:
    found = await answered(provider, simulator, output=output)
    if expected == "first":
        expected = [("image", 0, output[0])]
    assert [(item.role, item.ordinal, item.url) for item in found.media] == expected


@pytest.mark.parametrize("output", [None, "", "just text", {}, [], [None, 1, True], {"a": {}}])
async def test_what_is_no_file_is_no_media(provider: Replicate, simulator: ReplicateSimulator, output: Any) -> None:
    assert (await answered(provider, simulator, output=output)).error_code == "no_media"


async def test_a_deep_output_is_walked_without_recursion(provider: Replicate, simulator: ReplicateSimulator) -> None:
    output: Any = OUT
    for _ in range(900):
        output = [output]
    assert (await answered(provider, simulator, output=output)).media[0].url == OUT


async def test_data_uris_are_decoded(provider: Replicate, simulator: ReplicateSimulator) -> None:
    uri = "data:image/png;base64," + base64.b64encode(PNG).decode()
    found = await answered(provider, simulator, output=[uri, "data:image/png;base64,§"])
    assert [(item.inline, item.media_type, item.url) for item in found.media] == [(PNG, "image/png", None)]


async def test_files_end_an_hour_after_completion(provider: Replicate, simulator: ReplicateSimulator) -> None:
    found = await answered(provider, simulator, output=OUT, completed_at="2026-11-22T00:00:06.123456789Z")
    assert found.retention_ends == 1795305606123 + 3_600_000
    assert (await answered(provider, simulator, output=None, data_removed=True)).error_code == "retention_ended"


async def test_the_token_goes_to_no_stranger(provider: Replicate) -> None:
    assert provider.fetch_headers(OUT) == {}
    assert "Authorization" in provider.fetch_headers(OUT, refused=True)
    for url in ("https://evil.example/a", "https://replicate.delivery.evil.example/", "https://xreplicate.delivery/"):
        assert provider.fetch_headers(url, refused=True) == {}


async def test_without_a_secret_no_notification_is_asked_for(simulator: ReplicateSimulator) -> None:
    async with ClientSession() as session:
        closed = Replicate(simulator.settings(webhook_secrets=()), lambda: NOW, session)
        await closed.create(GenerateRequest(MODEL, "a llama", "image", {}, "https://gw.example/", "k"))
    assert "webhook" not in simulator.calls[0].body
