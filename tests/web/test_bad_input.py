"""Each of these is answered with a 4xx, in time, and leaves nothing behind: no record, object, file or task."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.gateway import PNG, Running, running, service_headers, user_headers
from tests.support.media import Media
from tests.support.raw import Answer, connected
from tests.support.wire import (
    BOUNDARY,
    END,
    answer_of,
    chunked,
    exchange,
    field_part,
    file_part,
    head_of,
    head_of_upload,
    part,
    send_until_answered,
)

KIB, MIB, GIB = 1024, 1024**2, 1024**3
IMAGE = field_part("purpose", b"reference_image")
FILE = file_part(PNG)
SIGN = "/api/storage/assets/sign"
QUICKLY = {"server.body_timeout": 0.2}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    """A gateway that is checked after the test: it still works, and nothing was left in it."""
    async with running(folder=tmp_path) as started:
        yield started
        await assert_untouched(started, tmp_path)


async def assert_untouched(gateway: Running, folder: Path) -> None:
    async with asyncio.timeout(20):  # a task that only ends at the gateway's own time-outs counts as leaked
        while connections():  # noqa: ASYNC110 - the server's tasks have no event
            await asyncio.sleep(0.01)
    assert await gateway.records() == []
    assert await gateway.objects() == []
    assert names_in(folder / "objects/.tmp") == []
    async with gateway.client.get("/readyz") as response:
        assert response.status == 200


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def connections() -> list[str]:
    """The tasks that serve connections, but for the idle one that the test's own client keeps."""
    tasks = [task.get_coro() for task in asyncio.all_tasks()]
    return [name for coro in tasks if "RequestHandler._handle_request" in (name := getattr(coro, "__qualname__", ""))]


def told(answer: Answer, status: int, error: str) -> dict[str, str]:
    """Check that the answer is this error in the contract's shape; return what it says of single fields."""
    document = answer.document
    assert (answer.status, document["error"]) == (status, error), document
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert document["type"] == f"urn:assetgate:{error}"
    assert (document["status"], document["code"]) == (status, -1)
    assert document["request_id"] == answer.headers["X-Request-Id"]
    assert len(answer.body) < 4 * KIB, "a small question for a large answer"
    fields: dict[str, str] = document.get("fields", {})
    return fields


