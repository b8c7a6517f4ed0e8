"""Each of these is answered with a 4xx, in time, and leaves nothing behind: no record, object, file or task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.gateway import PNG, Running, running, user_headers
from tests.support.media import Media
from tests.support.raw import Answer, connected
from tests.support.refusals import connections, files_in, told, untouched
from tests.support.wire import END, answer_of, chunked, exchange, field_part, file_part, head_of, head_of_upload, part

KIB, MIB, GIB = 1024, 1024**2, 1024**3
IMAGE = field_part("purpose", b"reference_image")
FILE = file_part(PNG)
QUICKLY = {"server.body_timeout": 0.2}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    async with untouched(tmp_path) as started:
        yield started


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
    async with untouched(tmp_path, QUICKLY) as gateway:
        for length in (len(FORM) + 50, None):
            body = FORM[:sent] if length else chunked(FORM[:sent]) if sent else b""
            async with connected(gateway.url) as connection:
                connection.writer.write(head_of_upload(user_headers(), length=length) + body)
                told(await answer_of(connection), 408, "request_timeout")


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


async def test_fifty_clients_that_die_at_once_leave_nothing(gateway: Running) -> None:
    async def die(number: int) -> None:
        async with connected(gateway.url) as connection:
            body = IMAGE + FILE + file_part(PNG + bytes(2 * MIB))
            connection.writer.write(head_of_upload(user_headers(), length=4 * MIB) + body[: number * 40 * KIB])
            await connection.writer.drain()
            connection.writer.transport.abort()

    await asyncio.gather(*(die(number) for number in range(50)))


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
            assert [name for name in files_in(tmp_path) if "assetgate.db" not in name] == ["objects"]


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
