"""JSON Web Tokens with a shared secret: which are taken, and every way in which one is refused."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.errors import CannotStart, CredentialInvalid
from gateway.identity import Identified
from gateway.identity.jwt import JwtVerifier
from gateway.settings import Jwt
from tests.identity.made import CLAIMS, NOW, RSA, SECRET, HandClock, hs256, jwk, raw, signed

HEADER = '{"alg":"HS256","typ":"JWT"}'


def verifier(clock: HandClock | None = None, **settings: Any) -> JwtVerifier:
    return JwtVerifier(Jwt(**({"secret": SECRET} | settings)), clock or HandClock())


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in CLAIMS.items() if key != name}


def other_spelling(token: str) -> str:
    """The same bytes in base64 of which the unused last bits differ."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


TAKEN = {
    "a plain one": ({}, CLAIMS, Identified("u_1", NOW + 600)),
    "roles in a list": ({}, CLAIMS | {"roles": ["a", "b"]}, Identified("u_1", NOW + 600, frozenset("ab"))),
    "roles in one string": ({}, CLAIMS | {"roles": "a b"}, Identified("u_1", NOW + 600, frozenset("ab"))),
    "roles of null": ({}, CLAIMS | {"roles": None}, Identified("u_1", NOW + 600)),
    "claims of other names": (
        {"user_claim": "uid", "roles_claim": "https://example.com/roles"},
        CLAIMS | {"uid": "u_2", "https://example.com/roles": ["editor"]},
        Identified("u_2", NOW + 600, frozenset({"editor"})),
    ),
    "our audience": ({"audience": "us"}, CLAIMS | {"aud": "us"}, Identified("u_1", NOW + 600)),
    "our audience among others": ({"audience": "us"}, CLAIMS | {"aud": ["them", "us"]}, Identified("u_1", NOW + 600)),
    "our issuer": ({"issuer": "https://id"}, CLAIMS | {"iss": "https://id"}, Identified("u_1", NOW + 600)),
    "an issuer nobody asked about": ({}, CLAIMS | {"iss": "https://id"}, Identified("u_1", NOW + 600)),
    "a clock a little ahead of ours": ({}, CLAIMS | {"iat": NOW + 59, "nbf": NOW + 59}, Identified("u_1", NOW + 600)),
    "a fraction of a second": ({}, CLAIMS | {"exp": NOW + 0.5}, Identified("u_1", NOW + 0.5)),
    "the longest id": ({}, CLAIMS | {"sub": "u" * 255}, Identified("u" * 255, NOW + 600)),
}


@pytest.mark.parametrize(("settings", "claims", "expected"), TAKEN.values(), ids=TAKEN)
async def test_a_good_token_names_its_user(
    settings: dict[str, Any], claims: dict[str, Any], expected: Identified
) -> None:
    assert await verifier(**settings).verify(hs256(claims)) == expected


REFUSED_CLAIMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no exp": ({}, without("exp")),
    "exp now": ({}, CLAIMS | {"exp": NOW}),
    "exp in words": ({}, CLAIMS | {"exp": str(NOW + 600)}),
    "exp of true": ({}, CLAIMS | {"exp": True}),
    "exp of null": ({}, CLAIMS | {"exp": None}),
    "exp beyond all calendars": ({}, CLAIMS | {"exp": 10**300}),
    "exp infinite": ({}, CLAIMS | {"exp": float("inf")}),
    "exp no number": ({}, CLAIMS | {"exp": float("nan")}),
    "nbf ahead": ({}, CLAIMS | {"nbf": NOW + 61}),
    "nbf in words": ({}, CLAIMS | {"nbf": "now"}),
    "iat ahead": ({}, CLAIMS | {"iat": NOW + 61}),
    "another issuer": ({"issuer": "https://id"}, CLAIMS | {"iss": "https://id.evil"}),
    "no issuer": ({"issuer": "https://id"}, CLAIMS),
    "issuers in a list": ({"issuer": "https://id"}, CLAIMS | {"iss": ["https://id"]}),
    "another audience": ({"audience": "us"}, CLAIMS | {"aud": "them"}),
    "an audience that contains ours": ({"audience": "us"}, CLAIMS | {"aud": "usurper"}),
    "no audience": ({"audience": "us"}, CLAIMS),
    "an audience beside an object": ({"audience": "us"}, CLAIMS | {"aud": ["us", {}]}),
    "an audience where none is set": ({}, CLAIMS | {"aud": "us"}),
    "no sub": ({}, without("sub")),
    "an empty sub": ({}, CLAIMS | {"sub": ""}),
    "a sub of digits": ({}, CLAIMS | {"sub": 7}),
    "a sub too long": ({}, CLAIMS | {"sub": "u" * 256}),
    "a sub with NUL": ({}, CLAIMS | {"sub": "u\0"}),
    "a sub with half a surrogate pair": ({}, CLAIMS | {"sub": "\ud800"}),
    "roles of numbers": ({}, CLAIMS | {"roles": [1]}),
    "roles in an object": ({}, CLAIMS | {"roles": {"admin": True}}),
}


@pytest.mark.parametrize(("settings", "claims"), REFUSED_CLAIMS.values(), ids=REFUSED_CLAIMS)
async def test_a_rightly_signed_token_is_refused_for_its_claims(
    settings: dict[str, Any], claims: dict[str, Any]
) -> None:
    with pytest.raises(CredentialInvalid):
        await verifier(**settings).verify(hs256(claims))