async def upload(gateway: Running, *pieces: bytes, **headers: str) -> Answer:
    """Send a form as it stands, its length announced rightly."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    head = head_of_upload({**user_headers(), **named}, length=sum(map(len, pieces)))
    return await exchange(gateway.url, head, *pieces)


def with_type(content_type: str, body: bytes) -> bytes:
    headers = {**user_headers(), "Content-Type": content_type, "Content-Length": str(len(body))}
    return head_of("POST", "/api/storage/upload-media", headers) + body


FORM = IMAGE + FILE + END
HEADER = b'Content-Disposition: form-data; name="files"; filename="a.png"'
MALFORMED = {
    "no form at all": b"hello, world",
    "nothing": b"",
    "only the end": END,
    "no end": IMAGE + FILE,
    "an end without its dashes": IMAGE + FILE + b"--limit\r\n",
    "cut off in a file": FORM[: -len(END) - 30],
    "cut off in a header": IMAGE + b"--limit\r\nContent-Dispo",
    "cut off in the second file": IMAGE + FILE + FILE[:-20],
    "a header without colon": IMAGE + part(b"Content-Disposition", PNG) + END,
    "a header that is no name": IMAGE + part(b"\0\1: x", PNG) + END,
    "a header that is not UTF-8": IMAGE + part(b'Content-Disposition: form-data; name="\xff"', PNG) + END,
    "a part without name": IMAGE + part(b"Content-Disposition: form-data", PNG) + END,
    "a part without disposition": IMAGE + part(b"Content-Type: image/png", PNG) + END,
    "a part without headers": IMAGE + b"--limit\r\n\r\n" + PNG + b"\r\n" + END,
    "bare line feeds": FORM.replace(b"\r\n", b"\n"),
    "something behind the boundary": IMAGE + b"--limit!\r\n" + FILE,
    "a folded header": IMAGE + part(HEADER + b";\r\n\tx=y", PNG) + END,
    "a field that is not UTF-8": IMAGE + field_part("visibility", b"\xff\xfe") + FILE + END,
    "NUL in front": b"\0" + FORM,
    "a lone surrogate in a file name": IMAGE + file_part(PNG, "\udced\udca0\udc80.png") + END,
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_form_is_refused(gateway: Running, name: str) -> None:
    answer = await upload(gateway, MALFORMED[name])
    if name == "only the end":
        assert told(answer, 422, "invalid_request") == {"files": "is missing"}
    else:
        told(answer, 400, "invalid_request")


CONTENT_TYPES = {
    "no boundary": "multipart/form-data",
    "an empty boundary": 'multipart/form-data; boundary=""',
    "another multipart type": "multipart/mixed; boundary=limit",
    "another type": "application/json",
    "text": "boundary=limit",
    "a boundary that is too long": "multipart/form-data; boundary=" + "x" * 2000,
    "a boundary that is not ASCII": "multipart/form-data; boundary=\udcff\udcfe",
    "nothing": "",
}


@pytest.mark.parametrize("name", CONTENT_TYPES)
async def test_a_content_type_without_a_usable_boundary_is_refused(gateway: Running, name: str) -> None:
    told(await exchange(gateway.url, with_type(CONTENT_TYPES[name], FORM)), 400, "invalid_request")


@pytest.mark.parametrize("boundary", ["another", "limi", "limit2"])
async def test_a_wrong_boundary_is_told_before_all_is_read(gateway: Running, boundary: str) -> None:
    async with connected(gateway.url) as connection:
        connection.writer.write(head_of_upload(user_headers(), length=GIB, boundary=boundary) + FORM)
        told(await answer_of(connection), 400, "invalid_request")


@pytest.mark.parametrize("tiny", [field_part("note", b""), file_part(b"", "a"), file_part(b"x", "a")])
async def test_ten_thousand_tiny_parts_are_too_many(gateway: Running, tiny: bytes) -> None:
    answer = await upload(gateway, IMAGE, tiny * 10_000, END)
    assert answer.status in {413, 422}
    told(answer, answer.status, answer.document["error"])


@pytest.mark.parametrize(
    "head",
    [
        HEADER + b"\r\nX-Long: " + b"x" * MIB,
        HEADER + b"\r\nX-Long: x" * (MIB // 10),
        HEADER[:-1] + b"x" * MIB + b'"',
        b"x" * MIB,
    ],
)
async def test_a_part_header_of_a_megabyte_is_too_large(gateway: Running, head: bytes) -> None:
    told(await upload(gateway, IMAGE, part(head, PNG), END), 413, "request_too_large")


async def test_a_field_of_a_megabyte_is_too_large(gateway: Running) -> None:
    told(await upload(gateway, field_part("purpose", b"x" * MIB), FILE, END), 413, "request_too_large")


async def test_a_file_of_no_bytes_is_refused(gateway: Running) -> None:
    answer = await upload(gateway, IMAGE, file_part(b""), END)
    assert told(answer, 422, "invalid_request") == {"files": "is empty"}


async def test_a_content_length_shorter_than_the_body_is_refused(gateway: Running) -> None:
    head = head_of_upload(user_headers(), length=len(FORM) - 50)
    told(await exchange(gateway.url, head + FORM), 400, "invalid_request")


@pytest.mark.parametrize("sent", [0, 40, len(IMAGE) + 20, len(FORM) - 1])
async def test_a_body_that_never_ends_is_not_waited_for_for_ever(tmp_path: Path, sent: int) -> None:
    async with running(QUICKLY, folder=tmp_path) as gateway:
        for length in (len(FORM) + 50, None):
            body = FORM[:sent] if length else chunked(FORM[:sent]) if sent else b""
            async with connected(gateway.url) as connection:
                connection.writer.write(head_of_upload(user_headers(), length=length) + body)
                told(await answer_of(connection), 408, "request_timeout")
        await assert_untouched(gateway, tmp_path)


@pytest.mark.parametrize("sent", [0, 9])
async def test_json_that_never_ends_is_not_waited_for_for_ever(tmp_path: Path, sent: int) -> None:
    async with running(QUICKLY, folder=tmp_path) as gateway:
        async with connected(gateway.url) as connection:
            connection.writer.write(
                head_of("POST", SIGN, {**service_headers(), "Content-Length": "100"}) + b'{"assetId'[:sent]
            )
            told(await answer_of(connection), 408, "request_timeout")
        await assert_untouched(gateway, tmp_path)


@pytest.mark.parametrize("sent", [0, 40, len(IMAGE) + 200, 3 * MIB])
@pytest.mark.parametrize("way", ["close", "half-close", "reset"])
@pytest.mark.parametrize("length", [4 * MIB, None])
async def test_a_client_that_dies_in_the_middle_leaves_nothing(
    gateway: Running, sent: int, way: str, length: int | None
) -> None:
    body = (IMAGE + FILE + file_part(PNG + bytes(4 * MIB)))[:sent]
    async with connected(gateway.url) as connection:
        connection.writer.write(
            head_of_upload(user_headers(), length=length) + (chunked(body) if length is None and body else body)
        )
        await connection.writer.drain()
        async with asyncio.timeout(10):
            while not connections():  # noqa: ASYNC110 - the server's tasks have no event
                await asyncio.sleep(0.001)
        if way == "reset":
            connection.writer.transport.abort()
        elif way == "half-close":
            connection.writer.write_eof()
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                assert (await answer_of(connection)).status == 400
    await assert_untouched(gateway, gateway_folder(gateway))


def gateway_folder(gateway: Running) -> Path:
    return Path(gateway.parts.settings.storage.removeprefix("file:///")).parent


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


class TestFileNames:
    @pytest.mark.parametrize(
        ("sent", "kept"),
        [
            ("../../../etc/passwd", "passwd"),
            ("..", None),
            ("/", None),
            ("..\\..\\boot.ini", "boot.ini"),
            ("C:\\photos\\me.png", "me.png"),
            ("a%00b.png", "a%00b.png"),
            ("%F0%9F%A6%9C.png", "%F0%9F%A6%9C.png"),
            ("a\0b.png", "ab.png"),
            ("\U0001f99c\U00010348.png", "\U0001f99c\U00010348.png"),
            ("\u202egnp.exe", "gnp.exe"),
            ("e\u0301.png", "\u00e9.png"),
            ("\U0001f99c" * 100 + ".png", "\U0001f99c" * 63),
            ("a\tb\x7f.png", "ab.png"),
            ("<script>.png", "<script>.png"),
        ],
    )
    async def test_a_name_is_only_ever_a_name(self, tmp_path: Path, sent: str, kept: str | None) -> None:
        async with running(folder=tmp_path) as gateway:
            answer = await upload(gateway, IMAGE, file_part(PNG, sent), END)
            assert answer.status == 200, answer.body
            info = f"{answer.document['data']['previewUrl']}/info"
            async with gateway.client.get(info, headers=user_headers()) as response:
                found = (await response.json())["data"]["filename"]
            assert found == kept
            assert [name for name in names_in(tmp_path) if "assetgate.db" not in name] == ["objects"]


class TestTypes:
    @pytest.mark.parametrize(
        ("data", "found"),
        [
            (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "image/svg+xml"),
            (b'<?xml version="1.0"?><!-- x --><svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
            (b"\xef\xbb\xbf \n<SVG/>", "image/svg+xml"),
            (b"<!DOCTYPE html><script>alert(1)</script>", "text/html"),
            (b"  <html><body onload=alert(1)>", "text/html"),
            (b"GIF89a/*<svg/onload=alert(1)>*/=1;", "image/svg+xml"),
            (b"GIF89a=0;//<script>alert(1)</script>", "text/html"),
            (b"GIF87a<html><script>alert(1)</script>", "text/html"),
            (b"BM<script>alert(1)</script>" + b" " * 40, "text/html"),
            (b"AC10<script>alert(1)</script>", "text/html"),
            (b"ID3<script>alert(1)</script>", "text/html"),
            (b"just a text", "text/plain"),
            (b"\0\1\2\3" * 10, "application/octet-stream"),
            (b"%PDF-1.7\n", "application/pdf"),
            (b"MZ" + bytes(100), "application/x-msdownload"),
            (b"GIF89a", "text/plain"),
        ],
    )
    async def test_what_is_no_picture_is_refused_whatever_it_is_called(
        self, gateway: Running, data: bytes, found: str
    ) -> None:
        disposition = HEADER + b"\r\nContent-Type: image/png"
        answer = await upload(gateway, IMAGE, part(disposition, data), END)
        assert told(answer, 415, "type_not_allowed") == {"files": found}

    async def test_a_gif_with_a_script_in_it_is_only_ever_a_gif(self, tmp_path: Path, media: Media) -> None:
        gif = media.gif.read_bytes() + b"<script>alert(1)</script>"
        async with running(folder=tmp_path) as gateway:
            asset_id = await gateway.asset(gif, filename="page.html", visibility="public")
            async with gateway.client.get(f"/api/storage/assets/{asset_id}") as response:
                assert response.headers["Content-Type"] == "image/gif"
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


def nested(opening: bytes, closing: bytes) -> bytes:
    return b'{"assetIds":' + opening * 10_000 + closing * 10_000 + b"}"


NO_JSON = {
    "nothing": b"",
    "no JSON": b"assetIds=1",
    "cut off": b'{"assetIds": ["abc',
    "two documents": b"{}{}",
    "a comment": b"{/* */}",
    "single quotes": b"{'assetIds': []}",
    "not UTF-8": b'{"assetIds": ["\xff"]}',
    "UTF-16": '{"assetIds": []}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"assetIds": []}',
    "NaN": b'{"expiresInSeconds": NaN}',
    "infinity": b'{"expiresInSeconds": -Infinity}',
    "duplicate keys": b'{"assetIds": ["aaaaaaaa"], "assetIds": ["bbbbbbbb"]}',
    "duplicate keys inside": b'{"assetIds": [{"a": 1, "\\u0061": 2}]}',
    "lists 10,000 deep": nested(b"[", b"]"),
    "objects 10,000 deep": nested(b'{"a":', b"1}")[:-1],
    "10,000 openings": b"[" * 10_000,
    "a lone surrogate": b'{"assetIds": ["\\ud800"]}',
    "a raw NUL": b'{"assetIds": ["\0"]}',
}


@pytest.mark.parametrize("name", NO_JSON)
@pytest.mark.parametrize("path", [SIGN, "/api/storage/assets/resolve"])
async def test_what_is_no_json_is_refused(gateway: Running, path: str, name: str) -> None:
    told(await post(gateway, path, NO_JSON[name]), 400, "invalid_request")


async def post(gateway: Running, path: str, body: bytes, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    head = head_of("POST", path, {**service_headers(), "Content-Length": str(len(body)), **named})
    return await exchange(gateway.url, head, body)


WRONG_JSON: list[tuple[str, bytes, str]] = [
    (SIGN, b"[]", "body"),
    (SIGN, b"null", "body"),
    (SIGN, b'"asset://aaaaaaaa"', "body"),
    (SIGN, b"{}", "assetRefs"),
    (SIGN, b'{"assetIds": "aaaaaaaa"}', "assetIds"),
    (SIGN, b'{"assetIds": {"aaaaaaaa": 1}}', "assetIds"),
    (SIGN, b'{"assetIds": [1]}', "assetIds.0"),
    (SIGN, b'{"assetIds": ["aaaaaaaa", null]}', "assetIds.1"),
    (SIGN, b'{"assetIds": ["aaaaaaaa"], "expiresInSeconds": "60"}', "expiresInSeconds"),
    (SIGN, b'{"assetIds": ["aaaaaaaa"], "expiresInSeconds": 1.5}', "expiresInSeconds"),
    (SIGN, b'{"assetIds": ["aaaaaaaa"], "expiresInSeconds": true}', "expiresInSeconds"),
    (SIGN, b'{"assetIds": ["aaaaaaaa"], "expiresInSeconds": 0}', "expiresInSeconds"),
    (SIGN, b'{"assetIds": ["aaaaaaaa"], "expiresInSeconds": 604801}', "expiresInSeconds"),
    (SIGN, b'{"assetIds": ["aaaaaaaa"], "expiresInSeconds": 1e300}', "expiresInSeconds"),
    (SIGN, b'{"assetIds": ["aaaaaaaa"], "expiresInSeconds": ' + b"9" * 5000 + b"}", "expiresInSeconds"),
    (SIGN, b'{"assetIds": ["aaaaaaaa"], "window": -1}', "window"),
    (SIGN, b'{"assetIds": ["aaaaaaaa"], "window": 99999999999}', "window"),
    (SIGN, b'{"assetIds": ["aaaaaaaa"], "download": ""}', "download"),
    (SIGN, b'{"assetIds": ["aaaaaaaa"], "asset_ids": []}', "asset_ids"),
    (SIGN, b'{"assetIds": ["aaaaaaaa"], "admin": true}', "admin"),
    ("/api/storage/assets/resolve", b"{}", "document"),
    ("/api/storage/assets/resolve", b'{"document": {}, "onDenied": "ignore"}', "onDenied"),
]


@pytest.mark.parametrize(("path", "body", "field"), WRONG_JSON)
async def test_json_that_is_wrong_names_the_field(gateway: Running, path: str, body: bytes, field: str) -> None:
    answer = await post(gateway, path, body)
    if answer.status == 400:  # a number that no parser takes
        assert b"9999" in body
        told(answer, 400, "invalid_request")
    else:
        fields = told(answer, 422, "invalid_request")
        assert [name for name in fields if name == field or name.startswith(f"{field}.")], fields


@pytest.mark.parametrize("entry", [b"1", b"[]", b'"a"'])
async def test_a_million_entries_are_not_weighed_one_by_one(gateway: Running, entry: bytes) -> None:
    body = b'{"assetIds": [' + (entry + b",") * 1_500_000 + entry + b"]}"
    async with asyncio.timeout(10):
        told(await post(gateway, SIGN, body), 422, "invalid_request")


async def test_a_name_of_megabytes_is_not_sent_back(gateway: Running) -> None:
    body = b'{"assetIds": ["aaaaaaaa"], "' + b"x" * (5 * MIB) + b'": 1}'
    told(await post(gateway, SIGN, body), 422, "invalid_request")


async def test_a_million_unknown_names_are_not_sent_back(gateway: Running) -> None:
    body = b"{" + b",".join(b'"%d":1' % number for number in range(500_000)) + b"}"
    told(await post(gateway, SIGN, body), 422, "invalid_request")


@pytest.mark.parametrize("split", [0, 500, 1001])
async def test_more_than_a_thousand_references_are_too_many(gateway: Running, split: int) -> None:
    ids = [f"asset-{number:08}" for number in range(1001)]
    body = {"assetIds": ids[:split], "assetRefs": [f"asset://{asset_id}" for asset_id in ids[split:]]}
    async with gateway.client.post(SIGN, json=body, headers=service_headers()) as response:
        assert (response.status, (await response.json())["error"]) == (422, "invalid_request")


@pytest.mark.parametrize("path", [SIGN, "/api/storage/assets/resolve"])
async def test_json_of_a_hundred_megabytes_is_refused_by_its_length(gateway: Running, path: str) -> None:
    async with connected(gateway.url) as connection:
        connection.writer.write(head_of("POST", path, {**service_headers(), "Content-Length": str(100 * MIB)}))
        told(await answer_of(connection), 413, "request_too_large")


async def test_json_of_a_hundred_megabytes_without_length_is_cut_off(gateway: Running) -> None:
    async with connected(gateway.url) as connection:
        connection.writer.write(head_of("POST", SIGN, {**service_headers(), "Transfer-Encoding": "chunked"}))
        connection.writer.write(chunked(b'{"assetIds": ["'))
        sent = await send_until_answered(connection, chunked(b"x" * MIB), most=100)
        told(await answer_of(connection), 413, "request_too_large")
    assert sent < 40, f"{sent} MiB where 8 are allowed"


async def test_ids_of_ten_megabytes_are_too_large(gateway: Running) -> None:
    body = b'{"assetIds": ["' + b"a" * (10 * MIB) + b'"]}'
    told(await post(gateway, SIGN, body), 413, "request_too_large")


async def test_an_id_of_megabytes_is_answered_as_one_that_does_not_exist(gateway: Running) -> None:
    answer = await post(gateway, SIGN, b'{"assetIds": ["' + b"a" * (5 * MIB) + b'"], "assetRefs": ["asset://\\u0000"]}')
    assert [result["error"] for result in answer.document["data"]["results"]] == ["not_found", "not_found"]


class TestCompressedBodies:
    async def test_a_bomb_of_json_is_cut_off(self, gateway: Running) -> None:
        body = gzip.compress(b'{"assetIds": ["' + b"x" * (100 * MIB) + b'"]}', 6)
        told(await post(gateway, SIGN, body, Content_Encoding="gzip"), 413, "request_too_large")

    async def test_a_bomb_of_a_form_is_cut_off(self, gateway: Running) -> None:
        body = gzip.compress(IMAGE + file_part(PNG + bytes(300 * MIB)) + END, 1)
        told(await upload(gateway, body, Content_Encoding="gzip"), 413, "file_too_large")

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
    async def test_what_is_not_compressed_as_it_says_is_refused(self, gateway: Running, encoding: str) -> None:
        for answer in (
            await upload(gateway, FORM, Content_Encoding=encoding),
            await post(gateway, SIGN, b'{"assetIds": ["aaaaaaaa"]}' * 10, Content_Encoding=encoding),
            await post(gateway, SIGN, zlib.compress(b'{"assetIds": []}' * 99)[:-9], Content_Encoding=encoding),
        ):
            told(answer, 400, "invalid_request")


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


async def test_fifty_clients_that_die_at_once_leave_nothing(gateway: Running) -> None:
    async def die(number: int) -> None:
        async with connected(gateway.url) as connection:
            body = IMAGE + FILE + file_part(PNG + bytes(2 * MIB))
            connection.writer.write(head_of_upload(user_headers(), length=4 * MIB) + body[: number * 40 * KIB])
            await connection.writer.drain()
            connection.writer.transport.abort()

    await asyncio.gather(*(die(number) for number in range(50)))
