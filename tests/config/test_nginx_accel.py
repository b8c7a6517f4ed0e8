"""What the shipped nginx.conf makes of `X-Accel-Redirect` and `auth_request`, with stand-ins for the gateway."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web

from tests.config.shipped import CONFIG, Answering, Front, front, make_certificate, standing
from tests.support.servers import processes
from tests.support.servers.nginx import Start
from tests.support.storage import content

CONTENT = content("accel", 300_000)
TAG = '"the-tag-of-the-asset"'
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
WRITTEN = 784_000_000  # seconds since 1970; the file's own time, which is not the asset's
SAID = {
    "Content-Type": "image/png",
    "Content-Disposition": 'inline; filename="a.png"',
    "Cache-Control": "private, max-age=60",
    "ETag": TAG,
    "Last-Modified": MODIFIED,
    "Vary": "Cookie",
    "Cross-Origin-Resource-Policy": "same-site",
    "Access-Control-Allow-Origin": "https://app.example.com",
    "Access-Control-Allow-Credentials": "true",
}
KEPT = {**SAID, "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}
ASSET = "/api/storage/assets/some-asset-id"
CREDENTIALS = {"Cookie": "session=secret", "Authorization": "Bearer secret", "If-Range": TAG, "X-Custom": "secret"}
BEHIND_FAULT = {"Content-Type": "application/problem+json", "Retry-After": "5"}

Place = Callable[..., Front]


def pointing(target: str, **more: str) -> Answering:
    """Answer as the gateway does in accel mode; what begins with /_assetgate is nothing that it knows."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/_assetgate"):
            return web.Response(status=404, text="not found, said by the gateway")
        extra = {f"X-Assetgate-{name.replace('_', '-')}": value for name, value in more.items()}
        return web.Response(headers={**SAID, "X-Accel-Redirect": target, **extra})

    return answer


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    folder = tmp_path / "objects"
    (folder / "ab").mkdir(parents=True)
    (folder / "ab" / "abcdef").write_bytes(CONTENT)
    os.utime(folder / "ab" / "abcdef", (WRITTEN, WRITTEN))
    return folder


@pytest.fixture
def place(nginx: Start, tmp_path: Path, objects: Path) -> Place:
    return lambda url, *edits: front(nginx, tmp_path, url, edits)


@pytest.mark.parametrize(
    ("asked", "status", "sent"),
    [
        ({}, 200, slice(None)),
        ({"Range": "bytes=0-1"}, 206, slice(0, 2)),
        ({"Range": "bytes=0-"}, 206, slice(None)),
        ({"Range": "bytes=-500"}, 206, slice(-500, None)),
        ({"Range": "bytes=0-1,5-6"}, 200, slice(None)),
        ({"Range": "items=0-1"}, 200, slice(None)),
        ({"Range": "bytes=0-1", "If-Range": TAG}, 206, slice(0, 2)),
        ({"Range": "bytes=0-1", "If-Range": MODIFIED}, 206, slice(0, 2)),
        ({"Range": "bytes=0-1", "If-Range": '"another"'}, 200, slice(None)),
        ({"Range": "bytes=0-1", "If-Range": "Sun, 06 Nov 1994 08:49:38 GMT"}, 200, slice(None)),
        ({"If-None-Match": '"another"', "If-Modified-Since": "Fri, 01 Jan 2038 00:00:00 GMT"}, 200, slice(None)),
        ({"If-Modified-Since": formatdate(WRITTEN, usegmt=True)}, 200, slice(None)),
    ],
)
async def test_a_file_is_sent_by_nginx_under_the_gateways_headers(
    place: Place, asked: dict[str, str], status: int, sent: slice
) -> None:
    async with standing(pointing("/_assetgate/objects/ab/abcdef")) as gateway:
        answer = await place(gateway.url).ask(ASSET, headers=asked)
    assert (answer.status, answer.body) == (status, CONTENT[sent])
    assert {name: answer.headers.getall(name) for name in KEPT} == {name: [KEPT[name]] for name in KEPT}
    assert len(answer.headers.getall("X-Request-Id")) == 1


@pytest.mark.parametrize("key", ["ab/missing", "ab", "ab/../../privkey.pem", "ab/%2e%2e/%2e%2e/privkey.pem", "link"])
async def test_a_file_that_is_not_there_or_not_ours_is_a_fault_of_the_storage(
    place: Place, objects: Path, key: str
) -> None:
    (objects / "link").symlink_to("/etc/hostname")
    async with standing(pointing(f"/_assetgate/objects/{key}")) as gateway:
        answer = await place(gateway.url).ask(ASSET)
    assert (answer.status in {404, 502}, b"PRIVATE KEY" in answer.body) == (True, False)
    assert answer.body.startswith((b'{"type":"urn:assetgate:storage_fault"', b"<html>", b"not found"))


@pytest.mark.parametrize("path", ["objects/ab/abcdef", "remote/http/127.0.0.1:1/bucket/key", "remote/ftp/a/b", ""])
async def test_the_internal_places_are_not_there_for_anyone_outside(place: Place, path: str) -> None:
    async with standing(pointing("/_assetgate/objects/ab/abcdef")) as gateway:
        answer = await place(gateway.url).ask(f"/_assetgate/{path}")
    assert (answer.status, answer.body) == (404, b"not found, said by the gateway")


