"""The two routes of before: what they still do, what they say of themselves, and how they are turned off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientResponse

from tests.support.gateway import PNG, Part, Running, form, guest_headers, running, service_headers, user_headers

ASSETS = "/api/storage/assets"
UPLOAD = "/api/storage/upload-image"
PROXY = "/api/proxy/file"
HTML = b"<!doctype html><script>alert(1)</script>"
WEBM = bytes.fromhex("1a45dfa39f4286810142f7810142f2810442f381084282847765626d") + bytes(64)


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with running() as gateway:
        yield gateway


async def upload(
    gateway: Running, *files: bytes, headers: dict[str, str] | None = None, **fields: str
) -> ClientResponse:
    parts: list[Part] = [*fields.items(), *(("files", f"{number}.png", data) for number, data in enumerate(files))]
    async with gateway.client.post(UPLOAD, data=form(*parts), headers=headers) as response:
        await response.read()
        return response


async def proxied(gateway: Running, url: str | None, headers: dict[str, str] | None = None) -> ClientResponse:
    path = PROXY if url is None else f"{PROXY}?url={quote(url, safe='')}"
    async with gateway.client.get(path, headers=headers, allow_redirects=False) as response:
        await response.read()
        return response


def used(gateway: Running, route: str, caller: str) -> float | None:
    labels = {"route": route, "caller": caller}
    return gateway.parts.metrics.registry.get_sample_value("assetgate_legacy_requests_total", labels)


def assert_says_that_it_goes(response: ClientResponse) -> None:
    assert response.headers["Deprecation"].startswith("@")
    deprecated = datetime.fromtimestamp(int(response.headers["Deprecation"][1:]), UTC)
    sunset = parsedate_to_datetime(response.headers["Sunset"])
    assert sunset == datetime(2027, 6, 30, tzinfo=UTC)
    assert deprecated < sunset
    assert response.headers["Link"].startswith("</api/storage/")
    assert response.headers["Link"].endswith('>; rel="successor-version"')


async def test_an_image_is_taken_and_answered_in_the_old_words(gateway: Running) -> None:
    response = await upload(gateway, PNG, PNG, headers=user_headers())
    assert response.status == 200
    data: dict[str, Any] = (await response.json())["data"]
    ids = [entry["assetId"] for entry in data["results"]]
    assert len(set(ids)) == 2
    assert data["urls"] == [f"{ASSETS}/{asset_id}" for asset_id in ids]
    assert data["assetRefs"] == [f"asset://{asset_id}" for asset_id in ids]
    assert {entry["purpose"] for entry in data["results"]} == {"reference_image"}
    async with gateway.client.get(data["urls"][0], headers=user_headers()) as read:
        assert await read.read() == PNG
    async with gateway.client.get(data["urls"][0]) as read:
        assert read.status == 404
    assert_says_that_it_goes(response)


async def test_a_guest_may_use_it_and_keeps_what_they_sent(gateway: Running) -> None:
    response = await upload(gateway, PNG)
    guest = guest_headers(response)
    (url,) = (await response.json())["data"]["urls"]
    async with gateway.client.get(url, headers=guest) as read:
        assert read.status == 200
    again = await upload(gateway, PNG, headers=guest)
    assert guest_headers(again) == guest


@pytest.mark.parametrize("data", [HTML, WEBM, b"", b"plain text"])
async def test_it_takes_images_alone(gateway: Running, data: bytes) -> None:
    response = await upload(gateway, data, headers=user_headers())
    assert response.status in {415, 422}
    assert_says_that_it_goes(response)
    assert await gateway.objects() == []


async def test_one_bad_file_does_not_lose_the_others(gateway: Running) -> None:
    data = (await (await upload(gateway, PNG, HTML, PNG, headers=user_headers())).json())["data"]
    assert len(data["urls"]) == len(data["assetRefs"]) == 2
    assert [entry.get("error") for entry in data["results"]] == [None, "type_not_allowed", None]


async def test_the_purpose_is_not_for_the_client_to_say(gateway: Running) -> None:
    response = await upload(gateway, PNG, headers=user_headers(), purpose="avatar")
    assert response.status == 422
    assert await gateway.objects() == []


async def test_its_own_addresses_are_redirected_and_never_fetched(gateway: Running) -> None:
    asset_id = await gateway.asset()
    path = f"{ASSETS}/{asset_id}"
    signed = await gateway.sign(asset_id)
    urls = {
        f"asset://{asset_id}": path,
        path: path,
        signed: signed,
        f"{gateway.url}{path}": path,
        f"{gateway.url}{signed}": signed,
        f"{path}?utm_source=mail": path,
        f"{path}#part": path,
    }
    for url, location in urls.items():
        response = await proxied(gateway, url)
        assert (response.status, response.headers["Location"]) == (307, location), url
        assert response.headers["Link"] == f'<{path}>; rel="successor-version"'
        assert_says_that_it_goes(response)


async def test_whoever_follows_is_asked_for_their_own_rights(gateway: Running) -> None:
    location = (await proxied(gateway, f"asset://{await gateway.asset()}")).headers["Location"]
    for headers, status in ((user_headers(), 200), (user_headers("u_2"), 404), ({}, 404)):
        async with gateway.client.get(location, headers=headers) as response:
            assert response.status == status


async def test_a_redirect_tells_nothing_of_an_assets_being_there(gateway: Running) -> None:
    there, absent = await gateway.asset(), "never-there-01"
    first, second = await proxied(gateway, f"asset://{there}"), await proxied(gateway, f"asset://{absent}")
    assert first.status == second.status == 307
    assert first.headers["Location"].replace(there, absent) == second.headers["Location"]


FOREIGN = [
    "https://example.com/picture.png",
    "http://169.254.169.254/latest/meta-data",
    "file:///etc/passwd",
    "//example.com/api/storage/assets/some-asset-01",
    "https://example.com/api/storage/assets/some-asset-01",
    "GATEWAY.evil.example/api/storage/assets/some-asset-01",
    "http://user@GATEHOST/api/storage/assets/some-asset-01",
    "GATEWAY/api/storage/assets/../../secret",
    "GATEWAY/api/storage/assets/some-asset-01/info",
    "/api/storage/assets/some-asset-01/../other-asset-1",
    "/x/api/storage/assets/some-asset-01",
    "/\\example.com/api/storage/assets/some-asset-01",
    "/api/storage/assets/a.b",
    "asset://short",
    "asset://some-asset-01/info",
    "javascript:alert(1)",
    "http://[",
    "/",
]


@pytest.mark.parametrize("url", FOREIGN)
async def test_anything_else_is_gone(gateway: Running, url: str) -> None:
    host = gateway.url.partition("//")[2]
    response = await proxied(gateway, url.replace("GATEWAY", gateway.url).replace("GATEHOST", host))
    assert (response.status, (await response.json())["error"]) == (410, "endpoint_gone")
    assert "Location" not in response.headers
    assert_says_that_it_goes(response)


@pytest.mark.parametrize("url", [None, ""])
async def test_without_a_file_it_asks_for_one(gateway: Running, url: str | None) -> None:
    response = await proxied(gateway, url)
    assert (response.status, (await response.json())["fields"]) == (400, {"url": "is missing"})
    assert_says_that_it_goes(response)


async def test_the_public_urls_assets_are_its_own_too() -> None:
    async with running({"server.public_url": "https://media.example.com/files"}) as gateway:
        url = f"https://media.example.com/files{ASSETS}/some-asset-01"
        assert (await proxied(gateway, url)).status == 307
        assert (await proxied(gateway, "https://media.example.com/other/some-asset-01")).status == 410


async def test_each_use_is_counted_by_who_it_was(gateway: Running) -> None:
    first = await upload(gateway, PNG)
    await upload(gateway, PNG, headers=guest_headers(first))
    await upload(gateway, HTML, headers=user_headers())
    await upload(gateway, PNG, headers=service_headers())
    for headers in (None, user_headers(), {"Authorization": "Bearer rubbish"}):
        await proxied(gateway, "https://example.com/x", headers)
    assert {caller: used(gateway, "upload_image", caller) for caller in ("guest", "user", "service")} == {
        "guest": 1.0,
        "user": 1.0,
        "service": 1.0,
    }
    assert {caller: used(gateway, "proxy_file", caller) for caller in ("anonymous", "user")} == {
        "anonymous": 2.0,  # who is not known, and who could not prove it
        "user": 1.0,
    }


async def test_each_is_turned_off_by_its_own_switch() -> None:
    async with running({"legacy.upload_image": "gone"}) as gateway:
        response = await upload(gateway, PNG, headers=user_headers())
        assert (response.status, (await response.json())["error"]) == (410, "endpoint_gone")
        assert_says_that_it_goes(response)
        assert await gateway.objects() == []
        assert (await proxied(gateway, "asset://some-asset-01")).status == 307
    async with running({"legacy.proxy_file": "gone"}) as gateway:
        response = await proxied(gateway, "asset://some-asset-01")
        assert (response.status, (await response.json())["error"]) == (410, "endpoint_gone")
        assert_says_that_it_goes(response)
        assert (await upload(gateway, PNG, headers=user_headers())).status == 200


async def test_uses_of_what_is_gone_are_still_counted_by_caller() -> None:
    async with running({"legacy.upload_image": "gone", "legacy.proxy_file": "gone"}) as gateway:
        await proxied(gateway, "asset://some-asset-01", user_headers())
        assert used(gateway, "proxy_file", "user") == 1.0


async def test_the_sunset_is_the_settings() -> None:
    async with running({"legacy.sunset": "2030-01-02"}) as gateway:
        response = await proxied(gateway, "asset://some-asset-01")
        assert response.headers["Sunset"] == "Wed, 02 Jan 2030 00:00:00 GMT"
