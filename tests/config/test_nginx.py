"""The shipped nginx.conf, run by a real nginx over TLS and HTTP/2."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from tests.config.shipped import CONFIG, NAME, Front, Standing, front, standing
from tests.support.delivery import CASES, Known
from tests.support.gateway import PNG, UPLOAD, Running, running, user_headers
from tests.support.raw import PATIENCE
from tests.support.servers import processes
from tests.support.servers.nginx import Start
from tests.support.storage import content

CONTENT = PNG + content("nginx", 600_000)
PIECE = bytes(256 * 1024)
MANY = 256  # pieces: 64 MiB, more than nginx and the kernel may hold of one body
STALL = 1.0  # seconds without room for another piece
MOST_MEMORY = 32 * 1024 * 1024  # bytes of one nginx process
LONGEST_LINE = 8000  # bytes of a header that nginx takes by default
OWNER = user_headers("u_1")

Place = Callable[[str], Front]


@pytest.fixture
def place(nginx: Start, tmp_path: Path) -> Place:
    """Start nginx with the shipped file before whatever is at a URL."""
    return lambda url: front(nginx, tmp_path, url)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    trusted = {"server.trusted_proxies": ["127.0.0.1"], "purposes.avatar.max_bytes": 1000}
    async with running(trusted, folder=tmp_path) as started:
        yield started


@pytest.fixture
async def told() -> AsyncIterator[Standing]:
    """A server that says what it was told."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"target": request.raw_path, **request.headers})

    async with standing(answer) as server:
        yield server


def test_the_shipped_file_is_valid(place: Place) -> None:
    started = place("http://127.0.0.1:1")
    started.nginx.stop()
    assert "[emerg]" not in started.nginx.log
    assert "[warn]" not in started.nginx.log or "http2" in started.nginx.log  # newer ones would have `http2 on;`


async def test_a_signed_range_over_http2_is_exact(gateway: Running, place: Place) -> None:
    signed = await gateway.sign(await gateway.asset(CONTENT))
    answer = await place(gateway.url).ask(signed, "--range", "1000-400999")
    assert (answer.version, answer.status) == ("HTTP/2", 206)
    assert answer.headers["Content-Range"] == f"bytes 1000-400999/{len(CONTENT)}"
    assert answer.body == CONTENT[1000:401000]


async def test_the_delivery_table_holds_behind_it(gateway: Running, place: Place) -> None:
    path = f"/api/storage/assets/{await gateway.asset(CONTENT)}"
    first = await (proxied := place(gateway.url)).ask(path, headers=OWNER)
    known = Known(len(CONTENT), first.headers["ETag"], int(gateway.clock()))
    found = {}
    async with proxied.connected() as connection:
        for case in CASES:
            lines = case.headers(known)
            if not passes(lines):
                continue
            answer = await connection.ask(case.method, path, [*OWNER.items(), *lines])
            faults = case.faults(known, answer.status, answer.headers)
            if answer.status in {200, 206} and answer.body != case.body(known, CONTENT):
                faults.append("the body is another")
            if faults:
                found[case.name] = faults
    assert found == {}


def passes(lines: list[tuple[str, str]]) -> bool:
    """Tell whether nginx takes them at all: it answers 400 to long lines, and to a condition on two lines."""
    return len(dict(lines)) == len(lines) and all(len(value) <= LONGEST_LINE for _, value in lines)


async def test_an_upload_passes_as_it_comes(place: Place) -> None:
    pieces: asyncio.Queue[int] = asyncio.Queue()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        async for piece in request.content.iter_any():
            pieces.put_nowait(len(piece))
        return web.Response(text="whole")

    async with standing(answer) as server, (proxied := place(server.url)).connected() as connection:
        connection.send("POST", UPLOAD, [("Content-Length", str(MANY * len(PIECE)))])
        connection.writer.write(PIECE)
        async with asyncio.timeout(PATIENCE):
            assert await pieces.get()  # long before the rest is sent
        for _ in range(MANY - 1):
            connection.writer.write(PIECE)
            await connection.writer.drain()
        assert (await connection.answer("POST")).body == b"whole"
        assert proxied.on_disk() == []
        assert proxied.most_memory() < MOST_MEMORY


