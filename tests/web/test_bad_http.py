"""Each of these is answered with a 4xx, in time, and leaves nothing behind: no record, object, file or task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.gateway import PNG, Running, service_headers
from tests.support.raw import connected
from tests.support.refusals import told, untouched
from tests.support.wire import BOUNDARY, END, answer_of, exchange, field_part, file_part, head_of

MIB = 1024**2
SIGN = "/api/storage/assets/sign"
FORM = field_part("purpose", b"reference_image") + file_part(PNG) + END


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    async with untouched(tmp_path) as started:
        yield started


@pytest.mark.parametrize(
    "body", [b"5\r\nabc", b"zz\r\nabc\r\n", b"5\r\nabcdefgh\r\n", b"-5\r\nabcde\r\n", b"5;\0\r\nabcde\r\n"]
)
@pytest.mark.parametrize("path", ["/api/storage/upload-media", SIGN])
async def test_chunks_that_are_no_chunks_are_refused(gateway: Running, path: str, body: bytes) -> None:
    headers = {**service_headers(), "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    head = head_of("POST", path, {**headers, "Transfer-Encoding": "chunked"})
    async with connected(gateway.url) as connection:
        connection.writer.write(head + body)
        if body == b"5\r\nabc":
            connection.writer.write_eof()
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # or it hangs up
            assert (await answer_of(connection)).status == 400


ODD_IDS = [
    "short",
    "a" * 65,
    "-aaaaaaaa",
    "_aaaaaaaa",
    "aaaaaaa.",
    "aaaa%2Faaaa",
    "aaaa%00aaaa",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%2f..%2fobjects",
    "aaaaaaa%20",
    "%FF%FE%FD%FC%FB%FA%F9%F8",
    "%ED%A0%80aaaaaaaa",
    "%F0%9F%A6%9Caaaaaaaa",
    "aaaaaaaa%0d%0aX-Injected:%201",
    "aaaaaaaa;x=1",
    "'or'1'='1",
    "%25%25%25%25%25%25%25%25",
    "{id}{id}{id}",
    "aaaaaaaa%",
    "aaaaaaaa%zz",
    "%F0%9F%A6%9C" * 8,
    "a" * 5000,
]


@pytest.mark.parametrize("asset_id", ODD_IDS)
@pytest.mark.parametrize(
    ("method", "tail"), [("GET", ""), ("HEAD", ""), ("GET", "/info"), ("POST", "/revoke"), ("DELETE", "")]
)
async def test_an_id_that_cannot_be_one_is_not_found(gateway: Running, asset_id: str, method: str, tail: str) -> None:
    head = head_of(method, f"/api/storage/assets/{asset_id}{tail}", service_headers())
    async with connected(gateway.url) as connection:
        connection.writer.write(head)
        if method == "HEAD":
            assert (await connection.reader.readline()).split()[1] == b"404"
            return
        answer = await answer_of(connection)
    told(answer, 404, "not_found")
    assert "X-Injected" not in answer.headers


NO_HTTP = {
    "TLS": bytes.fromhex("16030100c8010000c403034f"),
    "NULs": bytes(4096),
    "a text": b"hello, is there anybody?\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a target that is not ASCII": b"GET /\xf0\x9f\xa6\x9c HTTP/1.1\r\nHost: a\r\n\r\n",
    "another version": b"GET /healthz HTTP/9.9\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\nHost: a\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a header without colon": b"GET /healthz HTTP/1.1\r\nHost\r\n\r\n",
    "a header with NUL": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "a header name with a space": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
    "a header of a megabyte": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"x" * MIB + b"\r\n\r\n",
    "100,000 headers": b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    "a target of a megabyte": b"GET /" + b"x" * MIB + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "two lengths": b"POST "
    + SIGN.encode()
    + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "a length below nothing": b"POST " + SIGN.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "a length with a sign": b"POST " + SIGN.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{}",
    "a length and chunks": b"POST "
    + SIGN.encode()
    + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST " + SIGN.encode() + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n{}",
}


@pytest.mark.parametrize("name", NO_HTTP)
async def test_what_is_no_http_is_refused_or_hung_up_on(gateway: Running, name: str) -> None:
    async with connected(gateway.url) as connection:
        with suppress(ConnectionError):
            connection.writer.write(NO_HTTP[name])
            await connection.writer.drain()
        if name == "SSH":
            connection.writer.write_eof()
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            answer = await answer_of(connection)
            assert 400 <= answer.status < 500, answer
            assert b"Traceback" not in answer.body


GARBAGE = {
    "Authorization": [
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "\udcff\udcfe",
        "Bearer \udcff",
        "Bearer " + "x" * 7000,
        "Bearer a.b.c",
        "ag_x",
    ],
    "Cookie": ["assetgate_guest", "assetgate_guest=", "assetgate_guest=\udcff", "assetgate_guest=v1.x.y", "=;=;;=,"],
    "Content-Type": ["\udcff", ";;;=", "application/json; charset=\udcff", "application/json; charset=no-such"],
    "Origin": ["\udcff", "null", "http://[", "://"],
    "X-Forwarded-For": ["\udcff", "not an address", ",,,", "::ffff:1.2.3.4.5"],
    "X-Forwarded-Host": ["\udcff", "http://[", "a b"],
    "X-Request-Id": ["\udcff", "x" * 5000, "<script>"],
    "Host": ["\udcff", "[", "a:b:c", "a:99999999"],
    "Range": ["bytes=\udcff", "bytes=" + "0-1," * 1500],
    "If-Modified-Since": ["\udcff", "Sun, 99 Foo 99999999999 99:99:99 GMT"],
    "If-None-Match": ["\udcff", '"' * 5000],
    "Expect": ["\udcff", "200-maybe"],
    "Content-Encoding": ["\udcff", "nonsense"],
    "Accept-Encoding": ["\udcff"],
    "Connection": ["\udcff", "Upgrade"],
    "Upgrade": ["websocket", "h2c"],
    "Sec-Fetch-Site": ["\udcff"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in GARBAGE for value in GARBAGE[name]])
async def test_garbage_in_a_header_is_no_trouble_of_ours(gateway: Running, name: str, value: str) -> None:
    body = b'{"assetIds": ["aaaaaaaa"]}'
    credentials = {} if name in {"Authorization", "Cookie"} else service_headers()
    for method, path, content in (
        ("GET", "/api/storage/assets/aaaaaaaa", b""),
        ("GET", "/api/storage/assets", b""),
        ("POST", SIGN, body),
        ("POST", "/api/storage/upload-media", FORM[:-20]),
        ("GET", "/api/proxy/file?url=https://%5B/x", b""),
    ):
        lines = {**credentials, "Content-Length": str(len(content)), name: value}
        if name != "Content-Type" and "upload" in path:
            lines["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
        head = head_of(method, path, lines)
        if name == "Host":
            head = head.replace(b"Host: gateway.test\r\n", b"")
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            answer = await exchange(gateway.url, head + content)
            assert answer.status < 500, (method, path, answer)
            if answer.status >= 400:
                told(answer, answer.status, answer.document["error"])
