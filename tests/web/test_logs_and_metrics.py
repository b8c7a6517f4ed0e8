"""What an operator reads: one line a request, no secret in any of them, and counters that add up."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, DummyCookieJar
from prometheus_client.parser import text_string_to_metric_families

from gateway.web.observed import Facts, Note, set_up_logging
from policies.model import Reason
from tests.support.engines import ENGINES
from tests.support.gateway import (
    PNG,
    SIGNING_KEYS,
    Running,
    form,
    guest_headers,
    running,
    serve_process,
    service_headers,
    user_headers,
)
from tests.support.raw import PATIENCE, ask
from tests.support.sockets import Reader

ASSETS = "/api/storage/assets"
UPLOAD = "/api/storage/upload-media"
ROUTE = f"{ASSETS}/{{id}}"
Series = dict[tuple[str, str, str, str], float]


@pytest.fixture(params=["true", "false"], ids=["express", "handlers"])
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with running({"server.express": request.param}) as gateway:
        yield gateway


async def metrics(gateway: Running) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    async with gateway.client.get("/metrics") as response:
        text = await response.text()
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


async def requests(gateway: Running) -> Series:
    """The counter of requests by (route, method, status, reason), without the looks at the metrics themselves."""
    found: Series = {}
    for (name, labels), value in (await metrics(gateway)).items():
        given = dict(labels)
        if name == "assetgate_requests_total" and given["route"] != "/metrics":
            found[given["route"], given["method"], given["status"], given["reason"]] = value
    return found


async def value(gateway: Running, name: str) -> float:
    return (await metrics(gateway))[name, frozenset()]


# metrics


async def test_requests_are_counted_by_route_status_and_reason(gateway: Running) -> None:
    path = f"{ASSETS}/{await gateway.asset()}"
    signed = await gateway.sign(path.rpartition("/")[2], expiresInSeconds=60, window=0)
    mine = tuple(user_headers().items())
    etag = (await ask(gateway.url, "HEAD", path, mine)).headers["ETag"]
    before = await requests(gateway)
    for _ in range(2):
        await ask(gateway.url, "GET", path, mine)
        await ask(gateway.url, "GET", path)
        await ask(gateway.url, "GET", signed)
        await ask(gateway.url, "GET", signed, [("Range", "bytes=0-1")])
        await ask(gateway.url, "GET", signed, [("If-None-Match", etag)])
        await ask(gateway.url, "GET", signed, [("If-Match", '"a"')])
        await ask(gateway.url, "GET", signed + "x")
        await ask(gateway.url, "GET", ASSETS)
        await ask(gateway.url, "PUT", path)
    gateway.clock.move(60)
    await ask(gateway.url, "GET", signed)
    await ask(gateway.url, "DELETE", path, mine)
    await ask(gateway.url, "GET", path, mine)
    await ask(gateway.url, "GET", path)
    counted = await requests(gateway)
    errors = {"precondition_failed", "token_invalid", "method_not_allowed", ""}
    assert {reason for *_, reason in counted} <= {*Reason, *errors}
    added = {key: count - before.get(key, 0) for key, count in counted.items()}
    assert {key: count for key, count in added.items() if count} == {
        (ROUTE, "GET", "200", "owner"): 2,
        (ROUTE, "GET", "404", "no_rule_allowed"): 2,
        (ROUTE, "GET", "200", "token"): 2,
        (ROUTE, "GET", "206", "token"): 2,
        (ROUTE, "GET", "304", "token"): 2,
        (ROUTE, "GET", "412", "precondition_failed"): 2,
        (ROUTE, "GET", "403", "token_invalid"): 2,
        (ROUTE, "GET", "403", "token_expired"): 1,
        (ROUTE, "DELETE", "200", "owner"): 1,
        # Two are told different things, and the operator sees the one cause.
        (ROUTE, "GET", "410", "asset_deleted"): 1,
        (ROUTE, "GET", "404", "asset_deleted"): 1,
        (ASSETS, "GET", "401", "sign_in_required"): 2,
        ("other", "PUT", "405", "method_not_allowed"): 2,
    }


async def test_counters_do_not_grow_with_what_strangers_ask_for(gateway: Running) -> None:
    for number in range(50):
        await ask(gateway.url, "GET", f"/nowhere/{number}")
        await ask(gateway.url, "GET", f"{ASSETS}/never-there-{number:02}?token={number}")
        await ask(gateway.url, "GET", f"{ASSETS}/never-there-{number:02}", [("User-Agent", str(number))])
    assert {(route, count) for (route, *_), count in (await requests(gateway)).items()} == {
        ("other", 50),
        (ROUTE, 50),
    }
    assert len(await requests(gateway)) == 3


async def test_bytes_are_counted_in_both_directions(gateway: Running) -> None:
    path = await gateway.sign(await gateway.asset())
    assert await value(gateway, "assetgate_received_bytes_total") == len(PNG)
    for lines in ([], [("Range", "bytes=0-9")], [("Range", "bytes=0-9")]):
        await ask(gateway.url, "GET", path, lines)
    await ask(gateway.url, "HEAD", path)
    assert await value(gateway, "assetgate_sent_bytes_total") == len(PNG) + 20


async def test_decisions_are_timed(gateway: Running) -> None:
    path = f"{ASSETS}/{await gateway.asset()}"
    await ask(gateway.url, "GET", path, tuple(user_headers().items()))
    assert await value(gateway, "assetgate_decision_seconds_count") == 1
    assert 0 < await value(gateway, "assetgate_decision_seconds_sum") < 5


async def test_open_streams_are_counted_while_they_are_open(gateway: Running) -> None:
    path = await gateway.sign(await gateway.asset(PNG + bytes(16_000_000)))
    readers = [Reader(gateway.url) for _ in range(3)]
    try:
        for reader in readers:
            await reader.ask(path)
            await reader.read(1)
        assert await value(gateway, "assetgate_open_streams") == 3
    finally:
        for reader in readers:
            reader.close(reset=True)
    await ask(gateway.url, "GET", path)
    async with asyncio.timeout(PATIENCE):  # the ends of the connections are on their way
        while await value(gateway, "assetgate_open_streams"):  # noqa: ASYNC110 - nothing announces them
            await asyncio.sleep(0)
    assert await value(gateway, "assetgate_broken_streams_total") == 3
    assert (await requests(gateway))[ROUTE, "GET", "499", "token"] == 3


async def test_the_operators_routes_need_no_credential(gateway: Running) -> None:
    for path, words in {
        "/healthz": b'{"status": "ok"}',
        "/readyz": b'"status": "ready"',
        "/metrics": b"# TYPE assetgate_requests_total counter",
        "/openapi.json": b'"openapi":"3.1',
    }.items():
        answer = await ask(gateway.url, "GET", path)
        assert (answer.status, words in answer.body) == (200, True), answer.body[:200]


# logs


async def test_a_request_is_one_line_of_json_with_the_facts(gateway: Running) -> None:
    path = f"{ASSETS}/{await gateway.asset()}"
    lines = [*user_headers().items(), ("Range", "bytes=0-9"), ("User-Agent", "a player/1.0"), ("Referer", "/secret")]
    for _ in range(2):
        answer = await ask(gateway.url, "GET", path, lines)
        facts = await gateway.journal.facts(answer.headers["X-Request-Id"])
        assert facts.pop("time").endswith("+00:00")
        assert 0 <= facts.pop("ms") < 5000
        assert facts == {
            "level": "info",
            "logger": "assetgate.access",
            "request_id": answer.headers["X-Request-Id"],
            "method": "GET",
            "path": path,
            "route": ROUTE,
            "status": 206,
            "reason": "owner",
            "bytes": 10,
            "range": "bytes=0-9",
            "caller": "user",
            "address": "127.0.0.1",
            "agent": "a player/1.0",
        }


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        ({}, "anonymous"),
        (user_headers(), "user"),
        (service_headers(), "service"),
        ({"Authorization": "x"}, "anonymous"),
    ],
)
async def test_the_line_says_who_asked(gateway: Running, headers: dict[str, str], caller: str) -> None:
    answer = await ask(gateway.url, "GET", f"{ASSETS}/never-there-01", tuple(headers.items()))
    assert (await gateway.journal.facts(answer.headers["X-Request-Id"]))["caller"] == caller


@pytest.mark.parametrize("target", ["/%0a%7b%22status%22:200%7d", "/%1b%5b31m", "/a%20b", "/%e2%80%a8", "/%ff"])
async def test_what_is_asked_for_can_forge_no_line(gateway: Running, target: str) -> None:
    answer = await ask(gateway.url, "GET", target, [("User-Agent", 'x" , "status": 200 } é')])
    facts = await gateway.journal.facts(answer.headers["X-Request-Id"])
    assert facts["status"] == 404
    assert facts["path"].lower() == target
    assert all(line.startswith("{") and line.endswith("}") for line in gateway.journal.text.splitlines())


FACTS = Facts(
    method="GET",
    path="/api/storage/assets/some-asset-01",
    route=ROUTE,
    status=206,
    reason="owner",
    size=10,
    range=None,
    caller="user",
    agent=None,
)
NOTE = Note(FACTS, began=0.0, ended=0.1, request_id="0123", address="127.0.0.1", broken=False)


@pytest.fixture
def plain_logging() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("style", "stream", "readable"),
    [
        ("auto", Terminal(), True),
        ("auto", io.StringIO(), False),
        ("json", Terminal(), False),
        ("text", io.StringIO(), True),
    ],
)
async def test_people_read_lines_and_programs_json(
    plain_logging: None, style: str, stream: io.StringIO, readable: bool
) -> None:
    requests_log = set_up_logging(style, stream)
    requests_log.write([NOTE])
    try:
        int("what went wrong")
    except ValueError:
        logging.getLogger("assetgate.web").exception("request %s failed", "0123")
    first, rest = stream.getvalue().split("\n", 1)
    if readable:
        assert " 206 GET /api/storage/assets/some-asset-01 (owner) 10 B " in first
        assert "error assetgate.web: request 0123 failed\nTraceback" in rest
    else:
        assert orjson.loads(first)["reason"] == "owner"
        failed = orjson.loads(rest)
        assert (failed["level"], failed["message"]) == ("error", "request 0123 failed")
        assert "what went wrong" in failed["exception"]


async def test_what_the_cache_fetched_and_holds_is_told(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data = PNG + bytes(100_000)
    async with running(ENGINES["postgres+s3"](tmp_path, request.getfixturevalue)) as gateway:
        signed = await gateway.sign(await gateway.asset(data))
        for _ in range(3):
            assert (await ask(gateway.url, "GET", signed)).body == data
        assert await value(gateway, "assetgate_cache_fetched_bytes_total") == len(data)
        assert await value(gateway, "assetgate_sent_bytes_total") == 3 * len(data)
        counted = await metrics(gateway)
    places = {place: counted["assetgate_cache_bytes", frozenset({("place", place)})] for place in ("disk", "memory")}
    assert places["disk"] + places["memory"] >= len(data)


# no secrets


def secrets_of(*texts: str) -> set[str]:
    """The secrets whole, and their parts: what stands between dots and blanks and is long enough to be one."""
    parts = {part for text in texts for part in text.replace("=", " ").replace(".", " ").split()}
    return {part for part in parts if len(part) > 20} | set(texts)


BETTER_AUTH_SECRET = "better-auth-secret-of-the-tests-32-bytes"


def session_cookie(token: str) -> str:
    mac = base64.b64encode(hmac.digest(BETTER_AUTH_SECRET.encode(), token.encode(), hashlib.sha256)).decode()
    return f"{token}.{mac}"


async def test_no_credential_is_ever_logged(tmp_path: Path) -> None:
    """A whole process, every kind of credential good and bad, in every place where it can stand: then its whole log."""
    settings = {"identity.jwt.cookie": "session", "log.format": "json"}
    with serve_process(tmp_path, settings) as served:
        async with ClientSession(served.url, cookie_jar=DummyCookieJar()) as client:
            credentials = await use_every_credential(client)
        assert len(credentials) > 15
        key = (tmp_path / "data/secrets.toml").read_text().split('"')[1]
    log = (tmp_path / "serve.log").read_text()
    lines = [orjson.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert len([line for line in lines if line["logger"] == "assetgate.access"]) > 30
    assert {line["status"] for line in lines if "status" in line} >= {200, 400, 401, 403, 404, 307, 410}
    assert [secret for secret in secrets_of(*credentials, SIGNING_KEYS.partition(":")[2]) if secret in log] == []
    assert log.count(key) == 1  # announced to who started it


async def use_every_credential(client: ClientSession) -> list[str]:
    """Ask for all sorts of things with credentials of every kind; return these."""
    jwt, key = user_headers()["Authorization"].split()[1], service_headers()["Authorization"].split()[1]
    picture = form(("purpose", "reference_image"), ("files", "a.png", PNG))()
    async with client.post(
        UPLOAD, data=await picture.as_bytes(), headers={"Content-Type": picture.content_type}
    ) as sent:
        guest = guest_headers(sent)["Cookie"].partition("=")[2]
        asset_id = (await sent.json())["data"]["assetId"]
    body = {"assetIds": [asset_id]}
    async with client.post(f"{ASSETS}/sign", json=body, headers=service_headers()) as signed:
        token = (await signed.json())["data"]["results"][0]["url"].partition("token=")[2]
    changed = {
        name: text[:-3] + "AAA" for name, text in {"jwt": jwt, "key": key, "guest": guest, "token": token}.items()
    }
    better_auth = session_cookie("a-session-token-of-the-application")
    headers: list[dict[str, str]] = [{}]
    headers += [
        {"Authorization": f"Bearer {text}"} for text in (jwt, key, changed["jwt"], changed["key"], guest, token)
    ]
    headers += [{"Authorization": f"Basic {jwt}"}, {"Authorization": jwt}, {"Cookie": f"session={jwt}; a={key}"}]
    headers += [{"Cookie": f"assetgate_guest={guest}"}, {"Cookie": f"assetgate_guest={changed['guest']}"}]
    headers += [{"Cookie": f"better-auth.session_token={better_auth}"}, {"Referer": f"https://app/?token={token}"}]
    targets = [
        f"{ASSETS}/{asset_id}",
        f"{ASSETS}/{asset_id}?token={token}",
        f"{ASSETS}/{asset_id}?token={changed['token']}",
        f"{ASSETS}/{asset_id}?token={token}&token={jwt}",
        f"{ASSETS}/{asset_id}/explain?token={token}&as=user:u_1",
        f"/api/proxy/file?url={ASSETS}/{asset_id}?token={token}",
        f"/api/proxy/file?url=https://example.com/?key={key}",
        f"{ASSETS}?cursor={jwt}&access_token={key}",
        f"/nowhere?session={guest}",
    ]
    for target in targets:
        for sent_headers in headers:
            async with client.get(target, headers=sent_headers, allow_redirects=False) as response:
                await response.read()
    for data in (b"{", orjson.dumps({"token": token, "key": key}), orjson.dumps({"document": f"{token} {jwt}"})):
        for path in (f"{ASSETS}/sign", f"{ASSETS}/resolve", UPLOAD):
            async with client.post(path, data=data, headers={"Authorization": f"Bearer {key}"}) as response:
                await response.read()
    return [jwt, key, guest, token, better_auth, *changed.values(), *_spelt_otherwise(jwt, key, guest, token)]


def _spelt_otherwise(*texts: str) -> list[Any]:
    """The same in base64 and in hex: a log that encodes is a log that tells."""
    return [spelt for text in texts for spelt in (base64.b64encode(text.encode()).decode(), text.encode().hex())]