async def test_an_upload_over_http2_arrives_whole(gateway: Running, place: Place, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(CONTENT * 20)
    answer = await place(gateway.url).ask(
        UPLOAD,
        *("--form", "purpose=reference_image", "--form", f"files=@{tmp_path / 'picture.png'}"),
        headers=OWNER,
    )
    assert (answer.version, answer.status) == ("HTTP/2", 200), answer.body
    assert f'"sizeBytes":{len(CONTENT) * 20}'.encode() in answer.body


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
async def test_an_upload_past_its_limit_is_refused_in_the_gateways_words(
    gateway: Running, place: Place, tmp_path: Path, version: str
) -> None:
    (tmp_path / "picture.png").write_bytes(CONTENT * 20)
    answer = await place(gateway.url).ask(
        UPLOAD,
        *("--form", "purpose=avatar", "--form", f"files=@{tmp_path / 'picture.png'}", version),
        headers=OWNER,
    )
    assert (answer.status, answer.headers["Content-Type"]) == (413, "application/problem+json"), answer.body
    assert b'"file_too_large"' in answer.body


async def test_json_that_is_far_too_long_never_reaches_the_gateway(
    told: Standing, place: Place, tmp_path: Path
) -> None:
    (tmp_path / "large.json").write_bytes(bytes(10 * 1024 * 1024))
    answer = await place(told.url).ask("/api/storage/assets/sign", "--data-binary", f"@{tmp_path / 'large.json'}")
    assert (answer.status, answer.headers["Content-Type"]) == (413, "application/problem+json")
    assert b'"request_too_large"' in answer.body
    assert told.asked == []


async def test_a_slow_reader_fills_neither_memory_nor_disk_and_an_abort_passes(place: Place) -> None:
    stalled, gone = asyncio.Event(), asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(MANY * len(PIECE))})
        await response.prepare(request)
        try:
            for _ in range(MANY):
                writing = asyncio.ensure_future(response.write(PIECE))
                if writing not in (await asyncio.wait([writing], timeout=STALL))[0]:
                    stalled.set()
                await writing
        finally:
            gone.set()
        return response

    async with standing(answer) as server:
        proxied = place(server.url)
        async with proxied.connected() as connection:
            connection.send("GET", "/api/storage/assets/never-read-by-anyone")
            async with asyncio.timeout(PATIENCE):
                await stalled.wait()
            assert not gone.is_set()
            assert proxied.on_disk() == []
        async with asyncio.timeout(PATIENCE):
            await gone.wait()
        assert proxied.most_memory() < MOST_MEMORY


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
async def test_nobody_can_say_who_they_are_but_nginx(told: Standing, place: Place, version: str) -> None:
    spoofed = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.example.com",
        "X-Request-Id": "chosen-by-the-client",
        "X-Original-URI": "/api/storage/assets/somebody-elses",
        "Forwarded": "for=203.0.113.9",
    }
    answer = await place(told.url).ask("/anything?a=b", version, headers=spoofed)
    assert answer.status == 200
    heard = told.last.headers
    assert (heard["X-Forwarded-For"], heard["X-Forwarded-Proto"]) == ("127.0.0.1", "https")
    assert (heard["Host"], heard["X-Forwarded-Host"]) == (NAME, NAME)
    assert re.fullmatch("[0-9a-f]{32}", heard["X-Request-Id"])
    assert not {"Forwarded", "X-Original-URI"} & set(heard)
    assert told.last.raw_path == "/anything?a=b"


