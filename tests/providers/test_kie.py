"""Kie: callbacks are hints, ids stand anywhere, a 200 may be an error."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import CannotStart, CredentialInvalid
from gateway.providers import Handle, JobNotFound, ProviderKeyRefused, ProviderRefused, ProviderUnavailable, Relinking
from gateway.providers.kie import Kie
from gateway.providers.kie_shapes import shape_of
from tests.support.providers.kie import HMAC_KEY, KieSimulator
from tests.support.providers.opened import NOW, VECTORS, body_of, opened

KIE = ["KIE-C1", "KIE-C2", "KIE-C3"]


@pytest.fixture
async def simulator() -> AsyncIterator[KieSimulator]:
    async with KieSimulator(lambda: NOW) as started:
        yield started


@pytest.fixture
async def provider(simulator: KieSimulator) -> AsyncIterator[Kie]:
    async with ClientSession() as session:
        yield Kie(simulator.settings(), lambda: NOW, session)


def headers_of(name: str) -> dict[str, str]:
    vector = VECTORS[name]
    return {"X-Webhook-Timestamp": vector["timestamp"], "X-Webhook-Signature": vector["signature"]}


@pytest.mark.parametrize(("name", "hint"), [*zip(KIE, ["success", "success", "failed"], strict=True)])
async def test_the_vectors_verify_wherever_the_id_stands(provider: Kie, name: str, hint: str) -> None:
    notification = await provider.verify(headers_of(name), body_of(VECTORS[name]), NOW)
    assert (notification.provider_task_id, notification.hint) == (VECTORS[name]["task_id"], hint)


async def test_an_altered_body_verifies_and_yields_nothing_but_the_id(provider: Kie, simulator: KieSimulator) -> None:
    body = body_of(VECTORS["KIE-C1"]).replace(b"tempfile.aiquickdraw.com", b"evil.example")
    notification = await provider.verify(headers_of("KIE-C1"), body, NOW)
    assert "evil" not in repr(notification)
    job = simulator.new_job("google/nano-banana", {}, None)
    handle = Handle(job.id, "u_1", job.model, "image", {})
    assert (await provider.query(handle)).status == "pending", "the answer to a query counts, not the callback"


async def test_a_replayed_signature_makes_no_second_event(provider: Kie) -> None:
    event = json.loads(VECTORS["KIE-C1"]["body"])
    seen = {
        (await provider.verify(headers_of("KIE-C1"), json.dumps(changed).encode(), NOW)).event_id
        for changed in (event, event | {"code": 501}, event | {"data": {**event["data"], "state": "fail"}})
    }
    assert len(seen) == 1


async def test_several_keys_are_good_while_they_rotate() -> None:
    async with ClientSession() as session:
        provider = opened("kie", session, webhook_secrets=["the-key-that-comes-next", HMAC_KEY])
        assert await provider.verify(headers_of("KIE-C2"), body_of(VECTORS["KIE-C2"]), NOW)


TASK = VECTORS["KIE-C1"]["task_id"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"7",
        b"null",
        b"\xff",
        b"{}",
        b'{"data":null}',
        b'{"data":[]}',
        b'{"data":{"taskId":7}}',
        b'{"data":{"taskId":""}}',
        b'{"data":{"taskId":"another"}}',
        b"[" * 100_000,
    ],
)
async def test_a_body_without_the_signed_id_is_refused(provider: Kie, body: bytes) -> None:
    with pytest.raises(CredentialInvalid):
        await provider.verify(headers_of("KIE-C1"), body, NOW)


@pytest.mark.parametrize("signed", ["one", "other"])
@pytest.mark.parametrize(
    "event",
    [{"data": {"taskId": "one"}, "taskId": "other"}, {"data": {"taskId": "one", "task_id": "other"}}],
)
async def test_of_two_ids_that_differ_neither_is_believed(
    provider: Kie, simulator: KieSimulator, event: dict[str, Any], signed: str
) -> None:
    with pytest.raises(CredentialInvalid):
        await provider.verify(simulator.headers(signed, str(int(NOW))), json.dumps(event).encode(), NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "taskId", "task_id"]), inner),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(event=JSON, signature=st.text(max_size=50))
async def test_no_stranger_causes_another_error(provider: Kie, event: Any, signature: str) -> None:
    headers = headers_of("KIE-C1") | {"X-Webhook-Signature": signature}
    with pytest.raises(CredentialInvalid):
        await provider.verify(headers, json.dumps(event).encode(), NOW)


async def test_a_secret_that_is_no_secret_does_not_start() -> None:
    async with ClientSession() as session:
        with pytest.raises(CannotStart, match=r"providers\.kie\.webhook_secrets"):
            opened("kie", session, webhook_secrets=[""])


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("google/nano-banana", "jobs"),
        ("V4_5PLUS", "suno"),
        ("V4", "suno"),
        ("veo3", "veo"),
        ("veo3_fast", "veo"),
        ("gpt4o-image", "4o-image"),
        ("flux-kontext-max", "flux-kontext"),
        ("flux-2/pro-text-to-image", "jobs"),
        ("runway", "runway"),
        ("runway-aleph", "aleph"),
        ("", "jobs"),
    ],
)
def test_a_models_name_chooses_the_shape(model: str, name: str) -> None:
    assert shape_of(model).name == name


@pytest.mark.parametrize(
    ("model", "data", "expected"),
    [
        *[("x/y", {"state": word}, "pending") for word in ("waiting", "queuing")],
        *[("runway", {"state": word}, "pending") for word in ("wait", "queueing")],
        ("x/y", {"state": "generating", "progress": 45}, "processing"),
        ("x/y", {"state": "fail", "failCode": "400"}, "failed"),
        ("V4", {"status": "PENDING"}, "pending"),
        ("V4", {"status": "TEXT_SUCCESS"}, "processing"),
        ("V4", {"status": "FIRST_SUCCESS"}, "processing"),
        *[
            ("V4", {"status": word}, "failed")
            for word in ("CREATE_TASK_FAILED", "GENERATE_AUDIO_FAILED", "SENSITIVE_WORD_ERROR")
        ],
        ("V4", {"status": "CALLBACK_EXCEPTION"}, "processing"),
        (
            "V4",
            {"status": "CALLBACK_EXCEPTION", "response": {"sunoData": [{"audioUrl": "https://a.example/a.mp3"}]}},
            "success",
        ),
        ("veo3", {"successFlag": 0}, "processing"),
        ("veo3", {"successFlag": 2}, "failed"),
        ("veo3", {"successFlag": 3}, "failed"),
        ("4o-image", {"status": "GENERATING", "successFlag": 0}, "processing"),
        ("4o-image", {"status": "GENERATE_FAILED"}, "failed"),
        ("4o-image", {"successFlag": 2}, "failed"),
        ("aleph", {"successFlag": 0, "errorCode": 0}, "processing"),
        ("aleph", {"successFlag": 0, "errorCode": 400}, "failed"),
        ("aleph", {"successFlag": 0}, "processing"),
        ("x/y", {"taskId": "t"}, "processing"),
    ],
)
async def test_every_word_of_every_shape_is_ours(
    provider: Kie, simulator: KieSimulator, model: str, data: dict[str, Any], expected: str
) -> None:
    simulator.scripted.append((200, {"code": 200, "msg": "success", "data": data}, {}))
    assert (await provider.query(Handle("t", "u_1", model, "music", {}))).status == expected


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (401, "no", ProviderKeyRefused),
        (402, "no credit", ProviderKeyRefused),
        (433, "sub-key limit", ProviderKeyRefused),
        (404, "no", JobNotFound),
        (422, "recordInfo is null", JobNotFound),
        (429, "slow down", ProviderUnavailable),
        (455, "maintenance", ProviderUnavailable),
        (500, "oops", ProviderUnavailable),
        (505, "disabled", ProviderRefused),
    ],
)
async def test_an_error_inside_a_200_is_an_error(
    provider: Kie, simulator: KieSimulator, code: int, message: str, expected: type[Exception]
) -> None:
    simulator.scripted.append((200, {"code": code, "msg": message, "data": None}, {}))
    with pytest.raises(expected):
        await provider.query(Handle("t", "u_1", "x/y", "image", {}))


async def test_media_of_every_kind_are_named_apart(provider: Kie, simulator: KieSimulator) -> None:
    base = "https://tempfile.aiquickdraw.com"
    result = {"resultUrls": [f"{base}/a.mp4", f"{base}/b"], "firstFrameUrl": [f"{base}/f.png"], "lastFrameUrl": []}
    data = {"state": "success", "resultJson": json.dumps(result), "completeTime": 1698765432000}
    simulator.scripted.append((200, {"code": 200, "data": data}, {}))
    found = await provider.query(Handle("t", "u_1", "x/y", "video", {}))
    assert [(item.role, item.ordinal) for item in found.media] == [("video", 0), ("video", 1), ("thumbnail", 0)]
    assert found.retention_ends == 1698765432000 + 24 * 3_600_000


async def test_the_cover_of_a_song_bears_its_number(provider: Kie, simulator: KieSimulator) -> None:
    songs = [{"audioUrl": f"https://a.example/{n}.mp3", "imageUrl": "https://a.example/c", "title": n} for n in "ab"]
    data = {"status": "SUCCESS", "response": {"sunoData": songs}}
    simulator.scripted.append((200, {"code": 200, "data": data}, {}))
    found = await provider.query(Handle("t", "u_1", "V4", "music", {}))
    assert [(item.role, item.ordinal, item.details.get("title")) for item in found.media] == [
        ("song", 0, "a"),
        ("cover", 0, None),
        ("song", 1, "b"),
        ("cover", 1, None),
    ]


async def test_an_address_can_be_renewed_if_it_is_theirs(provider: Kie, simulator: KieSimulator) -> None:
    assert isinstance(provider, Relinking)
    assert (await provider.relink(f"{simulator.origin}/files/a")).url.endswith("?fresh=1")
    with pytest.raises(ProviderRefused):
        await provider.relink("https://evil.example/")