async def test_a_remote_object_is_sent_under_the_gateways_headers(place: Place) -> None:
    foreign = {
        "Content-Type": "text/html",
        "ETag": '"md5"',
        "Last-Modified": "Mon, 07 Nov 1994 08:49:37 GMT",
        "Cache-Control": "public, max-age=31536000",
        "Set-Cookie": "tracking=1",
        "X-Accel-Redirect": "/_assetgate/objects/ab/abcdef",
        "X-Amz-Request-Id": "1",
    }

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=206, body=CONTENT[10:20], headers={**foreign, "Content-Range": "bytes 10-19/300000"})

    async with standing(answer) as storage:
        host, query = storage.url.removeprefix("http://"), "X-Amz-Credential=a%2Fb&X-Amz-Signature=c%3D"
        target = f"/_assetgate/remote/http/{host}/bucket/a%20b/%2541?{query}"
        async with standing(pointing(target, Range="bytes=10-19", If_Match='"md5"')) as gateway:
            got = await place(gateway.url).ask(f"{ASSET}?token=secret", headers={**CREDENTIALS, "Range": "bytes=0-1"})
    assert (got.status, got.body) == (206, CONTENT[10:20])
    assert got.headers["Content-Range"] == "bytes 10-19/300000"
    assert {name: got.headers.getall(name) for name in KEPT} == {name: [KEPT[name]] for name in KEPT}
    assert not {"Set-Cookie", "X-Amz-Request-Id"} & {name.title() for name in got.headers}
    assert storage.last.raw_path == f"/bucket/a%20b/%2541?{query}"
    assert dict(storage.last.headers) == {"Host": host, "Range": "bytes=10-19", "If-Match": '"md5"'}


@pytest.mark.parametrize("status", [301, 307, 400, 403, 404, 412, 416, 500, 503])
async def test_what_the_storage_says_in_trouble_is_not_passed_on(place: Place, status: int) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text="<Error><Key>secret</Key></Error>", headers={"Location": "http://a.b"})

    async with standing(answer) as storage:
        target = f"/_assetgate/remote/http/{storage.url.removeprefix('http://')}/bucket/key"
        async with standing(pointing(target)) as gateway:
            got = await place(gateway.url).ask(ASSET)
    assert (got.status, b"secret" in got.body) == (502, False)
    assert {name: got.headers[name] for name in BEHIND_FAULT} == BEHIND_FAULT
    assert "no-store" in got.headers.getall("Cache-Control")
    assert "Location" not in got.headers


async def test_a_storage_that_is_away_is_a_fault_and_its_signed_url_stays_out_of_the_logs(
    place: Place,
) -> None:
    target = f"/_assetgate/remote/http/127.0.0.1:{processes.free_port()}/bucket/key?X-Amz-Signature=secret"
    async with standing(pointing(target)) as gateway:
        proxied = place(gateway.url)
        assert (await proxied.ask(ASSET)).status == 502
        proxied.nginx.stop()
        assert ASSET in proxied.written
        assert "secret" not in proxied.written


@pytest.mark.parametrize(("name", "status"), [("localhost", 200), ("other.example.com", 502)])
async def test_a_storage_over_tls_must_prove_its_name(place: Place, tmp_path: Path, name: str, status: int) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=CONTENT)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*make_certificate(tmp_path))
    verified = ("proxy_ssl_verify on;", f"proxy_ssl_verify on; proxy_ssl_name {name};")
    async with standing(answer, context) as storage:
        target = f"/_assetgate/remote/https/{storage.url.removeprefix('http://')}/bucket/key"
        async with standing(pointing(target)) as gateway:
            assert (await place(gateway.url, verified).ask(ASSET)).status == status
    assert len(storage.asked) == (status == 200)


@pytest.mark.parametrize("status", [204, 401, 403])
async def test_other_bytes_are_opened_by_the_gateways_decision(place: Place, tmp_path: Path, status: int) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers={"WWW-Authenticate": "Bearer"} if status == 401 else {})

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "some-asset-id").write_bytes(CONTENT)
    async with standing(answer) as gateway:
        proxied = place(gateway.url, *uncommented(), ("/srv/media/", f"{tmp_path}/other/"))
        got = await proxied.ask("/media/some-asset-id?token=abc", headers={**CREDENTIALS, "Range": "bytes=0-1"})
        assert (await proxied.ask("/media/some-asset-id", "--request", "DELETE")).status == 403
    assert got.status == (200 if status == 204 else status)  # 200: the tag of If-Range is not that of this file
    assert (got.body == CONTENT) == (status == 204)
    assert got.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
    (asked,) = gateway.asked
    assert asked.raw_path == "/api/storage/authorize"
    assert asked.headers["X-Original-URI"] == f"{ASSET}?token=abc"
    assert {name: asked.headers[name] for name in ("Cookie", "Authorization")} == {
        name: CREDENTIALS[name] for name in ("Cookie", "Authorization")
    }


def uncommented() -> list[tuple[str, str]]:
    """Take the comment signs away, as the file says."""
    text = (CONFIG / "nginx.conf").read_text()
    start = text.index("    #location")
    example = text[start : text.index("\n\n", start)]
    return [(example, example.replace("    #", "    "))]