async def test_a_host_beside_the_one_that_was_asked_for_is_not_believed(told: Standing, place: Place) -> None:
    async with place(told.url).connected() as connection:
        connection.writer.write(f"GET https://{NAME}/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n".encode())
        assert (await connection.answer("GET")).status == 200
    assert (told.last.headers["Host"], told.last.headers["X-Forwarded-Host"]) == (NAME, NAME)


async def test_another_name_is_not_answered(told: Standing, place: Place) -> None:
    async with place(told.url).connected() as connection:
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n")
        assert await connection.reader.read() == b""
    assert told.asked == []


async def test_the_gateway_believes_what_nginx_says(gateway: Running, place: Place) -> None:
    document = (await (proxied := place(gateway.url)).ask("/api/storage/assets/none-such-1/info", headers=OWNER)).body
    request_id = re.search(rb'"request_id":"([0-9a-f]{32})"', document)
    assert request_id is not None
    assert request_id[1].decode() in proxied.written


async def test_nothing_is_kept_from_one_caller_for_another(gateway: Running, place: Place) -> None:
    proxied, path = place(gateway.url), f"/api/storage/assets/{await gateway.asset(CONTENT)}"
    asked = [OWNER, {}, user_headers("u_2"), OWNER]
    assert [(await proxied.ask(path, headers=headers)).status for headers in asked] == [200, 404, 404, 200]
    async with gateway.client.delete(path, headers=OWNER) as deleted:
        assert deleted.status == 200
    assert (await proxied.ask(path, headers=OWNER)).status == 410


async def test_every_read_asks_the_gateway(place: Place) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=CONTENT, headers={"Cache-Control": "public, max-age=300", "ETag": '"a"'})

    async with standing(answer) as server:
        proxied = place(server.url)
        assert [(await proxied.ask("/api/storage/assets/shared-by-all")).status for _ in range(3)] == [200] * 3
        assert len(server.asked) == 3


async def test_its_logs_know_no_tokens_even_when_the_gateway_is_away(gateway: Running, place: Place) -> None:
    signed = await gateway.sign(await gateway.asset(CONTENT))
    secret = signed.partition("token=")[2]
    away = f"http://127.0.0.1:{processes.free_port()}"
    for url, status in [(gateway.url, 200), (away, 503)]:
        proxied = place(url)
        headers = {"Referer": f"https://{NAME}{signed}", "Cookie": f"session={secret}", "X-Request-Id": secret}
        assert (await proxied.ask(signed, headers=headers)).status == status
        proxied.nginx.stop()
        assert signed.partition("?")[0] in proxied.written
        assert secret[-40:] not in proxied.written


async def test_a_gateway_that_is_away_is_told_in_its_own_form(place: Place) -> None:
    answer = await place(f"http://127.0.0.1:{processes.free_port()}").ask("/api/storage/assets/any-asset-id")
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert (answer.headers["Retry-After"], answer.headers["Cache-Control"]) == ("5", "no-store")
    assert f'"request_id":"{answer.headers["X-Request-Id"]}"'.encode() in answer.body


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 200), ("127.0.0.2", 403)])
@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
async def test_what_is_the_operators_is_open_from_here_alone(
    told: Standing, place: Place, path: str, address: str, status: int
) -> None:
    assert (await place(told.url).ask(path, "--interface", address)).status == status


async def test_connections_to_the_gateway_are_kept(told: Standing, place: Place) -> None:
    proxied = place(told.url)
    for _ in range(5):
        await proxied.ask("/healthz")
    assert len(told.asked) == 5
    assert len(told.peers) == 1


def test_the_limit_of_json_leaves_the_gateways_own_to_answer() -> None:
    limit = re.search(r"client_max_body_size (\d+)m;", (CONFIG / "nginx.conf").read_text())
    own = re.search(r'max_json_bytes = "(\d+) MiB"', (CONFIG / "default.toml").read_text())
    assert limit is not None
    assert own is not None
    assert int(own[1]) < int(limit[1])
