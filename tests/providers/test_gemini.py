"""Gemini: pictures inside the answer, files behind the key, refusals that come as 200."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from gateway.errors import CredentialInvalid
from gateway.providers import GenerateRequest, Handle, Job, JobNotFound
from gateway.providers.gemini import STATUSES, Gemini
from tests.support.providers.gemini import GeminiSimulator
from tests.support.providers.media import PNG, File
from tests.support.providers.opened import NOW, VECTORS, body_of, opened, standard_headers_of
from tests.support.providers.signing import SECRET, standard_headers

IMAGE = "gemini-3.1-flash-image"
HANDLE = Handle("v1_abc", "u_1", "gemini-omni-1.1-flash", "video", {})


@pytest.fixture
async def simulator() -> AsyncIterator[GeminiSimulator]:
    async with GeminiSimulator(lambda: NOW) as started:
        yield started


@pytest.fixture
async def provider(simulator: GeminiSimulator) -> AsyncIterator[Gemini]:
    async with ClientSession() as session:
        yield Gemini(simulator.settings(), lambda: NOW, session)


def asked(**options: Any) -> GenerateRequest:
    return GenerateRequest(IMAGE, "a llama", "image", options, None, "k_1")


async def answered(provider: Gemini, simulator: GeminiSimulator, **interaction: Any) -> Job:
    simulator.scripted.append((200, {"id": "v1_abc", "status": "completed", **interaction}, {}))
    return await provider.query(HANDLE)


async def test_a_picture_comes_with_the_answer_and_drafts_are_left_out(
    provider: Gemini, simulator: GeminiSimulator
) -> None:
    job = await provider.create(asked(aspect_ratio="16:9", image_urls=["https://gw.example/a?token=t"]))
    assert [(item.role, item.ordinal, item.inline) for item in job.media] == [("image", 0, PNG)]
    sent = simulator.calls[0].body
    assert sent["generationConfig"]["imageConfig"] == {"aspectRatio": "16:9"}
    assert {"fileData": {"fileUri": "https://gw.example/a?token=t"}} in sent["contents"][0]["parts"]
    with pytest.raises(JobNotFound):
        await provider.query(Handle(job.provider_task_id, "u_1", IMAGE, "image", {}))
    assert "inline" not in repr(job)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, "gemini_prohibited_content"),
        ({"candidates": [{"finishReason": "IMAGE_SAFETY", "finishMessage": "no"}]}, "gemini_image_safety"),
        ({"candidates": [{"finishReason": "NO_IMAGE"}]}, "gemini_no_image"),
        ({"candidates": [{"content": {"parts": [{"text": "I cannot"}]}, "finishReason": "STOP"}]}, "no_media"),
        ({"candidates": [{"content": {"parts": [{"inlineData": {"data": "%%%"}}]}}]}, "no_media"),
        ({"candidates": "nonsense", "x": 1}, "no_media"),
    ],
)
async def test_a_refusal_that_comes_as_200_is_a_failure(
    provider: Gemini, simulator: GeminiSimulator, answer: dict[str, Any], code: str
) -> None:
    simulator.generated = answer
    job = await provider.create(asked())
    assert (job.status, job.error_code) == ("failed", code)


async def test_snake_case_is_read_as_well(provider: Gemini, simulator: GeminiSimulator) -> None:
    part = {"inline_data": {"mime_type": "image/png", "data": base64.b64encode(PNG).decode()}}
    simulator.generated = {"candidates": [{"content": {"parts": [part, part]}}]}
    assert [item.ordinal for item in (await provider.create(asked())).media] == [0, 1]


@pytest.mark.parametrize("word", [*STATUSES, "reticulating", None])
async def test_every_status_has_a_word_of_ours(provider: Gemini, simulator: GeminiSimulator, word: Any) -> None:
    steps = [{"type": "model_output", "content": [{"type": "video", "uri": "https://a.example/"}]}]
    assert (await answered(provider, simulator, status=word, steps=steps)).status == STATUSES.get(word, "processing")


async def test_only_what_follows_the_last_request_counts(provider: Gemini, simulator: GeminiSimulator) -> None:
    def output(name: str) -> dict[str, Any]:
        return {"type": "model_output", "content": [{"type": "video", "uri": f"https://a.example/{name}"}]}

    found = await answered(provider, simulator, steps=[output("old"), {"type": "user_input"}, output("new")])
    assert [item.url for item in found.media] == ["https://a.example/new"]


async def test_output_fields_are_read_where_steps_are_missing(provider: Gemini, simulator: GeminiSimulator) -> None:
    found = await answered(provider, simulator, output_video={"uri": "https://a.example/v", "mime_type": "video/mp4"})
    assert [(item.role, item.media_type) for item in found.media] == [("video", "video/mp4")]


async def test_a_bucket_is_never_fetched(provider: Gemini, simulator: GeminiSimulator) -> None:
    steps = [{"type": "model_output", "content": [{"type": "video", "uri": "gs://bucket/a.mp4"}]}]
    assert (await answered(provider, simulator, steps=steps)).error_code == "no_media"


async def test_bare_samples_become_a_file_that_plays(provider: Gemini, simulator: GeminiSimulator) -> None:
    content = {
        "type": "audio",
        "mime_type": "audio/L16;codec=pcm;rate=24000",
        "data": base64.b64encode(b"1234").decode(),
    }
    found = await answered(provider, simulator, steps=[{"type": "model_output", "content": [content]}])
    sound = found.media[0].inline
    assert sound is not None
    assert (sound[:4], sound[8:12], sound[-4:], len(sound)) == (b"RIFF", b"WAVE", b"1234", 48)


@pytest.mark.parametrize(
    ("state", "expected"), [("ACTIVE", "success"), ("PROCESSING", "processing"), ("FAILED", "failed")]
)
async def test_a_file_is_asked_for_before_it_is_called_finished(
    provider: Gemini, simulator: GeminiSimulator, state: str, expected: str
) -> None:
    job = simulator.new_job("gemini-omni-1.1-flash", {}, None)
    simulator.succeed(job.id, File(b"a film", "video/mp4"))
    simulator.file_state = state
    found = await provider.query(Handle(job.id, "u_1", job.model, "video", {}))
    assert found.status == expected
    if expected == "success":
        assert found.retention_ends == int(NOW * 1000) + 7_200_000


async def test_the_key_goes_to_files_of_the_api_alone() -> None:
    async with ClientSession() as session:
        provider = opened("gemini", session)
        base = "https://generativelanguage.googleapis.com"
        for url in (f"{base}/v1beta/files/abc:download?alt=media", f"{base}/download/v1beta/files/abc:download"):
            assert provider.fetch_headers(url) == {"x-goog-api-key": "test-api-key-0001"}
        for url in (
            f"{base}/v1beta/models",
            f"{base}.evil.example/v1beta/files/abc:download",
            f"http{base.removeprefix('https')}/v1beta/files/abc",
            "https://generativelanguage.googleapis.com@evil.example/v1beta/files/abc",
            "https://evil.example/v1beta/files/abc",
            "not a url",
        ):
            assert provider.fetch_headers(url) == {}


@pytest.mark.parametrize(("name", "task"), [("GEM-C1", None), ("GEM-C2-oldkey", "v1_abc"), ("GEM-C2-newkey", "v1_abc")])
async def test_the_vectors_verify(name: str, task: str | None) -> None:
    vector = VECTORS[name]
    async with ClientSession() as session:
        provider = opened("gemini", session, webhook_secrets=[vector["secret"]])
        notification = await provider.verify(standard_headers_of(vector), body_of(vector), NOW)
    assert notification.provider_task_id == task, "video.generated belongs to Veo, which this API has no more"


@pytest.mark.parametrize("body", [b'{"type":"ping"}', b"{}", b"[]", b"", b"\xff", b'{"type":7,"data":[]}'])
async def test_an_event_of_no_interest_is_authentic_all_the_same(provider: Gemini, body: bytes) -> None:
    notification = await provider.verify(standard_headers("evt_1", NOW, body, SECRET), body, NOW)
    assert (notification.event_id, notification.provider_task_id) == ("evt_1", None)


@pytest.mark.parametrize(
    "token",
    [
        VECTORS["GEM-C3"]["webhook_signature"],
        "eyJhbGciOiJub25lIn0.eyJkYXRhIjp7ImlkIjoidjFfYWJjIn19.",
        "eyJhbGciOiJIUzI1NiJ9.eyJkYXRhIjp7ImlkIjoidjFfYWJjIn19.c2ln",
    ],
)
async def test_a_token_is_no_signature_of_a_static_hook(provider: Gemini, token: str) -> None:
    headers = standard_headers("evt_1", NOW, b"{}") | {"webhook-signature": token}
    for sent in (headers, {"Webhook-Signature": token}):
        with pytest.raises(CredentialInvalid):
            await provider.verify(sent, b"{}", NOW)
