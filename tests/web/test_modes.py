"""Delivery modes on real parts: a redirect to the storage, nginx serving files or the storage, and `auth_request`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import ClientSession

from tests.config.shipped import front
from tests.support.gateway import PNG, Running, running, service_headers, user_headers
from tests.support.servers.nginx import Start
from tests.support.servers.s3 import S3Server

AUTHORIZE = "/api/storage/authorize"


def on_s3(server: S3Server, folder: Path, **settings: object) -> dict[str, object]:
    names = {name.replace("__", "."): value for name, value in settings.items()}
    return {"storage": server.storage_url(server.create_bucket()), "cache.path": f"{folder}/cache", **names}


@pytest.fixture
async def redirecting(swift_keys: S3Server, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(on_s3(swift_keys, tmp_path, delivery__mode="redirect")) as gateway:
        yield gateway


async def test_a_token_is_redirected_to_a_url_that_lives_no_longer_than_it_does(redirecting: Running) -> None:
    url = await redirecting.sign(await redirecting.asset(), expiresInSeconds=120, window=0)
    async with redirecting.client.get(url, allow_redirects=False) as answer:
        assert answer.status == 307
        assert answer.headers["Cache-Control"] == "no-store"
        target = answer.headers["Location"]
    assert 0 < int(parse_qs(urlsplit(target).query)["X-Amz-Expires"][0]) <= 120
    async with ClientSession() as stranger, stranger.get(target) as bytes_of_it:
        assert bytes_of_it.status == 200
        assert await bytes_of_it.read() == PNG
        assert bytes_of_it.headers["Content-Type"] == "image/png"


async def test_a_session_is_streamed_so_that_it_ends_at_once(redirecting: Running) -> None:
    asset = await redirecting.asset()
    path = f"/api/storage/assets/{asset}"
    async with redirecting.client.get(path, headers=user_headers(), allow_redirects=False) as answer:
        assert answer.status == 200
        assert await answer.read() == PNG


async def test_an_operator_can_have_sessions_redirected_too(swift_keys: S3Server, tmp_path: Path) -> None:
    settings = on_s3(swift_keys, tmp_path, delivery__mode="redirect", delivery__redirect_sessions=True)
    async with running(settings) as gateway:
        path = f"/api/storage/assets/{await gateway.asset()}"
        async with gateway.client.get(path, headers=user_headers(), allow_redirects=False) as answer:
            assert answer.status == 307


async def test_what_needs_no_bytes_is_never_redirected(redirecting: Running) -> None:
    url = await redirecting.sign(await redirecting.asset())
    async with redirecting.client.head(url, allow_redirects=False) as head:
        assert head.status == 200
        etag = head.headers["ETag"]
    async with redirecting.client.get(url, headers={"If-None-Match": etag}, allow_redirects=False) as unchanged:
        assert unchanged.status == 304


async def test_a_purpose_can_have_a_mode_of_its_own(swift_keys: S3Server, tmp_path: Path) -> None:
    settings = on_s3(swift_keys, tmp_path, purposes__avatar__delivery="redirect")
    async with running(settings) as gateway:
        modes = {}
        for purpose in ("avatar", "reference_image"):
            url = await gateway.sign(await gateway.asset(purpose=purpose))
            async with gateway.client.get(url, allow_redirects=False) as answer:
                modes[purpose] = answer.status
        assert modes == {"avatar": 307, "reference_image": 200}


async def test_files_cannot_be_redirected_to_and_are_streamed(tmp_path: Path) -> None:
    async with running({"delivery.mode": "redirect"}, folder=tmp_path) as gateway:
        url = await gateway.sign(await gateway.asset())
        async with gateway.client.get(url) as answer:
            assert answer.status == 200
            assert await answer.read() == PNG


async def test_nginx_serves_the_files_that_the_gateway_allows(nginx: Start, tmp_path: Path) -> None:
    settings = {"delivery.mode": "accel", "server.trusted_proxies": ["127.0.0.0/8"]}
    async with running(settings, folder=tmp_path) as gateway:
        web = front(nginx, tmp_path, gateway.url)
        asset = await gateway.asset()
        url = await gateway.sign(asset)
        whole = await web.ask(url)
        assert (whole.status, whole.body, whole.headers["Content-Type"]) == (200, PNG, "image/png")
        assert "X-Accel-Redirect" not in whole.headers
        part = await web.ask(url, headers={"Range": "bytes=1-3"})
        assert (part.status, part.body) == (206, PNG[1:4])
        assert part.headers["Content-Range"] == f"bytes 1-3/{len(PNG)}"
        unchanged = await web.ask(url, headers={"If-None-Match": whole.headers["ETag"]})
        assert unchanged.status == 304
        assert (await web.ask(f"/api/storage/assets/{asset}")).status == 404


async def test_who_is_no_trusted_proxy_never_learns_where_an_object_lies(tmp_path: Path) -> None:
    async with running({"delivery.mode": "accel"}, folder=tmp_path) as gateway:
        url = await gateway.sign(await gateway.asset())
        async with gateway.client.get(url) as answer:
            assert "X-Accel-Redirect" not in answer.headers
            assert await answer.read() == PNG


async def test_nginx_fetches_from_the_storage_what_the_gateway_allows(
    nginx: Start, swift_keys: S3Server, tmp_path: Path
) -> None:
    settings = on_s3(
        swift_keys, tmp_path, delivery__mode="accel", server__trusted_proxies=["127.0.0.0/8"], cache__max_bytes=0
    )
    async with running(settings) as gateway:
        web = front(nginx, tmp_path, gateway.url)
        url = await gateway.sign(await gateway.asset())
        whole = await web.ask(url)
        assert (whole.status, whole.body) == (200, PNG)
        part = await web.ask(url, headers={"Range": "bytes=-4"})
        assert (part.status, part.body) == (206, PNG[-4:])
        assert part.headers["Content-Range"] == f"bytes {len(PNG) - 4}-{len(PNG) - 1}/{len(PNG)}"


async def test_auth_request_hears_yes_or_no_and_no_bytes(tmp_path: Path) -> None:
    async with running(folder=tmp_path) as gateway:
        asset = await gateway.asset()
        path = f"/api/storage/assets/{asset}"
        url = await gateway.sign(asset)

        async def asked(target: str, **headers: str) -> tuple[int, str | None]:
            async with gateway.client.get(AUTHORIZE, headers={"X-Original-URI": target, **headers}) as answer:
                return answer.status, answer.headers.get("X-Assetgate-Reason")

        assert await asked(path, **user_headers()) == (204, "owner")
        assert await asked(url) == (204, "token")
        assert await asked(path) == (403, None)
        assert await asked(path, **user_headers("u_2")) == (403, None)
        assert await asked(path, Authorization="Bearer nonsense") == (401, None)
        assert await asked("/elsewhere") == (403, None)
        async with gateway.client.delete(path, headers=service_headers("upload")) as deleted:
            assert deleted.status == 200
        assert await asked(url) == (403, None)