GOOD = hs256(CLAIMS)
PARTS = GOOD.split(".")
PUBLIC_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
REFUSED = {
    "nothing": "",
    "dots": "..",
    "two parts": ".".join(PARTS[:2]),
    "four parts": GOOD + ".AAAA",
    "five parts, as an encrypted one has": "a.b.c.d.e",
    "another secret": hs256(CLAIMS, secret="another-secret-of-32-characters!!"),
    "no signature": f"{PARTS[0]}.{PARTS[1]}.",
    "other claims under the signature": f"{PARTS[0]}.{hs256(CLAIMS | {'sub': 'u_2'}).split('.')[1]}.{PARTS[2]}",
    "alg none": jwt.encode(CLAIMS, "", "none"),
    "alg none, signed": hs256(CLAIMS, alg="none"),
    "alg None in odd letters": hs256(CLAIMS, alg="nOnE"),
    "alg missing": raw('{"typ":"JWT"}', json.dumps(CLAIMS), SECRET.encode()),
    "alg in a list": hs256(CLAIMS, alg=["HS256"]),
    "alg not pinned": jwt.encode(CLAIMS, "s" * 64, "HS512"),
    "alg twice": raw('{"alg":"HS256","alg":"HS256"}', json.dumps(CLAIMS), SECRET.encode()),
    "a claim twice": raw(HEADER, json.dumps(CLAIMS)[:-1] + ',"sub":"u_2"}', SECRET.encode()),
    "crit": hs256(CLAIMS, crit=["exp"]),
    "crit empty": hs256(CLAIMS, crit=[]),
    "an unencoded payload": hs256(CLAIMS, b64=False),
    "a logout token": hs256(CLAIMS, typ="logout+jwt"),
    "a kid of a number": hs256(CLAIMS, kid=7),
    "a kid of a thousand letters": hs256(CLAIMS, kid="k" * 1000),
    "padding": GOOD + "=",
    "padding within": f"{PARTS[0]}=.{PARTS[1]}.{PARTS[2]}",
    "another spelling of the signature": other_spelling(GOOD),
    "base64 of the other alphabet": f"{PARTS[0]}.{PARTS[1]}.{'+' * 43}",
    "a space behind": GOOD + " ",
    "a line break behind": GOOD + "\n",
    "letters beyond ASCII": GOOD + "é",
    "bytes that are no text": GOOD + "\udcff",
    "claims that are no object": raw(HEADER, "[]", SECRET.encode()),
    "claims that are no JSON": raw(HEADER, "{", SECRET.encode()),
    "claims nested deep": raw(HEADER, "[" * 5000, SECRET.encode()),
    "a header that is no object": raw('"HS256"', json.dumps(CLAIMS), SECRET.encode()),
    "a header nested deep": raw("[" * 5000, "{}", SECRET.encode()),
    "over 8 KiB": hs256(CLAIMS | {"pad": "x" * 8192}),
    "a public key's signature": signed("RS256"),
    "its own key in the header": signed("RS256", jwk=jwk(RSA)),
}


@pytest.mark.parametrize("token", REFUSED.values(), ids=REFUSED)
async def test_a_bad_token_is_refused_with_a_challenge(token: str) -> None:
    with pytest.raises(CredentialInvalid) as refusal:
        await verifier().verify(token)
    assert refusal.value.headers == {"WWW-Authenticate": 'Bearer error="invalid_token"'}


async def test_a_verified_token_is_remembered_until_it_ends() -> None:
    clock = HandClock()
    tokens = verifier(clock)
    assert tokens.remembered(GOOD) is None
    identified = await tokens.verify(GOOD)
    assert tokens.remembered(GOOD) == identified
    clock.now = NOW + 599
    assert tokens.remembered(GOOD) == identified
    clock.now = NOW + 600
    assert tokens.remembered(GOOD) is None
    with pytest.raises(CredentialInvalid):
        await tokens.verify(GOOD)


async def test_a_refused_token_is_not_remembered() -> None:
    tokens = verifier()
    with pytest.raises(CredentialInvalid):
        await tokens.verify(other_spelling(GOOD))
    assert tokens.remembered(other_spelling(GOOD)) is None


async def test_the_memory_of_tokens_is_bounded_and_keeps_those_in_use() -> None:
    tokens = verifier()
    await tokens.verify(GOOD)
    for number in range(4096):
        await tokens.verify(hs256(CLAIMS | {"sub": f"u_{number}", "jti": str(number)}))
        assert tokens.remembered(GOOD) is not None
    assert tokens.remembered(hs256(CLAIMS | {"sub": "u_0", "jti": "0"})) is None


async def test_a_clock_that_was_set_back_makes_no_token_live_longer() -> None:
    clock = HandClock()
    tokens = verifier(clock)
    await tokens.verify(GOOD)
    clock.now = NOW - 3600
    assert tokens.remembered(GOOD) is None


UNUSABLE = {
    "short": ({"secret": "short"}, "too short for HS256"),
    "short for one of the algorithms": ({"secret": "s" * 40, "algorithms": ("HS256", "HS512")}, "too short for HS512"),
    "empty": ({"secret": ""}, "is empty"),
    "a public key": ({"secret": PUBLIC_PEM.decode()}, "use jwks_url"),
    "an unknown algorithm": ({"secret": SECRET, "algorithms": ("HS257",)}, "'HS257'"),
}


@pytest.mark.parametrize(("settings", "problem"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_secret_that_can_verify_nothing_safely_keeps_the_gateway_from_starting(
    settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(CannotStart, match=problem):
        JwtVerifier(Jwt(**settings), HandClock())
