from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path

import pytest
from aiohttp import ClientResponse, FormData

from gateway.clock import iso, milliseconds
from tests.support.gateway import PNG, Part, Running, form, guest_headers, running, service_headers, user_headers
from tests.support.media import Media
from tests.support.raw import connected
from tests.support.wire import answer_of, chunked, head_of_upload, send_until_answered

UPLOADED = {  # the contract's keys of an upload, section 6
    "assetId",
    "assetRef",
    "previewUrl",
    "expiresAt",
    "ownerType",
    "mimeType",
    "purpose",
    "source",
    "sizeBytes",
}
FAILED = {"error", "message", "status", "filename"}
IMAGE: Part = ("purpose", "reference_image")
MIB = 1024 * 1024
TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "mp4_faststart": "video/mp4",
    "webm": "video/webm",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
}
PURPOSES = {"image": "reference_image", "video": "reference_video", "audio": "generated_audio"}


@pytest.fixture(params=["memory", "files"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(folder=tmp_path if request.param == "files" else None) as started:
        yield started


async def refused(response: ClientResponse, status: int, error: str) -> dict[str, str]:
    """Check that the answer is this error, and return what it says of single fields."""
    document = await response.json()
    assert (response.status, document["error"]) == (status, error), document
    found: dict[str, str] = document.get("fields", {})
    return found


async def test_an_upload_is_answered_with_the_keys_of_the_contract(gateway: Running) -> None:
    response = await gateway.upload(IMAGE, ("files", "a.png", PNG), headers=user_headers())
    document = await response.json()
    assert set(document) == {"code", "message", "data"}
    assert (document["code"], document["message"]) == (0, "ok")
    data = document["data"]
    assert set(data) == {*UPLOADED, "results"}
    assert data["results"] == [{key: data[key] for key in UPLOADED}]
    assert data["assetRef"] == f"asset://{data['assetId']}"
    assert data["previewUrl"] == f"/api/storage/assets/{data['assetId']}"
    assert data["expiresAt"] is None
    assert (data["ownerType"], data["source"], data["sizeBytes"]) == ("user", "upload", len(PNG))
    assert response.headers["X-Request-Id"]


def sample(media: Media, name: str) -> bytes:
    path: Path = getattr(media, name)
    return path.read_bytes()


def test_every_sample_has_a_type() -> None:
    assert set(TYPES) == {field.name for field in fields(Media)}


@pytest.mark.parametrize(("name", "media_type"), TYPES.items())
async def test_the_type_is_what_the_bytes_are(gateway: Running, media: Media, name: str, media_type: str) -> None:
    data = sample(media, name)
    asset_id = await gateway.asset(data, PURPOSES[media_type.partition("/")[0]], "lie.txt")
    async with gateway.client.get(f"/api/storage/assets/{asset_id}", headers=user_headers()) as response:
        assert response.headers["Content-Type"] == media_type
        assert await response.read() == data


async def test_the_record_has_the_checksum_of_the_bytes(gateway: Running) -> None:
    data = PNG + os.urandom(3 * MIB)
    asset_id = await gateway.asset(data)
    async with gateway.client.get(f"/api/storage/assets/{asset_id}/info", headers=user_headers()) as response:
        record = (await response.json())["data"]
    assert record["sha256"] == hashlib.sha256(data).hexdigest()
    assert record["sizeBytes"] == len(data)


@pytest.mark.parametrize("claimed", ["image/jpeg", "video/mp4", "text/html; charset=x", "image/svg+xml", "🦜"])
async def test_a_type_that_the_client_claims_counts_for_nothing(gateway: Running, claimed: str) -> None:
    data = FormData()
    data.add_field("purpose", "reference_image")
    data.add_field("files", PNG, filename="a.gif", content_type=claimed)
    async with gateway.client.post("/api/storage/upload-media", data=data, headers=user_headers()) as response:
        assert (await response.json())["data"]["mimeType"] == "image/png"


@pytest.mark.parametrize(
    "parts",
    [
        (IMAGE, ("visibility", "public"), ("files", "a.png", PNG)),
        (("files", "a.png", PNG), IMAGE, ("visibility", "public")),
        (("visibility", "public"), ("files", "a.png", PNG), ("files", "b.png", PNG), IMAGE),
        (
            ("csrf", "t"),
            ("attachment", "x.bin", b"ours to ignore"),
            IMAGE,
            ("visibility", "public"),
            ("files", "", PNG),
        ),
    ],
)
async def test_fields_and_files_may_stand_in_any_order(gateway: Running, parts: tuple[Part, ...]) -> None:
    response = await gateway.upload(*parts, headers=user_headers())
    results = (await response.json())["data"]["results"]
    assert len(results) == sum(part[0] == "files" for part in parts)
    for result in results:
        async with gateway.client.get(result["previewUrl"]) as anonymous:
            assert await anonymous.read() == PNG
    assert len(await gateway.objects()) == len(results)


async def test_one_file_that_fails_does_not_lose_the_others(gateway: Running) -> None:
    response = await gateway.upload(
        IMAGE,
        ("files", "notes.txt", b"no image at all"),
        ("files", "first.png", PNG),
        ("files", "empty.png", b""),
        ("files", "large.png", PNG + bytes(21 * MIB)),
        ("files", "last.png", PNG + b"!"),
        headers=user_headers(),
    )
    data = (await response.json())["data"]
    told = [result.get("error", result.get("sizeBytes")) for result in data["results"]]
    large = "file_too_large"
    assert told == ["type_not_allowed", len(PNG), "invalid_request", large, len(PNG) + 1]
    assert [set(result) for result in data["results"]] == [FAILED, UPLOADED, FAILED, FAILED, UPLOADED]
    assert [data["results"][n]["filename"] for n in (0, 2, 3)] == ["notes.txt", "empty.png", "large.png"]
    assert data["assetId"] == data["results"][1]["assetId"]
    assert len(await gateway.objects()) == len(await gateway.records()) == 2


async def test_when_all_files_fail_the_first_error_is_the_answer(gateway: Running) -> None:
    parts: list[Part] = [IMAGE, ("files", "a.txt", b"text"), ("files", "b.png", b"")]
    response = await gateway.upload(*parts, headers=user_headers())
    assert await refused(response, 415, "type_not_allowed") == {"files": "text/plain"}
    assert (await gateway.objects(), await gateway.records()) == ([], [])


@pytest.mark.parametrize("purpose_first", [True, False])
async def test_each_purpose_has_its_limit(gateway: Running, purpose_first: bool) -> None:
    file: Part = ("files", "a.png", PNG + bytes(5 * MIB))
    parts: list[Part] = [("purpose", "avatar"), file] if purpose_first else [file, ("purpose", "avatar")]
    response = await gateway.upload(*parts, headers=user_headers())
    assert await refused(response, 413, "file_too_large") == {"files": str(5 * MIB)}
    assert await gateway.objects() == []
    await gateway.asset(PNG + bytes(5 * MIB), "post_image")


async def test_a_file_far_too_large_is_answered_while_it_is_sent(gateway: Running) -> None:
    async with connected(gateway.url) as connection:
        connection.writer.write(head_of_upload(user_headers(), length=1024 * MIB))
        connection.writer.write(b"--limit\r\n" + b'Content-Disposition: form-data; name="purpose"\r\n\r\navatar\r\n')
        connection.writer.write(
            b'--limit\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + PNG
        )
        sent = await send_until_answered(connection, bytes(MIB), most=1024)
        answer = await answer_of(connection)
    assert (answer.status, answer.document["error"]) == (413, "file_too_large")
    assert sent < 64, f"{sent} MiB of a file that may have 5"
    assert await gateway.objects() == []


async def test_a_stranger_cannot_fill_the_disk_before_naming_the_purpose(gateway: Running) -> None:
    async with connected(gateway.url) as connection:
        connection.writer.write(head_of_upload({}, length=None))
        start = b'--limit\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + PNG
        connection.writer.write(chunked(start))
        sent = await send_until_answered(connection, chunked(bytes(MIB)), most=512)
        answer = await answer_of(connection)
    assert (answer.status, answer.document["error"]) == (413, "file_too_large")
    assert sent < 64, f"{sent} MiB where a guest may send 20"


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ((("purpose", "holiday"), ("files", "a.png", PNG)), "purpose"),
        ((("files", "a.png", PNG),), "purpose"),
        ((("purpose", ""), ("files", "a.png", PNG)), "purpose"),
        ((IMAGE, IMAGE, ("files", "a.png", PNG)), "purpose"),
        ((IMAGE,), "files"),
        ((IMAGE, ("files", "a.png", b"")), "files"),
        ((IMAGE, ("visibility", "secret"), ("files", "a.png", PNG)), "visibility"),
        ((("files", "a.png", PNG), IMAGE, ("visibility", "Public")), "visibility"),
        ((IMAGE, *[("files", "a.png", PNG)] * 21), "files"),
    ],
)
async def test_what_is_wrong_is_named_by_its_field(gateway: Running, parts: tuple[Part, ...], field: str) -> None:
    response = await gateway.upload(*parts, headers=user_headers())
    assert list(await refused(response, 422, "invalid_request")) == [field]
    assert (await gateway.objects(), await gateway.records()) == ([], [])


