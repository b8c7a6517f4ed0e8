"""fal: signatures with keys of a key server that comes and goes, and a queue whose COMPLETED is no success."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import CredentialInvalid, Unavailable
from gateway.providers import Handle, JobNotFound, ProviderUnavailable
from gateway.providers.fal import Fal
from tests.support.providers.fal import USER_ID, FalSimulator
from tests.support.providers.opened import NOW, VECTORS, body_of

FAL = ["FAL-C1", "FAL-C2"]
MODEL = "fal-ai/flux/dev"


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def simulator(clock: Clock) -> AsyncIterator[FalSimulator]:
    async with FalSimulator(clock) as started:
        yield started


@pytest.fixture
async def provider(simulator: FalSimulator, clock: Clock) -> AsyncIterator[Fal]:
    async with ClientSession() as session:
        yield Fal(simulator.settings(), clock, session)


def headers_of(name: str) -> dict[str, str]:
    vector = VECTORS[name]
    return {
        "X-Fal-Webhook-Request-Id": vector["request_id"],
        "X-Fal-Webhook-User-Id": vector["user_id"],
        "X-Fal-Webhook-Timestamp": vector["timestamp"],
        "X-Fal-Webhook-Signature": vector["signature_hex"],
    }


@pytest.mark.parametrize(("name", "hint"), [("FAL-C1", "success"), ("FAL-C2", "failed")])
async def test_the_vectors_verify(provider: Fal, name: str, hint: str) -> None:
    notification = await provider.verify(headers_of(name), body_of(VECTORS[name]), NOW)
    assert (notification.provider_task_id, notification.hint) == (VECTORS[name]["request_id"], hint)


async def test_hex_counts_in_either_case(provider: Fal) -> None:
    headers = headers_of("FAL-C1")
    headers["X-Fal-Webhook-Signature"] = headers["X-Fal-Webhook-Signature"].upper()
    assert await provider.verify(headers, body_of(VECTORS["FAL-C1"]), NOW)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Signature", VECTORS["FAL-C1"]["signature_hex"][:-2]),
        ("Signature", VECTORS["FAL-C1"]["signature_hex"][:-1]),
        ("Signature", VECTORS["FAL-C1"]["signature_hex"] + "00"),
        ("Signature", "g" * 128),
        ("Signature", VECTORS["FAL-C2"]["signature_hex"]),
        ("User-Id", "user_0002"),
        ("User-Id", ""),
        ("Request-Id", "another"),
        ("Request-Id", "two\nlines"),
        ("Timestamp", "1795305601"),
    ],
)
async def test_a_changed_header_is_refused(provider: Fal, header: str, value: str) -> None:
    with pytest.raises(CredentialInvalid):
        await provider.verify(
            headers_of("FAL-C1") | {f"X-Fal-Webhook-{header}": value}, body_of(VECTORS["FAL-C1"]), NOW
        )


async def test_another_customers_webhook_is_refused(provider: Fal, simulator: FalSimulator) -> None:
    body = body_of(VECTORS["FAL-C1"])
    with pytest.raises(CredentialInvalid):
        await provider.verify(simulator.headers("r_1", NOW, body, user_id="user_9999"), body, NOW)
    assert simulator.jwks_served == 0


async def test_the_signed_id_must_be_that_of_the_body(provider: Fal, simulator: FalSimulator) -> None:
    body = body_of(VECTORS["FAL-C1"])
    with pytest.raises(CredentialInvalid):
        await provider.verify(simulator.headers("another", NOW, body), body, NOW)


async def test_a_signed_body_that_is_no_json_concerns_no_task(provider: Fal, simulator: FalSimulator) -> None:
    for body in (b"\xff\xfe", b"[]", b""):
        assert (await provider.verify(simulator.headers("r_1", NOW, body), body, NOW)).provider_task_id is None


async def test_any_key_of_the_set_is_good(provider: Fal, simulator: FalSimulator) -> None:
    simulator.published = [Ed25519PrivateKey.generate(), simulator.signing_key]
    assert await provider.verify(headers_of("FAL-C1"), body_of(VECTORS["FAL-C1"]), NOW)


async def test_keys_survive_an_outage_for_a_day(provider: Fal, simulator: FalSimulator, clock: Clock) -> None:
    job = simulator.new_job(MODEL, {}, None)
    assert await provider.verify(*simulator.signed(job.id), clock.now)
    simulator.jwks_status = 500
    clock.now += 23 * 3600
    assert await provider.verify(*simulator.signed(job.id), clock.now)
    clock.now += 2 * 3600
    with pytest.raises(Unavailable) as raised:
        await provider.verify(*simulator.signed(job.id), clock.now)
    assert raised.value.status == 503
    simulator.jwks_status = 200
    clock.now += 60
    assert await provider.verify(*simulator.signed(job.id), clock.now)


async def test_without_any_keys_fal_is_asked_to_come_again(provider: Fal, simulator: FalSimulator) -> None:
    simulator.jwks_status = 500
    for _ in range(5):
        with pytest.raises(Unavailable):
            await provider.verify(headers_of("FAL-C1"), body_of(VECTORS["FAL-C1"]), NOW)
    assert simulator.jwks_served == 1


async def test_a_new_key_is_found_at_once_and_forgeries_fetch_seldom(
    provider: Fal, simulator: FalSimulator, clock: Clock
) -> None:
    job = simulator.new_job(MODEL, {}, None)
    await provider.verify(*simulator.signed(job.id), clock.now)
    clock.now += 301
    simulator.signing_key = Ed25519PrivateKey.generate()
    simulator.published.append(simulator.signing_key)
    assert await provider.verify(*simulator.signed(job.id), clock.now)
    assert simulator.jwks_served == 2
    simulator.signing_key = Ed25519PrivateKey.generate()
    for _ in range(10):
        with pytest.raises(CredentialInvalid):
            await provider.verify(*simulator.signed(job.id), clock.now)
    assert simulator.jwks_served == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(signature=st.binary(min_size=64, max_size=64), request_id=st.text(max_size=30), body=st.binary(max_size=100))
async def test_no_stranger_causes_another_error(provider: Fal, signature: bytes, request_id: str, body: bytes) -> None:
    headers = headers_of("FAL-C1") | {
        "X-Fal-Webhook-Request-Id": request_id,
        "X-Fal-Webhook-Signature": signature.hex(),
    }
    with pytest.raises(CredentialInvalid):
        await provider.verify(headers, body, NOW)


@pytest.mark.parametrize("name", FAL)
async def test_without_our_user_id_the_door_is_closed(simulator: FalSimulator, name: str) -> None:
    async with ClientSession() as session:
        closed = Fal(simulator.settings(user_id=None), lambda: NOW, session)
        assert not closed.accepts_notifications
        with pytest.raises(CredentialInvalid):
            await closed.verify(headers_of(name), body_of(VECTORS[name]), NOW)
    assert VECTORS[name]["user_id"] == USER_ID


@pytest.mark.parametrize(
    ("answers", "status", "code"),
    [
        ([{"status": "IN_QUEUE"}], "pending", None),
        ([{"status": "COMPLETED", "error": "late", "error_type": "request_timeout"}], "failed", "fal_request_timeout"),
        ([{"status": "COMPLETED", "error_type": "client_cancelled"}], "canceled", "canceled"),
        ([{"status": "COMPLETED"}, (422, {"detail": [{"msg": "field required"}]})], "failed", "fal_failed"),
        ([{"status": "COMPLETED"}, (503, {"detail": "x", "error_type": "runner_disconnected"})], "failed", None),
        ([{"status": "COMPLETED"}, {"image": {"url": "https://v3.fal.media/a"}}], "success", None),
        ([{"status": "COMPLETED"}, {"audio_url": "https://v3.fal.media/a.mp3"}], "success", None),
        ([{"status": "COMPLETED"}, {"text": "hello"}], "failed", "no_media"),
        ([{}], "processing", None),
    ],
)
async def test_completed_is_no_success_yet(
    provider: Fal, simulator: FalSimulator, answers: list[Any], status: str, code: str | None
) -> None:
    for answer in answers:
        simulator.scripted.append((*(answer if isinstance(answer, tuple) else (200, answer)), {}))
    found = await provider.query(Handle("r_1", "u_1", MODEL, "image", {}))
    assert found.status == status
    assert code is None or found.error_code == code


async def test_a_queue_in_trouble_is_no_failure_of_the_job(provider: Fal, simulator: FalSimulator) -> None:
    for status, expected in ((503, ProviderUnavailable), (404, JobNotFound)):
        simulator.scripted += [(200, {"status": "COMPLETED"}, {}), (status, {"detail": "x"}, {})]
        with pytest.raises(expected):
            await provider.query(Handle("r_1", "u_1", MODEL, "image", {}))


async def test_the_key_follows_no_address_of_an_answer(provider: Fal, simulator: FalSimulator) -> None:
    foreign = f"http://127.0.0.1.evil.example/{MODEL}/requests/r_1"
    simulator.scripted += [(200, {"status": "COMPLETED", "response_url": foreign}, {}), (200, {}, {})]
    await provider.query(Handle("r_1", "u_1", MODEL, "image", {}))
    assert simulator.calls[-1].path == "/fal-ai/flux/requests/r_1"
