"""Each of these is answered with a 4xx, in time, and leaves nothing behind: no record, object, file or task."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateway import PNG, Running, service_headers, user_headers
from tests.support.raw import Answer, connected
from tests.support.refusals import told, untouched
from tests.support.wire import (
    END,
    answer_of,
    chunked,
    exchange,
    field_part,
    file_part,
    head_of,
    head_of_upload,
    send_until_answered,
)

MIB = 1024**2
SIGN = "/api/storage/assets/sign"
RESOLVE = "/api/storage/assets/resolve"
QUICKLY = {"server.body_timeout": 0.2}
IMAGE = field_part("purpose", b"reference_image")
FORM = IMAGE + file_part(PNG) + END


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    async with untouched(tmp_path) as started:
        yield started


@pytest.mark.parametrize("sent", [0, 9])
async def test_json_that_never_ends_is_not_waited_for_for_ever(tmp_path: Path, sent: int) -> None:
    async with untouched(tmp_path, QUICKLY) as gateway, connected(gateway.url) as connection:
        connection.writer.write(
            head_of("POST", SIGN, {**service_headers(), "Content-Length": "100"}) + b'{"assetId'[:sent]
        )
        told(await answer_of(connection), 408, "request_timeout")


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
@pytest.mark.parametrize("path", [SIGN, RESOLVE])
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
    (RESOLVE, b"{}", "document"),
    (RESOLVE, b'{"document": {}, "onDenied": "ignore"}', "onDenied"),
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


@pytest.mark.parametrize("path", [SIGN, RESOLVE])
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


async def compressed_form(gateway: Running, body: bytes, encoding: str) -> Answer:
    head = head_of_upload({**user_headers(), "Content-Encoding": encoding}, length=len(body))
    return await exchange(gateway.url, head, body)


class TestCompressedBodies:
    async def test_a_bomb_of_json_is_cut_off(self, gateway: Running) -> None:
        body = gzip.compress(b'{"assetIds": ["' + b"x" * (100 * MIB) + b'"]}', 6)
        told(await post(gateway, SIGN, body, Content_Encoding="gzip"), 413, "request_too_large")

    async def test_a_bomb_of_a_form_is_cut_off(self, gateway: Running) -> None:
        body = gzip.compress(IMAGE + file_part(PNG + bytes(60 * MIB)) + END, 1)
        told(await compressed_form(gateway, body, "gzip"), 413, "file_too_large")

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
    async def test_what_is_not_compressed_as_it_says_is_refused(self, gateway: Running, encoding: str) -> None:
        for answer in (
            await compressed_form(gateway, FORM, encoding),
            await post(gateway, SIGN, b'{"assetIds": ["aaaaaaaa"]}' * 10, Content_Encoding=encoding),
            await post(gateway, SIGN, zlib.compress(b'{"assetIds": []}' * 99)[:-9], Content_Encoding=encoding),
        ):
            told(answer, 400, "invalid_request")