class TestGuests:
    async def test_a_stranger_becomes_a_guest_who_owns_the_upload(self, gateway: Running) -> None:
        response = await gateway.upload(IMAGE, ("files", "a.png", PNG))
        data = (await response.json())["data"]
        assert data["ownerType"] == "guest"
        assert data["expiresAt"] == iso(milliseconds(gateway.clock() + 24 * 3600))
        cookie = response.cookies["assetgate_guest"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert cookie["max-age"] == "86400"
        async with gateway.client.get(data["previewUrl"], headers=guest_headers(response)) as own:
            assert await own.read() == PNG
        async with gateway.client.get(data["previewUrl"]) as other:
            assert other.status == 404

    async def test_the_cookie_that_came_is_used_again(self, gateway: Running) -> None:
        first = await gateway.upload(IMAGE, ("files", "a.png", PNG))
        cookie = guest_headers(first)
        second = await gateway.upload(IMAGE, ("files", "a.png", PNG), headers=cookie)
        for response in (first, second):
            preview = (await response.json())["data"]["previewUrl"]
            async with gateway.client.get(preview, headers=cookie) as own:
                assert own.status == 200

    async def test_a_guest_gets_no_cookie_for_an_upload_that_failed(self, gateway: Running) -> None:
        response = await gateway.upload(IMAGE, ("files", "a.txt", b"text"))
        assert response.status == 415
        assert "Set-Cookie" not in response.headers

    async def test_a_forged_cookie_is_refused_and_taken_away(self, gateway: Running) -> None:
        headers = {"Cookie": "assetgate_guest=v1.AAAAAAAAAAAAAAAAAAAAAA." + "A" * 43}
        response = await gateway.upload(IMAGE, ("files", "a.png", PNG), headers=headers)
        await refused(response, 401, "credential_invalid")
        assert response.cookies["assetgate_guest"]["max-age"] == "0"
        assert await gateway.objects() == []

    async def test_a_stranger_may_not_upload_for_every_purpose(self, gateway: Running) -> None:
        response = await gateway.upload(("purpose", "avatar"), ("files", "a.png", PNG))
        await refused(response, 401, "sign_in_required")
        guest = guest_headers(await gateway.upload(IMAGE, ("files", "a.png", PNG)))
        response = await gateway.upload(("purpose", "avatar"), ("files", "a.png", PNG), headers=guest)
        await refused(response, 403, "purpose_not_allowed")

    async def test_what_guests_upload_stays_private(self, gateway: Running) -> None:
        response = await gateway.upload(IMAGE, ("visibility", "public"), ("files", "a.png", PNG))
        await refused(response, 403, "purpose_not_allowed")
        assert await gateway.objects() == []

    async def test_a_guest_may_keep_so_many_files(self) -> None:
        async with running({"guests.max_files": 3}) as gateway:
            guest = guest_headers(await gateway.upload(IMAGE, ("files", "a.png", PNG)))
            files: list[Part] = [("files", f"{n}.png", PNG) for n in range(4)]
            response = await gateway.upload(IMAGE, *files, headers=guest)
            results = (await response.json())["data"]["results"]
            assert [result.get("error") for result in results] == [None, None, *["guest_quota_exceeded"] * 2]
            response = await gateway.upload(IMAGE, files[0], headers=guest)
            await refused(response, 429, "guest_quota_exceeded")
            assert int(response.headers["Retry-After"]) > 0
            assert len(await gateway.objects()) == len(await gateway.records()) == 3

    async def test_a_guest_may_keep_so_many_bytes(self) -> None:
        async with running({"guests.max_bytes": 3 * len(PNG)}) as gateway:
            guest = guest_headers(await gateway.upload(IMAGE, ("files", "a.png", PNG * 2)))
            response = await gateway.upload(IMAGE, ("files", "b.png", PNG * 2), headers=guest)
            await refused(response, 429, "guest_quota_exceeded")
            assert len(await gateway.objects()) == 1
            response = await gateway.upload(IMAGE, ("files", "b.png", PNG), headers=guest)
            assert response.status == 200

    async def test_a_quota_frees_itself_as_the_uploads_expire(self) -> None:
        async with running({"guests.max_files": 1}) as gateway:
            guest = guest_headers(await gateway.upload(IMAGE, ("files", "a.png", PNG)))
            gateway.clock.move(24 * 3600 - 1)
            assert (await gateway.upload(IMAGE, ("files", "a.png", PNG), headers=guest)).status == 429
            gateway.clock.move(1)
            assert (await gateway.upload(IMAGE, ("files", "a.png", PNG), headers=guest)).status == 200


class TestServices:
    async def test_a_service_names_the_owner(self, gateway: Running) -> None:
        asset_id = await gateway.asset(headers=service_headers("upload"), owner="user:u_7")
        for user, status in (("u_7", 200), ("u_1", 404)):
            async with gateway.client.get(f"/api/storage/assets/{asset_id}", headers=user_headers(user)) as response:
                assert response.status == status

    async def test_without_an_owner_it_is_the_system(self, gateway: Running) -> None:
        response = await gateway.upload(IMAGE, ("files", "a.png", PNG), headers=service_headers("upload"))
        data = (await response.json())["data"]
        assert data["ownerType"] == "system"
        async with gateway.client.get(data["previewUrl"]) as anonymous:
            assert anonymous.status == 404

    @pytest.mark.parametrize(
        "owner", ["u_7", "user:", "guest:abc", "service:x", "User:u_7", "user:a\0b", "user:" + "x" * 256, "user:a\nb"]
    )
    async def test_an_owner_of_another_form_is_refused(self, gateway: Running, owner: str) -> None:
        response = await gateway.upload(
            IMAGE, ("owner", owner), ("files", "a.png", PNG), headers=service_headers("upload")
        )
        assert list(await refused(response, 422, "invalid_request")) == ["owner"]
        assert await gateway.objects() == []

    async def test_a_service_without_the_scope_may_not_upload(self, gateway: Running) -> None:
        response = await gateway.upload(IMAGE, ("files", "a.png", PNG), headers=service_headers("sign"))
        await refused(response, 403, "scope_missing")

    async def test_a_user_may_not_name_another_owner(self, gateway: Running) -> None:
        parts: list[Part] = [IMAGE, ("owner", "user:u_7"), ("files", "a.png", PNG)]
        await refused(await gateway.upload(*parts, headers=user_headers("u_1")), 403, "purpose_not_allowed")
        assert (await gateway.upload(*parts, headers=user_headers("u_7"))).status == 200


@pytest.mark.parametrize(
    ("asked", "of_purpose", "status"),
    [
        ("", "private", 404),
        ("private", "private", 404),
        ("public", "private", 200),
        ("", "public", 200),
        ("private", "public", 404),
    ],
)
async def test_visibility_is_what_was_asked_for_else_what_the_purpose_has(
    asked: str, of_purpose: str, status: int
) -> None:
    async with running({"purposes.post_image.visibility": of_purpose}) as gateway:
        asset_id = await gateway.asset(purpose="post_image", visibility=asked)
        async with gateway.client.get(f"/api/storage/assets/{asset_id}") as anonymous:
            assert anonymous.status == status


async def test_a_bad_credential_is_told_before_the_form_is_read(gateway: Running) -> None:
    async with connected(gateway.url) as connection:
        connection.writer.write(head_of_upload({"Authorization": "Bearer nonsense"}, length=1024 * MIB))
        answer = await answer_of(connection)
    assert (answer.status, answer.document["error"]) == (401, "credential_invalid")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_client_that_waits_for_100_continue_hears_it(gateway: Running) -> None:
    async with gateway.client.post(
        "/api/storage/upload-media", data=form(IMAGE, ("files", "a.png", PNG)), headers=user_headers(), expect100=True
    ) as response:
        assert response.status == 200
