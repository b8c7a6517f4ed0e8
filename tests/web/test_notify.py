"""Notifications over HTTP: every vector, and every way of being wrong, which is 401 and never 500."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.ai import LOCAL, Bench, bench
from tests.support.gateway import Running, running
from tests.support.providers.fal import FalSimulator
from tests.support.providers.opened import NOW, VECTORS, body_of, standard_headers_of
from tests.support.providers.signing import SECRET, standard_headers

KEY = {"api_key": "test-api-key-0001"}
Sent = tuple[str, Mapping[str, str], bytes]  # provider, headers, body


def settings_of(name: str, jwks_url: str = "") -> tuple[str, dict[str, Any]]:
    """The provider that a vector is for, and its settings."""
    vector = VECTORS[name]
    if name.startswith("FAL"):
        return "fal", {**KEY, "user_id": vector["user_id"], "jwks_url": jwks_url}
    if name.startswith("KIE"):
        return "kie", {**KEY, "webhook_secrets": [vector["webhookHmacKey"]]}
    provider = "gemini" if name.startswith("GEM") else "replicate"
    return provider, {**KEY, "webhook_secrets": [vector["secret"]]}


def headers_of(name: str) -> dict[str, str]:
    vector = VECTORS[name]
    if name.startswith("FAL"):
        parts = {"Request-Id": "request_id", "User-Id": "user_id", "Timestamp": "timestamp"}
        headers = {f"X-Fal-Webhook-{part}": vector[field] for part, field in parts.items()}
        return {**headers, "X-Fal-Webhook-Signature": vector["signature_hex"]}
    if name.startswith("KIE"):
        return {"X-Webhook-Timestamp": vector["timestamp"], "X-Webhook-Signature": vector["signature"]}
    return standard_headers_of(vector)


def moment_of(name: str) -> float:
    return float(VECTORS[name].get("webhook_timestamp", NOW))


async def send(gateway: Running, provider: str, headers: Mapping[str, str], body: bytes) -> int:
    async with gateway.client.post(f"/api/ai/notify/{provider}", data=body, headers=headers) as response:
        assert "Traceback" not in await response.text()
        return response.status


SENDABLE = [name for name, vector in VECTORS.items() if "body" in vector and "signature" in json.dumps(list(vector))]
SIGNED = [name for name in SENDABLE if not name.startswith("GEM-C3")]


@pytest.mark.parametrize("name", SIGNED)
async def test_every_vector_is_accepted_once_and_its_replay_changes_nothing(name: str) -> None:
    async with FalSimulator(lambda: NOW) as fal:
        provider, settings = settings_of(name, f"{fal.origin}/.well-known/jwks.json")
        async with running({**LOCAL, f"providers.{provider}": settings}) as gateway:
            gateway.clock.now = moment_of(name)
            for _ in range(2):
                assert await send(gateway, provider, headers_of(name), body_of(VECTORS[name])) == 200
            counted = gateway.parts.metrics.exposition().decode()
    assert f'assetgate_notifications_total{{outcome="accepted",provider="{provider}"}} 1.0' in counted
    assert f'assetgate_notifications_total{{outcome="replayed",provider="{provider}"}} 1.0' in counted


def wrong() -> Iterator[tuple[str, Sent]]:
    """Everything that must not pass, by the vector that it is made of."""
    for name in SIGNED:
        provider, _ = settings_of(name)
        good, body = headers_of(name), body_of(VECTORS[name])
        stamp = next(key for key in good if key.lower().endswith("timestamp"))
        sign = next(key for key in good if key.lower().endswith("signature"))
        bodies = [] if provider == "kie" else [body + b"\n", body[:-1] + b" ", b"\xff" + body]
        bodies += [b"7", b"[]", b"null", b'{"data":null}', b"[" * 50_000, b"\xff\xfe"]
        yield from ((name, (provider, good, changed)) for changed in bodies if changed != body)
        stamps = ["nan", "1e400", f"{good[stamp]}.9", "-1", "", f"0{good[stamp]}", str(int(good[stamp]) + 1)]
        yield from ((name, (provider, {**good, stamp: value}, body)) for value in stamps)
        signatures = ["garbage", "v1,abc", "v1,aa,bb", "", "v1," * 2000, good[sign][:-3], good[sign] + "00"]
        signatures += [good[sign].replace("v1,", "v1a,") + "x", good[sign].replace("v1,", "v2,") + "x"]
        signatures += ["eyJhbGciOiJub25lIn0.eyJkYXRhIjp7fX0.", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"]
        yield from ((name, (provider, {**good, sign: value}, body)) for value in signatures)
        yield from ((name, (provider, {k: v for k, v in good.items() if k != gone}, body)) for gone in good)
        identity = [key for key in good if key.lower().endswith(("-id", "user-id"))]
        yield from ((name, (provider, {**good, key: "another"}, body)) for key in identity)


@pytest.mark.parametrize("name", SIGNED)
async def test_whatever_is_wrong_is_401(name: str) -> None:
    cases = [sent for vector, sent in wrong() if vector == name]
    assert len(cases) > 20
    async with FalSimulator(lambda: NOW) as fal:
        provider, settings = settings_of(name, f"{fal.origin}/.well-known/jwks.json")
        async with running({**LOCAL, f"providers.{provider}": settings}) as gateway:
            gateway.clock.now = moment_of(name)
            answers = [(await send(gateway, *case), case) for case in cases]
    assert [(status, case) for status, case in answers if status != 401] == []


@pytest.mark.parametrize(("off", "expected"), [(299, 200), (-299, 200), (301, 401), (-301, 401)])
@pytest.mark.parametrize("name", ["REP-C1", "GEM-C2-newkey", "FAL-C1", "KIE-C1"])
async def test_a_timestamp_is_good_for_five_minutes(name: str, off: int, expected: int) -> None:
    async with FalSimulator(lambda: NOW) as fal:
        provider, settings = settings_of(name, f"{fal.origin}/.well-known/jwks.json")
        async with running({**LOCAL, f"providers.{provider}": settings}) as gateway:
            gateway.clock.now = moment_of(name) + off
            assert await send(gateway, provider, headers_of(name), body_of(VECTORS[name])) == expected


@pytest.mark.parametrize("provider", ["replicate", "kie", "gemini", "fal", "nobody", "gemini%2F..", "x" * 3000])
async def test_a_provider_without_a_secret_has_no_route(provider: str) -> None:
    settings = {f"providers.{name}": KEY for name in ("replicate", "kie", "gemini", "fal")}
    async with running(settings) as gateway:
        assert await send(gateway, provider, standard_headers("msg_1", gateway.clock(), b"{}"), b"{}") == 404


async def test_keys_that_cannot_be_fetched_ask_the_provider_to_come_again() -> None:
    async with FalSimulator(lambda: NOW) as fal:
        fal.jwks_status = 500
        _, settings = settings_of("FAL-C1", f"{fal.origin}/.well-known/jwks.json")
        async with running({**LOCAL, "providers.fal": settings}) as gateway:
            gateway.clock.now = NOW
            assert await send(gateway, "fal", headers_of("FAL-C1"), body_of(VECTORS["FAL-C1"])) == 503


async def test_a_body_beyond_the_limit_is_not_read() -> None:
    settings = {"providers.replicate": {**KEY, "webhook_secrets": [SECRET]}, "tasks.max_notification_bytes": "1 KiB"}
    async with running(settings) as gateway:
        body = b"x" * 1025

        async def chunks() -> Any:
            for _ in range(1025):
                yield b"x"

        headers = standard_headers("msg_1", gateway.clock(), body)
        assert await send(gateway, "replicate", headers, body) == 413
        async with gateway.client.post("/api/ai/notify/replicate", data=chunks(), headers=headers) as response:
            assert response.status == 413
        body = body[:1024]
        assert await send(gateway, "replicate", standard_headers("msg_1", gateway.clock(), body), body) == 200


async def test_records_that_are_away_are_5xx_so_that_the_provider_tries_again() -> None:
    async with bench() as ai:
        task = await ai.generate()
        ai.succeed(task)
        await ai.gateway.parts.metadata.close()
        assert await ai.deliver(task) == [503]


async def test_what_a_notification_claims_is_not_believed() -> None:
    """Kie signs no body: a forged one names the task, and its own URLs are never looked at."""
    async with bench("kie") as ai:
        task = await ai.generate()
        headers, body = ai.simulator.signed(ai.job(task).id)
        forged = json.loads(body)
        forged["data"]["resultJson"] = json.dumps({"resultUrls": ["https://evil.example/x.png"]})
        forged["data"]["state"] = "success"
        assert await send(ai.gateway, "kie", headers, json.dumps(forged).encode()) == 200
        await ai.work()
        assert (await ai.record(task)).status == "pending"
        assert await ai.copies(task) == []


async def test_a_notification_of_a_task_that_nobody_knows_is_accepted_and_forgotten() -> None:
    async with bench() as ai:
        body = b'{"id":"nobody-knows-it","status":"succeeded"}'
        headers = standard_headers("msg_9", ai.gateway.clock(), body)
        assert await send(ai.gateway, "replicate", headers, body) == 200
        ai.gateway.clock.move(3 * 86400)
        assert await ai.gateway.parts.metadata.task_records.events.forget(int(ai.gateway.clock() * 1000)) == 1


async def test_a_replay_makes_nobody_ask(ai_calls: Bench) -> None:
    task = await ai_calls.generate()
    assert await ai_calls.deliver(task) == [200]
    await ai_calls.work()
    asked = len(ai_calls.simulator.calls)
    for _ in range(3):
        assert await ai_calls.deliver(task) == [200]
        await ai_calls.work()
    assert len(ai_calls.simulator.calls) == asked


@pytest.fixture
async def ai_calls() -> Any:
    async with bench() as made:
        yield made
