"""Who is asking, told over HTTP: each credential, what is no credential, the site it comes from, proxies in front."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from http.cookies import Morsel, SimpleCookie
from typing import Any

import jwt
import pytest

from gateway.tokens import mint
from policies.model import Token
from tests.support.gateway import (
    FAR_AHEAD,
    JWT_SECRET,
    PNG,
    SIGNING_KEYS,
    Running,
    form,
    guest_headers,
    running,
    service_headers,
    user_headers,
)
from tests.support.raw import Answer, Lines, ask

ASSETS = "/api/storage/assets"
UPLOAD = "/api/storage/upload-media"
CLAIMS: dict[str, Any] = {"sub": "u_1", "exp": FAR_AHEAD}
APP = "https://app.example.com"
EVIL = "https://evil.example"


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with running() as gateway:
        yield gateway


def unsigned(claims: Mapping[str, Any]) -> str:
    parts = [{"alg": "none", "typ": "JWT"}, claims]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


def signed(secret: str = JWT_SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode({**CLAIMS, **claims}, secret, algorithm)


def without_expiry() -> str:
    return jwt.encode({"sub": "u_1"}, JWT_SECRET, "HS256")


WRONG_TOKENS = {
    "of another issuer's secret": signed("another-secret-of-more-than-32-bytes-length"),
    "of no algorithm": unsigned(CLAIMS),
    "of an algorithm that is not pinned": signed(algorithm="HS384"),
    "that has expired": signed(exp=1_700_000_000),
    "without expiry": without_expiry(),
    "for another audience": signed(aud="somebody-else"),
    "that is not valid yet": signed(nbf=FAR_AHEAD - 1),
    "that names nobody": signed(sub=""),
    "spelt with padding": signed() + "=",
    "with one letter changed": signed()[:-2] + "AA",
    "that is none": "rubbish",
    "of three dots": "..",
}
WRONG_HEADERS: dict[str, Lines] = {
    **{f"a token {name}": [("Authorization", f"Bearer {token}")] for name, token in WRONG_TOKENS.items()},
    "a service key that nobody has": [("Authorization", "Bearer ag_nobody")],
    "a service key cut short": [("Authorization", service_headers()["Authorization"][:-1])],
    "another scheme": [("Authorization", "Basic dTpw")],
    "no credential": [("Authorization", "Bearer")],
    "an empty header": [("Authorization", "")],
    "two headers": [("Authorization", value) for value in [user_headers()["Authorization"]] * 2],
    "a guest cookie that nobody made": [("Cookie", "assetgate_guest=v1.AAAAAAAAAAAAAAAAAAAAAA." + "A" * 43)],
    "a guest cookie that is none": [("Cookie", "assetgate_guest=me")],
}


@pytest.mark.parametrize("lines", WRONG_HEADERS.values(), ids=WRONG_HEADERS.keys())
async def test_a_bad_credential_is_refused_and_never_taken_for_none(gateway: Running, lines: Lines) -> None:
    """Without any credential all of these would be let in: the asset is public, and guests may upload."""
    asset_id = await gateway.asset(headers=service_headers(), visibility="public")
    picture = form(("purpose", "reference_image"), ("files", "a.png", PNG))()
    body = await picture.as_bytes()
    upload = [*lines, ("Content-Type", picture.content_type)]
    for answer in (
        await ask(gateway.url, "GET", f"{ASSETS}/{asset_id}", lines),
        await ask(gateway.url, "HEAD", f"{ASSETS}/{asset_id}", lines),
        await ask(gateway.url, "POST", UPLOAD, upload, body),
        await ask(gateway.url, "GET", ASSETS, lines),
    ):
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert not answer.body or answer.document["error"] == "credential_invalid"
    assert len(await gateway.records()) == 1


async def test_who_must_sign_in_first_is_told_how(gateway: Running) -> None:
    answer = await ask(gateway.url, "GET", ASSETS)
    assert (answer.status, answer.document["error"]) == (401, "sign_in_required")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_the_scheme_is_read_in_any_case(gateway: Running) -> None:
    path = f"{ASSETS}/{await gateway.asset()}"
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert (await ask(gateway.url, "GET", path, [("Authorization", f"{scheme} {signed()}")])).status == 200


async def test_a_token_that_was_good_is_refused_once_it_has_expired(gateway: Running) -> None:
    path, headers = (
        f"{ASSETS}/{await gateway.asset()}",
        [("Authorization", f"Bearer {signed(exp=gateway.clock() + 60)}")],
    )
    assert (await ask(gateway.url, "GET", path, headers)).status == 200
    assert (await ask(gateway.url, "GET", path, headers)).status == 200
    gateway.clock.move(61)
    assert (await ask(gateway.url, "GET", path, headers)).status == 401


async def test_a_cookie_may_carry_the_token_where_the_settings_say_so(gateway: Running) -> None:
    cookie = [("Cookie", f"session={signed()}")]
    async with running({"identity.jwt.cookie": "session"}) as other:
        path = f"{ASSETS}/{await other.asset()}"
        assert (await ask(other.url, "GET", path, cookie)).status == 200
        wrong = await ask(other.url, "GET", path, [("Cookie", "session=rubbish")])
        assert (wrong.status, wrong.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')
        # The header is what the client chose to send; a cookie comes along by itself.
        both = [*cookie, ("Authorization", f"Bearer {signed(sub='u_2')}")]
        assert (await ask(other.url, "GET", path, both)).status == 404
    path = f"{ASSETS}/{await gateway.asset()}"
    assert (await ask(gateway.url, "GET", path, cookie)).status == 404


async def test_claims_pick_the_user_and_the_roles(gateway: Running) -> None:
    settings = {
        "identity.jwt.user_claim": "uid",
        "identity.jwt.issuer": "https://id.example.com",
        "identity.jwt.audience": "media",
        "purposes.post_image.roles": "editor",
    }
    async with running(settings) as other:
        good: dict[str, Any] = {"uid": "u_7", "iss": "https://id.example.com", "aud": "media", "roles": ["editor"]}
        headers = {"Authorization": f"Bearer {signed(**good)}"}
        asset_id = await other.asset(purpose="post_image", headers=headers)
        assert (await other.parts.metadata.get([asset_id]))[asset_id].owner == "user:u_7"
        for wrong, status in {"iss": 401, "aud": 401, "roles": 403}.items():
            headers = {"Authorization": f"Bearer {signed(**{**good, wrong: 'other'})}"}
            response = await other.upload(("purpose", "post_image"), ("files", "a.png", PNG), headers=headers)
            assert response.status == status, wrong


@pytest.mark.parametrize("scope", ["sign", "upload", "read", "resolve", "tasks", "admin"])
async def test_a_service_can_do_what_its_scopes_name(gateway: Running, scope: str) -> None:
    asset_id = await gateway.asset()
    headers, ref = service_headers(scope), f"asset://{asset_id}"
    asked = {
        "upload": gateway.client.post(
            UPLOAD, data=form(("purpose", "reference_image"), ("files", "a.png", PNG)), headers=headers
        ),
        "read": gateway.client.get(f"{ASSETS}/{asset_id}", headers=headers),
        "list": gateway.client.get(ASSETS, headers=headers),
        "info": gateway.client.get(f"{ASSETS}/{asset_id}/info", headers=headers),
        "resolve": gateway.client.post(f"{ASSETS}/resolve", json={"document": ref}, headers=headers),
        "explain": gateway.client.get(f"{ASSETS}/{asset_id}/explain", headers=headers),
        "revoke": gateway.client.post(f"{ASSETS}/{asset_id}/revoke", headers=headers),
        "update": gateway.client.patch(f"{ASSETS}/{asset_id}", json={"filename": "b.png"}, headers=headers),
    }
    allowed = set()
    for name, request in asked.items():
        async with request as response:
            assert response.status in {200, 403, 422}, name
            if response.status == 200:
                allowed.add(name)
    assert (
        allowed
        == {
            "sign": {"resolve", "revoke"},
            "upload": {"upload", "update"},
            "read": {"read", "list", "info"},
            "resolve": {"resolve"},
            "tasks": set(),
            "admin": {"explain", "update"},
        }[scope]
    )


# Guests


def cookie_of(answer: Answer) -> Morsel[str]:
    return SimpleCookie(answer.headers["Set-Cookie"])["assetgate_guest"]


async def upload(gateway: Running, lines: Lines = (), target: str = UPLOAD) -> Answer:
    picture = form(("purpose", "reference_image"), ("files", "a.png", PNG))()
    return await ask(
        gateway.url, "POST", target, [*lines, ("Content-Type", picture.content_type)], await picture.as_bytes()
    )


async def test_the_guest_cookie_is_made_by_the_server_and_out_of_reach_of_scripts(gateway: Running) -> None:
    cookie = cookie_of(await upload(gateway))
    random = cookie.value.split(".")[1]
    assert len(base64.urlsafe_b64decode(random + "==")) * 8 == 128
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    assert (cookie["domain"], cookie["secure"]) == ("", "")
    assert cookie["max-age"] == str(24 * 3600)


async def test_each_guest_has_a_session_of_their_own(gateway: Running) -> None:
    assert cookie_of(await upload(gateway)).value != cookie_of(await upload(gateway)).value


async def test_the_records_know_only_the_hash_of_a_session(gateway: Running) -> None:
    answer = await upload(gateway)
    random = cookie_of(answer).value.split(".")[1]
    asset_id = answer.document["data"]["assetId"]
    owner = (await gateway.parts.metadata.get([asset_id]))[asset_id].owner
    assert owner == "guest:" + hashlib.sha256(base64.urlsafe_b64decode(random + "==")).hexdigest()[:32]
    assert random not in owner
    assert owner.partition(":")[2] not in answer.body.decode()


@pytest.mark.parametrize(
    ("settings", "lines", "secure"),
    [
        ({}, [], False),
        ({}, [("Host", "localhost:8080")], False),
        ({}, [("Host", "[::1]:8080")], False),
        ({}, [("Host", "media.example.com")], True),
        ({}, [("Host", "127.0.0.1.example.com")], True),
        ({}, [("Host", "localhost.example.com")], True),
        ({"server.public_url": "https://media.example.com"}, [], True),
        ({"server.public_url": "http://media.example.com"}, [], True),
        ({"server.public_url": "http://127.0.0.1:9000"}, [("Host", "media.example.com")], False),
        ({"server.trusted_proxies": "127.0.0.1/32"}, [("X-Forwarded-Proto", "https")], True),
        ({}, [("X-Forwarded-Proto", "https")], False),
        ({}, [("Host", "media.example.com"), ("X-Forwarded-Host", "localhost")], True),
    ],
)
async def test_the_cookie_is_secure_but_for_plain_http_on_loopback(
    settings: dict[str, str], lines: Lines, secure: bool
) -> None:
    async with running(settings) as gateway:
        host = dict(lines).get("Host")
        picture = form(("purpose", "reference_image"), ("files", "a.png", PNG))()
        headers = {**dict(lines), "Content-Type": picture.content_type}
        assert host is None or headers["Host"] == host
        async with gateway.client.post(UPLOAD, data=await picture.as_bytes(), headers=headers) as response:
            assert response.status == 200, await response.text()
            assert bool(response.cookies["assetgate_guest"]["secure"]) is secure


async def test_the_cookie_is_renewed_as_it_is_used_but_not_with_the_bytes(gateway: Running) -> None:
    first = await upload(gateway)
    value = cookie_of(first).value
    mine = [("Cookie", f"assetgate_guest={value}")]
    path = f"{ASSETS}/{first.document['data']['assetId']}"
    for answer in (await upload(gateway, mine), await ask(gateway.url, "GET", ASSETS, mine)):
        assert cookie_of(answer).value == value
        assert cookie_of(answer)["max-age"] == str(24 * 3600)
    for _ in range(2):
        assert "Set-Cookie" not in (await ask(gateway.url, "GET", path, mine)).headers


async def test_a_session_outlives_the_key_that_began_it() -> None:
    newer = f"k2:{base64.urlsafe_b64encode(b'a newer key of thirty-two bytes!').decode()}"
    async with running() as before:
        old = cookie_of(await upload(before)).value
    async with running({"signing.keys": f"{newer},{SIGNING_KEYS}"}) as between:
        renewed = cookie_of(await ask(between.url, "GET", ASSETS, [("Cookie", f"assetgate_guest={old}")])).value
    async with running({"signing.keys": newer}) as after:
        assert (await ask(after.url, "GET", ASSETS, [("Cookie", f"assetgate_guest={old}")])).status == 401
        assert (await ask(after.url, "GET", ASSETS, [("Cookie", f"assetgate_guest={renewed}")])).status == 200
    assert old.split(".")[1] == renewed.split(".")[1]


async def test_a_bad_guest_cookie_is_cleared_so_that_the_next_visit_works(gateway: Running) -> None:
    for method, path in (("GET", f"{ASSETS}/some-asset-01"), ("GET", ASSETS), ("POST", f"{ASSETS}/claim")):
        answer = await ask(gateway.url, method, path, [("Cookie", "assetgate_guest=bad")])
        assert answer.status == 401
        assert (cookie_of(answer).value, cookie_of(answer)["max-age"]) == ("", "0")
        assert cookie_of(answer)["path"] == "/"


async def test_an_access_token_is_no_guest_cookie_and_a_cookie_no_token(gateway: Running) -> None:
    value = cookie_of(await upload(gateway)).value
    asset_id = await gateway.asset()
    token = (await gateway.sign(asset_id)).partition("token=")[2]
    assert (await ask(gateway.url, "GET", ASSETS, [("Cookie", f"assetgate_guest={token}")])).status == 401
    assert (await ask(gateway.url, "GET", f"{ASSETS}/{asset_id}?token={value}")).status == 403
    key = base64.urlsafe_b64decode(SIGNING_KEYS.partition(":")[2] + "==")
    random = base64.urlsafe_b64encode(bytes(16)).rstrip(b"=").decode()
    mac = base64.urlsafe_b64encode(hmac.digest(key, f"v1.{random}".encode(), "sha256")).rstrip(b"=").decode()
    forged = [("Cookie", f"assetgate_guest=v1.{random}.{mac}")]
    assert (await ask(gateway.url, "GET", ASSETS, forged)).status == 401


# The site that a request comes from

OWN = "OWN"  # stands for the gateway's own origin
SITES: list[tuple[str | None, str | None, int]] = [
    # Origin, Sec-Fetch-Site, the answer
    (None, None, 200),
    (OWN, None, 200),
    (OWN, "same-origin", 200),
    (APP, None, 200),
    (APP, "cross-site", 200),
    (None, "same-origin", 200),
    (None, "same-site", 200),
    (None, "none", 200),
    (EVIL, None, 403),
    (EVIL, "cross-site", 403),
    (EVIL, "same-origin", 403),
    ("null", None, 403),
    ("", None, 403),
    (f"{APP}.evil.example", None, 403),
    ("http://app.example.com", None, 403),
    ("http://127.0.0.1:1", "same-site", 403),
    (f"{OWN}.evil.example", None, 403),
    (OWN.replace("http", "https"), "cross-site", 403),
    (None, "cross-site", 403),
]


@pytest.mark.parametrize(("origin", "site", "status"), SITES)
async def test_a_cookie_acts_for_its_holder_from_their_own_pages_alone(
    origin: str | None, site: str | None, status: int
) -> None:
    async with running({"cors.origins": APP, "identity.jwt.cookie": "session"}) as gateway:
        first = await upload(gateway)
        path = f"{ASSETS}/{first.document['data']['assetId']}"
        guest = f"assetgate_guest={cookie_of(first).value}"
        told = [("Origin", origin.replace(OWN, gateway.url))] if origin is not None else []
        told += [("Sec-Fetch-Site", site)] if site is not None else []
        mine = [("Cookie", guest), *told]
        change = b'{"filename": "other.png"}'
        answers = [
            await upload(gateway, mine),
            await ask(gateway.url, "PATCH", path, mine, change),
            await ask(gateway.url, "POST", f"{path}/revoke", mine),
            await ask(gateway.url, "POST", f"{ASSETS}/sign", mine, b'{"assetIds": ["some-asset-01"]}'),
            await ask(gateway.url, "POST", f"{ASSETS}/claim", [("Cookie", f"{guest}; session={signed()}"), *told]),
        ]
        assert [answer.status for answer in answers] == [status] * len(answers)
        if status == 403:
            assert {answer.document["error"] for answer in answers} == {"cross_site"}
            assert len(await gateway.records()) == 1


async def test_reading_and_credentials_in_a_header_are_not_asked_where_they_come_from(gateway: Running) -> None:
    first = await upload(gateway)
    path = f"{ASSETS}/{first.document['data']['assetId']}"
    evil = [("Origin", EVIL), ("Sec-Fetch-Site", "cross-site")]
    guest = ("Cookie", f"assetgate_guest={cookie_of(first).value}")
    assert (await ask(gateway.url, "GET", path, [guest, *evil])).status == 200
    assert (await upload(gateway, [*user_headers().items(), *evil])).status == 200
    assert (await upload(gateway, [*service_headers().items(), *evil])).status == 200


async def test_behind_a_proxy_the_own_origin_is_what_the_visitor_sees() -> None:
    async with running({"server.trusted_proxies": "127.0.0.0/8"}) as gateway:
        guest = ("Cookie", f"assetgate_guest={cookie_of(await upload(gateway)).value}")
        proxied = [guest, ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "media.example.com")]
        assert (await upload(gateway, [*proxied, ("Origin", "https://media.example.com")])).status == 200
        assert (await upload(gateway, [*proxied, ("Origin", gateway.url)])).status == 403


async def test_nobody_but_a_proxy_can_name_the_own_origin(gateway: Running) -> None:
    guest = ("Cookie", f"assetgate_guest={cookie_of(await upload(gateway)).value}")
    spoofed = [guest, ("Origin", EVIL), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.example")]
    assert (await upload(gateway, spoofed)).status == 403


# Proxies

FORWARDED: list[tuple[bool, list[str], str]] = [
    # is the peer trusted, the X-Forwarded-For lines, whose request it is
    (False, ["203.0.113.7"], "127.0.0.1"),
    (True, [], "127.0.0.1"),
    (True, ["203.0.113.7"], "203.0.113.7"),
    (True, ["2001:db8::1"], "2001:db8::1"),
    (True, ["1.2.3.4, 203.0.113.7"], "203.0.113.7"),
    (True, ["1.2.3.4,203.0.113.7,127.0.0.1"], "203.0.113.7"),
    (True, ["203.0.113.7, 127.0.0.1, 127.0.0.1"], "203.0.113.7"),
    (True, ["1.2.3.4", "203.0.113.7"], "203.0.113.7"),
    (True, ["rubbish"], "127.0.0.1"),
    (True, ["203.0.113.7, rubbish, 127.0.0.1"], "127.0.0.1"),
    (True, [""], "127.0.0.1"),
]


@pytest.mark.parametrize(("trusted", "lines", "address"), FORWARDED)
async def test_only_a_trusted_proxy_is_believed_about_the_client(trusted: bool, lines: list[str], address: str) -> None:
    async with running({"server.trusted_proxies": "127.0.0.1/32" if trusted else ""}) as gateway:
        path = await gateway.sign(await gateway.asset())
        for _ in range(2):
            answer = await ask(gateway.url, "GET", path, [("X-Forwarded-For", line) for line in lines])
            assert (await gateway.journal.facts(answer.headers["X-Request-Id"]))["address"] == address


async def test_a_token_for_a_network_opens_from_there_alone() -> None:
    async with running({"server.trusted_proxies": "127.0.0.1/32"}) as gateway:
        asset_id, now = await gateway.asset(), int(gateway.clock())
        key = gateway.parts.settings.signing.parsed[0]
        path = f"{ASSETS}/{asset_id}?token={mint(key, asset_id, Token(now, now + 60, ip='203.0.113.0/24'))}"
        for address, status in {"203.0.113.9": 200, "198.51.100.9": 403, "9.9.9.9, 203.0.113.9": 200}.items():
            answer = await ask(gateway.url, "GET", path, [("X-Forwarded-For", address)])
            assert answer.status == status, address
        spoofed = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "198.51.100.9")]
        assert (await ask(gateway.url, "GET", path, spoofed)).status == 403
    async with running() as untrusting:
        asset_id = await untrusting.asset()
        path = f"{ASSETS}/{asset_id}?token={mint(key, asset_id, Token(now, now + 60, ip='203.0.113.0/24'))}"
        assert (await ask(untrusting.url, "GET", path, [("X-Forwarded-For", "203.0.113.9")])).status == 403


@pytest.mark.parametrize(
    ("trusted", "base"), [("127.0.0.1/32", "https://media.example.com"), ("", None), ("10.0.0.0/8", None)]
)
async def test_absolute_urls_are_what_a_trusted_proxy_says(trusted: str, base: str | None) -> None:
    async with running({"server.trusted_proxies": trusted}) as gateway:
        headers = {
            **service_headers("sign"),
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "media.example.com",
        }
        url = await gateway.sign(await gateway.asset(), headers=headers, absolute=True)
        assert url.startswith(f"{base or gateway.url}{ASSETS}/")


@pytest.mark.parametrize(("trusted", "kept"), [("127.0.0.1/32", True), ("", False)])
async def test_the_request_id_of_a_proxy_is_kept_and_nobody_elses(trusted: str, kept: bool) -> None:
    async with running({"server.trusted_proxies": trusted}) as gateway:
        path = await gateway.sign(await gateway.asset())
        for _ in range(2):
            answer = await ask(gateway.url, "GET", path, [("X-Request-Id", "a-request-of-the-proxy")])
            assert (answer.headers["X-Request-Id"] == "a-request-of-the-proxy") is kept
        answer = await ask(gateway.url, "GET", path, [("X-Request-Id", "with a blank")])
        assert answer.headers["X-Request-Id"] != "with a blank"


# CORS

ALLOW = "Access-Control-Allow-Origin"


async def every_kind_of_answer(gateway: Running, lines: Lines) -> dict[str, Answer]:
    asset_id = await gateway.asset(headers=service_headers(), visibility="public")
    path = f"{ASSETS}/{asset_id}"
    etag = (await ask(gateway.url, "GET", path)).headers["ETag"]
    return {
        "whole": await ask(gateway.url, "GET", path, lines),
        "head": await ask(gateway.url, "HEAD", path, lines),
        "part": await ask(gateway.url, "GET", path, [*lines, ("Range", "bytes=0-1")]),
        "unchanged": await ask(gateway.url, "GET", path, [*lines, ("If-None-Match", etag)]),
        "failed": await ask(gateway.url, "GET", path, [*lines, ("If-Match", '"a"')]),
        "outside": await ask(gateway.url, "GET", path, [*lines, ("Range", "bytes=999-")]),
        "not found": await ask(gateway.url, "GET", f"{ASSETS}/never-there-01", lines),
        "no such path": await ask(gateway.url, "GET", "/nowhere", lines),
        "another method": await ask(gateway.url, "PUT", path, lines),
        "sign in": await ask(gateway.url, "GET", ASSETS, lines),
        "bad credential": await ask(gateway.url, "GET", ASSETS, [*lines, ("Authorization", "Bearer x")]),
        "malformed": await ask(gateway.url, "POST", UPLOAD, lines, b"{"),
        "list": await ask(gateway.url, "GET", ASSETS, [*lines, *user_headers().items()]),
    }


async def test_pages_of_the_origins_in_the_settings_may_read_every_answer() -> None:
    async with running({"cors.origins": APP}) as gateway:
        answers = await every_kind_of_answer(gateway, [("Origin", APP)])
    assert len({answer.status for answer in answers.values()}) == 9
    for name, answer in answers.items():
        assert answer.headers.getall(ALLOW) == [APP], name
        assert answer.headers["Access-Control-Allow-Credentials"] == "true", name
        assert "Origin" in answer.headers["Vary"].split(", "), name
        assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"], name


@pytest.mark.parametrize("origin", [EVIL, "null", f"{APP}.evil.example", None])
async def test_pages_of_others_may_read_none_and_caches_are_told_apart(origin: str | None) -> None:
    async with running({"cors.origins": APP}) as gateway:
        answers = await every_kind_of_answer(gateway, [("Origin", origin)] if origin else [])
    for name, answer in answers.items():
        assert ALLOW not in answer.headers, name
        assert "Origin" in answer.headers["Vary"].split(", "), name


async def test_without_origins_in_the_settings_nothing_is_said_of_them(gateway: Running) -> None:
    for name, answer in (await every_kind_of_answer(gateway, [("Origin", APP)])).items():
        assert not [line for line, _ in answer.lines if line.startswith("Access-Control")], name
        assert "Origin" not in answer.headers.get("Vary", ""), name


async def test_a_preflight_is_answered_without_a_credential() -> None:
    async with running({"cors.origins": f"{APP},https://admin.example.com"}) as gateway:
        asked = [("Access-Control-Request-Method", "PATCH"), ("Access-Control-Request-Headers", "authorization")]
        for path in (UPLOAD, f"{ASSETS}/some-asset-01", f"{ASSETS}/sign"):
            answer = await ask(gateway.url, "OPTIONS", path, [("Origin", APP), *asked])
            assert (answer.status, answer.body) == (204, b"")
            assert answer.headers[ALLOW] == APP
            assert "PATCH" in answer.headers["Access-Control-Allow-Methods"].split(", ")
            assert "Authorization" in answer.headers["Access-Control-Allow-Headers"].split(", ")
            assert answer.headers["Access-Control-Max-Age"] == "600"
        refused = await ask(gateway.url, "OPTIONS", UPLOAD, [("Origin", EVIL), *asked])
        assert ALLOW not in refused.headers


async def test_a_guest_is_recognised_by_the_client_library_too(gateway: Running) -> None:
    response = await gateway.upload(("purpose", "reference_image"), ("files", "a.png", PNG))
    asset_id = (await response.json())["data"]["assetId"]
    async with gateway.client.get(f"{ASSETS}/{asset_id}", headers=guest_headers(response)) as read:
        assert read.status == 200
