"""JSON Web Tokens with the keys of a key server: rotation, outages, herds, and keys that must not be used."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.errors import CredentialInvalid, Unavailable
from gateway.identity import key_server
from gateway.identity.jwt import JwtVerifier
from gateway.settings import Jwt
from tests.identity.made import (
    CLAIMS,
    EC,
    ED,
    NOW,
    OTHER_RSA,
    RSA,
    HandClock,
    KeyHost,
    base64url,
    hs256,
    jwk,
    key_host,
    raw,
    signed,
)


@pytest.fixture
async def host() -> AsyncIterator[KeyHost]:
    async with key_host() as running:
        yield running


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def tokens(host: KeyHost, clock: HandClock) -> AsyncIterator[JwtVerifier]:
    verifier = JwtVerifier(Jwt(jwks_url=host.url), clock)
    yield verifier
    await verifier.close()


async def until(done: Callable[[], bool]) -> None:
    """Wait for what goes on in the background."""
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110  what is waited for has no event to tell of
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("algorithm", "key"), [("RS256", jwk(RSA)), ("ES256", jwk(EC)), ("EdDSA", jwk(ED))], ids=["RSA", "EC", "Ed25519"]
)
async def test_each_type_of_key_verifies(
    host: KeyHost, tokens: JwtVerifier, algorithm: str, key: dict[str, Any]
) -> None:
    host.keys = [key | {"kid": "a"}, jwk(OTHER_RSA, kid="b")]
    assert (await tokens.verify(signed(algorithm, kid="a"))).id == "u_1"


async def test_fifty_at_once_make_one_fetch(host: KeyHost, tokens: JwtVerifier) -> None:
    found = await asyncio.gather(*(tokens.verify(signed("RS256", kid="k1")) for _ in range(50)))
    assert {user.id for user in found} == {"u_1"}
    assert host.asked == 1


async def test_one_who_leaves_takes_nobody_along(host: KeyHost, tokens: JwtVerifier) -> None:
    leaving = asyncio.create_task(tokens.verify(signed("RS256", kid="k1")))
    staying = asyncio.create_task(tokens.verify(signed("RS256", kid="k1")))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).id == "u_1"
    assert host.asked == 1


async def test_a_new_key_is_fetched_when_a_token_first_names_it(host: KeyHost, tokens: JwtVerifier) -> None:
    old = signed("RS256", kid="k1")
    await tokens.verify(old)
    host.keys = [jwk(OTHER_RSA, kid="k2")]
    found = await asyncio.gather(*(tokens.verify(signed("RS256", OTHER_RSA, kid="k2")) for _ in range(20)))
    assert {user.id for user in found} == {"u_1"}
    assert host.asked == 2
    assert tokens.remembered(old) is None, "a token of a key that was withdrawn is forgotten"
    with pytest.raises(CredentialInvalid):
        await tokens.verify(old)


async def test_made_up_kids_do_not_storm_the_key_server(host: KeyHost, tokens: JwtVerifier, clock: HandClock) -> None:
    await tokens.verify(signed("RS256", kid="k1"))
    for second in range(60):
        clock.now = NOW + second
        with pytest.raises(CredentialInvalid):
            await tokens.verify(signed("RS256", OTHER_RSA, kid=f"made-up-{second}"))
    assert host.asked == 3


async def test_old_keys_serve_while_new_ones_are_fetched(host: KeyHost, tokens: JwtVerifier, clock: HandClock) -> None:
    token = signed("RS256", kid="k1", claims=CLAIMS | {"exp": NOW + 9000})
    await tokens.verify(token)
    host.keys = []
    clock.now = NOW + 599
    assert tokens.remembered(token) is not None
    clock.now = NOW + 600
    assert tokens.remembered(token) is not None, "the look at the clock alone starts the renewal"
    await until(lambda: tokens.remembered(token) is None)
    assert host.asked == 2
    with pytest.raises(CredentialInvalid):
        await tokens.verify(token)


async def test_keys_are_kept_through_an_outage(
    host: KeyHost, tokens: JwtVerifier, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    token = signed("RS256", kid="k1", claims=CLAIMS | {"exp": NOW + 90_000})
    await tokens.verify(token)
    host.status = 503

    def logged(failures: int) -> bool:
        return len([record for record in caplog.records if record.name == key_server.__name__]) == failures

    for later, failures in ((700, 1), (710, 1), (4000, 2), (80_000, 3)):
        clock.now = NOW + later
        fresh = signed("RS256", kid="k1", claims=CLAIMS | {"exp": NOW + 90_000, "jti": str(later)})
        assert (await tokens.verify(fresh)).id == "u_1"
        await until(partial(logged, failures))
    assert host.asked == 4, "within 30 seconds of a failure nothing is asked again"
    assert tokens.remembered(token) is not None


BROKEN: dict[str, tuple[int, bytes | None]] = {
    "a 500": (500, None),
    "a redirect": (302, None),
    "no JSON": (200, b"<html>"),
    "no key set": (200, b"[]"),
    "keys that are no list": (200, b'{"keys": {}}'),
    "JSON nested deep": (200, b"[" * 100_000),
    "more than half a megabyte": (200, b'{"keys": []' + b" " * 600_000 + b"}"),
    "a thousand keys": (200, json.dumps({"keys": [{}] * 1000}).encode()),
}


@pytest.mark.parametrize(("status", "body"), BROKEN.values(), ids=BROKEN)
async def test_without_any_keys_the_service_is_away_and_comes_back(
    host: KeyHost, tokens: JwtVerifier, clock: HandClock, status: int, body: bytes | None
) -> None:
    host.status, host.body = status, body
    for _ in range(3):
        with pytest.raises(Unavailable):
            await tokens.verify(signed("RS256", kid="k1"))
    assert host.asked == 1, "an outage is told at once, not waited for by each"
    host.status, host.body = 200, None
    clock.now += 2
    assert (await tokens.verify(signed("RS256", kid="k1"))).id == "u_1"


async def test_a_server_that_is_not_there_is_away_and_no_fault_of_the_token(clock: HandClock) -> None:
    tokens = JwtVerifier(Jwt(jwks_url="http://127.0.0.1:9/jwks"), clock)
    with pytest.raises(Unavailable):
        await tokens.verify(signed("RS256", kid="k1"))


def private(key: Any) -> dict[str, Any]:
    """A key set that gives its secret away, as some servers do by mistake."""
    return jwk(key, d="AQAB", p="AQAB", q="AQAB")


UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "for encryption": (jwk(RSA, kid="k1", use="enc"), "RS256"),
    "whose operations do not verify": (jwk(RSA, kid="k1", key_ops=["encrypt"]), "RS256"),
    "of another algorithm": (jwk(RSA, kid="k1", alg="RS512"), "RS256"),
    "of an algorithm that is not pinned": (jwk(RSA, kid="k1", alg="PS256"), "PS256"),
    "of 1024 bits": (jwk(rsa.generate_private_key(65537, 1024), kid="k1"), "RS256"),  # noqa: S505  the point
    "without parts": ({"kty": "RSA", "kid": "k1"}, "RS256"),
    "of an unknown curve": ({"kty": "EC", "crv": "P-111", "x": "AA", "y": "AA", "kid": "k1"}, "ES256"),
    "off the curve": ({"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43, "kid": "k1"}, "ES256"),
    "of a type that is no word": ({"kty": ["RSA"], "kid": "k1"}, "RS256"),
    "of another name": (jwk(RSA, kid="k2"), "RS256"),
    "without a name": (jwk(RSA), "RS256"),
}


@pytest.mark.parametrize(("key", "algorithm"), UNUSABLE.values(), ids=UNUSABLE)
async def test_a_key_is_not_used(host: KeyHost, tokens: JwtVerifier, key: dict[str, Any], algorithm: str) -> None:
    host.keys = [key, "no key", jwk(OTHER_RSA, kid="other")]
    with pytest.raises(CredentialInvalid):
        await tokens.verify(signed(algorithm, kid="k1"))
    assert (await tokens.verify(signed("RS256", OTHER_RSA, kid="other"))).id == "u_1", "the others still serve"


async def test_a_symmetric_key_on_a_web_page_is_no_secret(host: KeyHost, tokens: JwtVerifier) -> None:
    host.keys = [{"kty": "oct", "kid": "k1", "k": base64url(b"s" * 32), "alg": "HS256"}]
    with pytest.raises(CredentialInvalid):
        await tokens.verify(hs256(CLAIMS, "s" * 32, kid="k1"))


async def test_the_public_half_of_a_private_key_serves(host: KeyHost, tokens: JwtVerifier) -> None:
    host.keys = [private(RSA) | {"kid": "k1"}]
    assert (await tokens.verify(signed("RS256", kid="k1"))).id == "u_1"


async def test_a_token_without_kid_is_taken_when_one_key_alone_fits(host: KeyHost, tokens: JwtVerifier) -> None:
    host.keys = [jwk(RSA, kid="a"), jwk(EC, kid="b")]
    assert (await tokens.verify(signed("RS256"))).id == "u_1"
    host.keys = [jwk(RSA, kid="a"), jwk(OTHER_RSA, kid="b")]
    fresh = JwtVerifier(Jwt(jwks_url=host.url), HandClock())
    with pytest.raises(CredentialInvalid):
        await fresh.verify(signed("RS256"))
    await fresh.close()


PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
DER = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
ATTACKS = {
    "HS256 with the public key as its secret": raw('{"alg":"HS256","kid":"k1"}', json.dumps(CLAIMS), PEM),
    "HS256 with the public key's bytes": raw('{"alg":"HS256","kid":"k1"}', json.dumps(CLAIMS), DER),
    "RS256 in the header of an HMAC": raw('{"alg":"RS256","kid":"k1"}', json.dumps(CLAIMS), PEM),
    "ES256 in the header of an RSA key's kid": signed("ES256", kid="k1"),
    "another key under a known kid": signed("RS256", OTHER_RSA, kid="k1"),
    "a key of its own in the header": signed("RS256", OTHER_RSA, kid="k1", jwk=jwk(OTHER_RSA)),
    "a key of its own in the header, no kid": signed("RS256", OTHER_RSA, jwk=jwk(OTHER_RSA)),
    "a key server of its own": signed("RS256", OTHER_RSA, kid="k9", jku="http://127.0.0.1:9/jwks"),
    "a certificate of its own": signed("RS256", OTHER_RSA, kid="k9", x5u="http://127.0.0.1:9/x"),
    "a kid that is a path": signed("RS256", OTHER_RSA, kid="../../../../dev/null"),
    "a kid that is SQL": signed("RS256", OTHER_RSA, kid="k1' UNION SELECT 'x"),
    "an ECDSA signature of zeros": f"{signed('ES256', kid='e1').rpartition('.')[0]}.{base64url(bytes(64))}",
    "PS256, not pinned": signed("PS256", kid="k1"),
}


@pytest.mark.parametrize("token", ATTACKS.values(), ids=ATTACKS)
async def test_an_attack_on_the_choice_of_the_key_is_refused(host: KeyHost, tokens: JwtVerifier, token: str) -> None:
    host.keys = [jwk(RSA, kid="k1"), jwk(EC, kid="e1")]
    with pytest.raises(CredentialInvalid):
        await tokens.verify(token)


async def test_a_curve_serves_only_its_own_algorithm(host: KeyHost) -> None:
    p384 = ec.generate_private_key(ec.SECP384R1())
    host.keys = [jwk(p384, kid="k1")]
    tokens = JwtVerifier(Jwt(jwks_url=host.url, algorithms=("ES256", "ES384")), HandClock())
    assert (await tokens.verify(signed("ES384", p384, kid="k1"))).id == "u_1"
    with pytest.raises(CredentialInvalid):
        await tokens.verify(signed("ES256", EC, kid="k1"))
    await tokens.close()


async def test_a_fetch_handed_in_takes_the_place_of_http() -> None:
    asked = []

    async def fetch(url: str) -> bytes:
        asked.append(url)
        return json.dumps({"keys": [jwk(RSA, kid="k1")]}).encode()

    tokens = JwtVerifier(Jwt(jwks_url="https://id.example/jwks"), HandClock(), fetch)
    assert (await tokens.verify(signed("RS256", kid="k1"))).id == "u_1"
    assert asked == ["https://id.example/jwks"]


def test_the_attack_with_hmac_is_a_real_one() -> None:
    """The forged signature is right under the public key: only the pinned algorithm stands in its way."""
    forged, _, signature = ATTACKS["HS256 with the public key as its secret"].rpartition(".")
    assert base64url(hmac.digest(PEM, forged.encode(), hashlib.sha256)) == signature
