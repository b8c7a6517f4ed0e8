"""Signing, resolving, claiming, listing, changing, deleting, revoking and explaining, in both lanes."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from tests.support.gateway import PNG, Running, guest_headers, running, service_headers, user_headers
from tests.support.metadata import NOW, an_asset, numbered

ASSETS = "/api/storage/assets"
WEEK = 7 * 86400  # seconds
MINE = user_headers("u_1")
OTHERS = user_headers("u_2")
ABSENT = "never-there-01"


@pytest.fixture(params=["true", "false"], ids=["express", "handlers"])
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with running({"server.express": request.param}) as gateway:
        yield gateway


async def call(
    gateway: Running, method: str, path: str, body: Any = None, headers: Mapping[str, str] = MINE
) -> tuple[int, Any]:
    """Return the status, and the answer's data or the whole problem."""
    options: dict[str, Any] = {} if body is None else {"json": body}
    async with gateway.client.request(method, path, headers=headers, **options) as response:
        document = await response.json(content_type=None)
        return response.status, document.get("data", document)


async def read(gateway: Running, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str | None]:
    """Return the status and the error code, after looking twice: the second answer may come from memory."""
    found = set()
    for _ in range(2):
        async with gateway.client.get(path, headers=headers) as response:
            data = await response.read()
            found.add((response.status, None if response.status == 200 else orjson.loads(data)["error"]))
    (same,) = found
    return same


def claims_of(url: str) -> dict[str, Any]:
    (token,) = parse_qs(urlsplit(url).query)["token"]
    claims = token.split(".")[2]
    document: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    return document


async def add(gateway: Running, count: int, **facts: Any) -> list[str]:
    """Add records without bytes; return their ids, oldest first."""
    assets = numbered(count, **facts)
    for asset in assets:
        await gateway.parts.metadata.add(asset)
    return [asset.id for asset in assets]


# sign


async def test_a_thousand_are_signed_in_the_order_asked_with_errors_in_their_places(gateway: Running) -> None:
    mine = await add(gateway, 500, owner="user:u_1")
    await gateway.parts.metadata.add(an_asset("asset-of-another-1", owner="user:u_2"))
    wanted = [*reversed(mine), *["asset-of-another-1", ABSENT, "no id!", mine[0]] * 125]
    status, data = await call(gateway, "POST", f"{ASSETS}/sign", {"assetIds": wanted})
    assert status == 200
    assert [entry["assetId"] for entry in data["results"]] == wanted
    good = set(mine)
    for entry in data["results"]:
        if entry["assetId"] in good:
            assert set(entry) == {"assetId", "assetRef", "url", "expiresAt"}
            assert entry["url"].startswith(f"{ASSETS}/{entry['assetId']}?token=v1.k1.")
        else:
            assert entry == {"assetId": entry["assetId"], "error": "not_found"}


async def test_ids_and_references_stand_together_ids_first(gateway: Running) -> None:
    first, second = await add(gateway, 2, owner="user:u_1")
    body = {"assetRefs": [f"asset://{first}", second], "assetIds": [second]}
    _, data = await call(gateway, "POST", f"{ASSETS}/sign", body)
    assert [entry.get("assetRef") for entry in data["results"]] == [f"asset://{second}", f"asset://{first}", None]
    assert data["results"][2]["error"] == "not_found"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "assetRefs"),
        ({"assetIds": []}, "assetRefs"),
        ({"assetIds": [ABSENT] * 1001}, "assetIds"),
        ({"assetIds": [ABSENT] * 501, "assetRefs": [f"asset://{ABSENT}"] * 500}, "assetRefs"),
        ({"assetIds": ABSENT}, "assetIds"),
        ({"assetIds": [1]}, "assetIds.0"),
        ({"assetIds": [ABSENT], "expiresInSeconds": 0}, "expiresInSeconds"),
        ({"assetIds": [ABSENT], "expiresInSeconds": WEEK + 1}, "expiresInSeconds"),
        ({"assetIds": [ABSENT], "expiresInSeconds": "60"}, "expiresInSeconds"),
        ({"assetIds": [ABSENT], "window": -1}, "window"),
        ({"assetIds": [ABSENT], "window": 86401}, "window"),
        ({"assetIds": [ABSENT], "download": ""}, "download"),
        ({"assetIds": [ABSENT], "download": "x" * 256}, "download"),
        ({"assetIds": [ABSENT], "unknown": 1}, "unknown"),
        ([], "body"),
    ],
)
async def test_a_wrong_request_to_sign_is_told_which_field_is_wrong(gateway: Running, body: Any, field: str) -> None:
    status, problem = await call(gateway, "POST", f"{ASSETS}/sign", body)
    assert (status, problem["error"]) == (422, "invalid_request")
    assert list(problem["fields"]) == [field]


async def test_a_url_stays_the_same_for_its_window(gateway: Running) -> None:
    (asset_id,) = await add(gateway, 1, owner="user:u_1")
    gateway.clock.now -= gateway.clock.now % 60
    urls = []
    for _ in range(4):
        urls.append(await gateway.sign(asset_id))
        gateway.clock.move(20)
    assert urls[0] == urls[1] == urls[2] != urls[3]


@pytest.mark.parametrize("window", [0, 1, 60, 600, 86400])
async def test_a_url_lives_as_long_as_asked_and_a_window_more_at_most(gateway: Running, window: int) -> None:
    (asset_id,) = await add(gateway, 1, owner="user:u_1")
    body = {"assetIds": [asset_id], "expiresInSeconds": 3600, "window": window}
    for _ in range(5):
        gateway.clock.move(13)
        _, data = await call(gateway, "POST", f"{ASSETS}/sign", body)
        claims, now = claims_of(data["results"][0]["url"]), gateway.clock()
        assert now + 3600 <= claims["exp"] <= now + 3600 + min(window, 3600)
        assert claims["iat"] <= now


async def test_the_purpose_says_how_long_where_the_request_does_not(gateway: Running) -> None:
    async with running({"purposes.reference_image.url_ttl": "10m"}) as other:
        claims = claims_of(await other.sign(await other.asset(), window=0))
        assert claims["exp"] - claims["iat"] == 600


async def test_absolute_urls_begin_with_the_public_url(gateway: Running) -> None:
    assert (await gateway.sign(await gateway.asset(), absolute=True)).startswith(f"{gateway.url}{ASSETS}/")
    async with running({"server.public_url": "https://media.example.com/files/"}) as other:
        url = await other.sign(await other.asset(), absolute=True)
        assert url.startswith(f"https://media.example.com/files{ASSETS}/")


@pytest.mark.parametrize(
    ("download", "disposition"),
    [
        (None, 'inline; filename="picture.png"'),
        (False, 'inline; filename="picture.png"'),
        (True, 'attachment; filename="picture.png"'),
        ("report.png", 'attachment; filename="report.png"'),
        ("日本.png", "attachment; filename=\"__.png\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.png"),
    ],
)
async def test_a_download_has_the_name_that_was_asked_for(gateway: Running, download: Any, disposition: str) -> None:
    url = await gateway.sign(await gateway.asset(), download=download)
    async with gateway.client.get(url) as response:
        assert response.headers["Content-Disposition"] == disposition


async def test_a_url_of_an_expiring_asset_ends_with_it() -> None:
    async with running({"guests.ttl": "30m"}) as gateway:
        response = await gateway.upload(("purpose", "reference_image"), ("files", "a.png", PNG))
        data = (await response.json())["data"]
        body = {"assetIds": [data["assetId"]], "expiresInSeconds": WEEK}
        _, signed = await call(gateway, "POST", f"{ASSETS}/sign", body, guest_headers(response))
        assert signed["results"][0]["expiresAt"] == data["expiresAt"]
        assert claims_of(signed["results"][0]["url"])["exp"] == int(gateway.clock()) + 1800


async def test_a_token_ends_when_it_says_and_an_owner_reads_on(gateway: Running) -> None:
    url = await gateway.sign(await gateway.asset(), expiresInSeconds=60, window=0)
    assert await read(gateway, url) == (200, None)
    gateway.clock.move(60)
    assert await read(gateway, url) == (403, "token_expired")
    assert await read(gateway, url, MINE) == (200, None)


@pytest.mark.parametrize("change", ["token=", "token=x", "&token=v1.k1.e30.AAAA", "A", "=", "%20"])
async def test_a_token_that_is_not_quite_right_is_refused_whoever_brings_it(gateway: Running, change: str) -> None:
    asset_id = await gateway.asset()
    url = await gateway.sign(asset_id)
    wrong = f"{ASSETS}/{asset_id}?{change}" if change.startswith("token") else url + change
    for headers in (None, MINE, service_headers()):
        assert await read(gateway, wrong, headers) == (403, "token_invalid")
        assert await read(gateway, wrong.replace(asset_id, ABSENT), headers) == (403, "token_invalid")


# resolve


async def test_references_anywhere_in_a_document_become_urls(gateway: Running) -> None:
    asset_id = await gateway.asset()
    ref = f"asset://{asset_id}"
    document = {
        "title": "no reference",
        "image": ref,
        "deep": [[{"list": [1, None, True, 2.5, ref]}]],
        "markdown": f"![a]({ref}) and {ref}.",
        ref: "keys stay",
        "path": f"{ASSETS}/{asset_id}",
    }
    status, data = await call(gateway, "POST", f"{ASSETS}/resolve", {"document": document})
    assert status == 200
    resolved = data["document"]
    url = resolved["image"]
    assert await read(gateway, url) == (200, None)
    assert resolved == {
        **document,
        "image": url,
        "deep": [[{"list": [1, None, True, 2.5, url]}]],
        "markdown": f"![a]({url}) and {url}.",
    }


@pytest.mark.parametrize("document", ["plain", 1, None, [], {}, 1.5, True])
async def test_a_document_without_references_comes_back_as_it_is(gateway: Running, document: Any) -> None:
    assert await call(gateway, "POST", f"{ASSETS}/resolve", {"document": document}) == (200, {"document": document})


async def test_what_is_denied_is_an_error_null_or_kept(gateway: Running) -> None:
    mine, theirs = f"asset://{await gateway.asset()}", f"asset://{await gateway.asset(headers=OTHERS)}"
    document = {"a": [mine, theirs], "b/c": {"~": f"asset://{ABSENT}"}, "text": f"see {theirs}"}
    status, problem = await call(gateway, "POST", f"{ASSETS}/resolve", {"document": document})
    assert (status, problem["fields"]) == (422, {"/a/1": "not_found", "/b~1c/~0": "not_found", "/text": "not_found"})
    _, nulled = await call(gateway, "POST", f"{ASSETS}/resolve", {"document": document, "onDenied": "null"})
    url = nulled["document"]["a"][0]
    assert url.startswith(ASSETS)
    assert nulled["document"] == {"a": [url, None], "b/c": {"~": None}, "text": f"see {theirs}"}
    _, kept = await call(gateway, "POST", f"{ASSETS}/resolve", {"document": document, "onDenied": "keep"})
    assert kept["document"] == {**document, "a": [url, theirs]}
    status, _ = await call(gateway, "POST", f"{ASSETS}/resolve", {"document": document, "onDenied": "ignore"})
    assert status == 422


async def test_a_document_may_name_a_thousand_assets_and_no_more(gateway: Running) -> None:
    await add(gateway, 1000, owner="user:u_1")
    refs = [f"asset://asset-{n:08}" for n in range(1001)]
    status, data = await call(gateway, "POST", f"{ASSETS}/resolve", {"document": refs[:1000] * 2})
    assert (status, len(data["document"])) == (200, 2000)
    status, problem = await call(gateway, "POST", f"{ASSETS}/resolve", {"document": refs})
    assert (status, list(problem["fields"])) == (422, ["document"])


async def test_resolved_urls_can_be_absolute_and_as_long_as_asked(gateway: Running) -> None:
    body = {"document": f"asset://{await gateway.asset()}", "absolute": True, "expiresInSeconds": 120}
    _, data = await call(gateway, "POST", f"{ASSETS}/resolve", body)
    assert data["document"].startswith(f"{gateway.url}{ASSETS}/")
    assert 120 <= claims_of(data["document"])["exp"] - gateway.clock() <= 240


# claim


async def two_of_a_guest(gateway: Running) -> tuple[list[str], dict[str, str]]:
    files = [("files", f"{name}.png", PNG) for name in ("a", "b")]
    response = await gateway.upload(("purpose", "reference_image"), *files)
    results = (await response.json())["data"]["results"]
    assert all(entry["expiresAt"] for entry in results)
    return sorted(entry["assetId"] for entry in results), guest_headers(response)


async def test_a_guest_who_signs_in_takes_their_uploads_along(gateway: Running) -> None:
    ids, guest = await two_of_a_guest(gateway)
    assert await read(gateway, f"{ASSETS}/{ids[0]}", guest) == (200, None)
    status, data = await call(gateway, "POST", f"{ASSETS}/claim", headers={**MINE, **guest})
    assert (status, data["claimed"], sorted(data["assetIds"])) == (200, 2, ids)
    assert sorted(data["assetRefs"]) == [f"asset://{asset_id}" for asset_id in ids]
    gateway.clock.move(WEEK)
    for asset_id in ids:
        _, info = await call(gateway, "GET", f"{ASSETS}/{asset_id}/info")
        assert (info["ownerType"], info["expiresAt"]) == ("user", None)
        assert await read(gateway, f"{ASSETS}/{asset_id}", MINE) == (200, None)
        assert await read(gateway, f"{ASSETS}/{asset_id}", guest) == (404, "not_found")


async def test_a_second_claim_changes_nothing(gateway: Running) -> None:
    _, guest = await two_of_a_guest(gateway)
    await call(gateway, "POST", f"{ASSETS}/claim", headers={**MINE, **guest})
    for headers in (MINE, OTHERS):
        status, data = await call(gateway, "POST", f"{ASSETS}/claim", headers={**headers, **guest})
        assert (status, data["claimed"]) == (200, 0)
    _, listed = await call(gateway, "GET", ASSETS)
    assert len(listed["assets"]) == 2


async def test_of_many_claims_at_once_one_takes_all(gateway: Running) -> None:
    ids, guest = await two_of_a_guest(gateway)
    users = [user_headers(f"u_{n}") for n in range(10)]
    claims = [call(gateway, "POST", f"{ASSETS}/claim", headers={**user, **guest}) for user in users]
    counts = Counter(data["claimed"] for _, data in await asyncio.gather(*claims))
    assert counts == {2: 1, 0: 9}
    owners = {asset.owner for asset in (await gateway.parts.metadata.get(ids)).values()}
    assert len(owners) == 1


@pytest.mark.parametrize("cookie", [True, False])
async def test_only_who_signed_in_can_claim(gateway: Running, cookie: bool) -> None:
    _, guest = await two_of_a_guest(gateway)
    mine = guest if cookie else {}
    status, problem = await call(gateway, "POST", f"{ASSETS}/claim", headers=mine)
    assert (status, problem["error"]) == (401, "sign_in_required")
    status, problem = await call(gateway, "POST", f"{ASSETS}/claim", headers={**service_headers(), **mine})
    assert status == 401
    status, data = await call(gateway, "POST", f"{ASSETS}/claim", headers=MINE)
    assert (status, data["claimed"]) == (200, 0)


async def test_what_has_expired_cannot_be_claimed_any_more(gateway: Running) -> None:
    ids, guest = await two_of_a_guest(gateway)
    gateway.clock.move(24 * 3600)
    assert await read(gateway, f"{ASSETS}/{ids[0]}", guest) == (410, "asset_expired")
    _, data = await call(gateway, "POST", f"{ASSETS}/claim", headers={**MINE, **guest})
    assert data["claimed"] == 0


# info and list


async def test_the_record_tells_what_its_owner_may_know(gateway: Running) -> None:
    asset_id = await gateway.asset(filename="my-picture.png")
    status, info = await call(gateway, "GET", f"{ASSETS}/{asset_id}/info")
    asset = (await gateway.parts.metadata.get([asset_id]))[asset_id]
    assert status == 200
    assert {name: info[name] for name in ("assetId", "assetRef", "ownerType", "visibility", "purpose", "source")} == {
        "assetId": asset_id,
        "assetRef": f"asset://{asset_id}",
        "ownerType": "user",
        "visibility": "private",
        "purpose": "reference_image",
        "source": "upload",
    }
    assert (info["mimeType"], info["sizeBytes"], info["filename"]) == ("image/png", len(PNG), "my-picture.png")
    assert (info["sha256"], info["revokedAt"]) == (asset.sha256, None)
    told = orjson.dumps(info).decode()
    assert asset.object_key not in told
    assert asset.object_version not in told


async def pages(gateway: Running, query: str, headers: Mapping[str, str] = MINE) -> list[list[str]]:
    """Read the list to its end."""
    found: list[list[str]] = []
    cursor = ""
    while True:
        status, data = await call(gateway, "GET", f"{ASSETS}?{query}{cursor}", headers=headers)
        assert status == 200, data
        found.append([asset["assetId"] for asset in data["assets"]])
        if data["cursor"] is None:
            return found
        cursor = f"&cursor={data['cursor']}"


async def test_a_list_of_hundreds_is_read_page_by_page_newest_first(gateway: Running) -> None:
    mine = await add(gateway, 250, owner="user:u_1")
    for number in range(30):  # of the same moment as one of mine
        await gateway.parts.metadata.add(an_asset(f"other-{number:08}", owner="user:u_2", created_at=NOW + 100))
    found = await pages(gateway, "limit=100")
    assert [len(page) for page in found] == [100, 100, 50]
    assert [asset_id for page in found for asset_id in page] == mine[::-1]
    assert [len(page) for page in await pages(gateway, "")] == [50, 50, 50, 50, 50, 0]


async def test_assets_of_one_moment_are_neither_left_out_nor_told_twice(gateway: Running) -> None:
    for number in range(25):
        await gateway.parts.metadata.add(an_asset(f"twin-{number:08}", owner="user:u_1", created_at=NOW))
    found = [asset_id for page in await pages(gateway, "limit=7") for asset_id in page]
    assert len(found) == len(set(found)) == 25


async def test_a_list_can_be_of_one_purpose_or_kind(gateway: Running) -> None:
    kinds = {"image-00": ("image/png", "avatar"), "image-01": ("image/jpeg", "post_image")}
    kinds |= {"video-00": ("video/mp4", "reference_video"), "audio-00": ("audio/mpeg", "generated_audio")}
    for asset_id, (media_type, purpose) in kinds.items():
        asset = an_asset(asset_id, owner="user:u_1", media_type=media_type, purpose=purpose)
        await gateway.parts.metadata.add(asset)
    found = {
        query: {asset_id for page in await pages(gateway, query) for asset_id in page}
        for query in ("mediaType=image", "mediaType=image/png", "purpose=avatar", "mediaType=video&purpose=avatar")
    }
    assert found == {
        "mediaType=image": {"image-00", "image-01"},
        "mediaType=image/png": {"image-00"},
        "purpose=avatar": {"image-00"},
        "mediaType=video&purpose=avatar": set(),
    }


async def test_everybody_lists_their_own_and_a_service_anybodys(gateway: Running) -> None:
    ids, guest = await two_of_a_guest(gateway)
    mine, theirs = await gateway.asset(), await gateway.asset(headers=OTHERS)
    assert sorted((await pages(gateway, "", guest))[0]) == ids
    assert await pages(gateway, "") == [[mine]]
    assert await pages(gateway, "owner=user:u_2") == [[mine]]
    reader = service_headers("read")
    assert sorted((await pages(gateway, "", reader))[0]) == sorted([*ids, mine, theirs])
    assert await pages(gateway, "owner=user:u_2", reader) == [[theirs]]
    status, _ = await call(gateway, "GET", ASSETS, headers=service_headers("upload"))
    assert status == 403


async def test_the_cursor_of_another_shows_nothing_of_theirs(gateway: Running) -> None:
    await add(gateway, 10, owner="user:u_2")
    mine = an_asset("mine-0000001", owner="user:u_1", created_at=NOW + 3)
    await gateway.parts.metadata.add(mine)
    _, data = await call(gateway, "GET", f"{ASSETS}?limit=2", headers=OTHERS)
    assert await pages(gateway, f"limit=2&cursor={data['cursor']}") == [[mine.id]]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "abc", "", "1.5", "٣", "9" * 400])
async def test_a_wrong_limit_is_refused(gateway: Running, limit: str) -> None:
    status, problem = await call(gateway, "GET", f"{ASSETS}?limit={limit}")
    assert (status, list(problem["fields"])) == (422, ["limit"])


@pytest.mark.parametrize(
    "cursor", ["x", "!!!!", "e30", "W10", "WzEsMl0", "WyJhIiwiYiJd", "W251bGwsbnVsbF0", "ü", "A" * 4000]
)
async def test_a_wrong_cursor_is_refused(gateway: Running, cursor: str) -> None:
    status, problem = await call(gateway, "GET", f"{ASSETS}?cursor={cursor}")
    assert (status, problem["fields"]) == (400, {"cursor": "is malformed"})


# patch, delete, revoke


async def test_an_owner_shows_an_asset_to_all_and_hides_it_again(gateway: Running) -> None:
    path = f"{ASSETS}/{await gateway.asset()}"
    for visibility, seen in (("public", (200, None)), ("private", (404, "not_found")), ("public", (200, None))):
        status, data = await call(gateway, "PATCH", path, {"visibility": visibility})
        assert (status, data["visibility"]) == (200, visibility)
        assert await read(gateway, path) == seen
        assert await read(gateway, path, MINE) == (200, None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"visibility": "everyone"}, "visibility"),
        ({"visibility": None}, "visibility"),
        ({"filename": 1}, "filename"),
        ({"filename": "x" * 1001}, "filename"),
        ({"owner": "user:u_2"}, "owner"),
        ({"expiresAt": None}, "expiresAt"),
        ({"source": "provider"}, "source"),
        ([], "body"),
    ],
)
async def test_nothing_else_can_be_changed(gateway: Running, body: Any, field: str) -> None:
    asset_id = await gateway.asset()
    before = (await gateway.parts.metadata.get([asset_id]))[asset_id]
    status, problem = await call(gateway, "PATCH", f"{ASSETS}/{asset_id}", body)
    assert (status, list(problem["fields"])) == (422, [field])
    assert (await gateway.parts.metadata.get([asset_id]))[asset_id] == before


async def test_a_change_of_one_field_leaves_the_others(gateway: Running) -> None:
    path = f"{ASSETS}/{await gateway.asset()}"
    await call(gateway, "PATCH", path, {"visibility": "public"})
    gateway.clock.move(5)
    _, renamed = await call(gateway, "PATCH", path, {"filename": "../../etc/new name.png"})
    assert (renamed["visibility"], renamed["filename"]) == ("public", "new name.png")
    assert renamed["updatedAt"] > renamed["createdAt"]
    async with gateway.client.get(path) as response:
        assert response.headers["Content-Disposition"] == 'inline; filename="new name.png"'
    _, unnamed = await call(gateway, "PATCH", path, {"filename": None})
    assert unnamed["filename"] is None


async def test_what_is_deleted_is_gone_at_once_and_told_to_those_who_knew_it(gateway: Running) -> None:
    asset_id = await gateway.asset()
    path, url = f"{ASSETS}/{asset_id}", await gateway.sign(asset_id)
    await call(gateway, "PATCH", path, {"visibility": "public"})
    for before in (path, url):
        assert await read(gateway, before) == (200, None)
    assert await call(gateway, "DELETE", path) == (200, {"assetId": asset_id, "deleted": True})
    assert await read(gateway, path, MINE) == (410, "asset_deleted")
    assert await read(gateway, url) == (410, "asset_deleted")
    assert await read(gateway, path) == (404, "not_found")
    assert await read(gateway, path, OTHERS) == (404, "not_found")
    status, problem = await call(gateway, "DELETE", path)
    assert (status, problem["error"]) == (410, "asset_deleted")
    _, signed = await call(gateway, "POST", f"{ASSETS}/sign", {"assetIds": [asset_id]})
    assert signed["results"] == [{"assetId": asset_id, "error": "asset_deleted"}]
    assert await pages(gateway, "") == [[]]


async def test_the_bytes_follow_with_the_sweeper(gateway: Running) -> None:
    keep, gone = await gateway.asset(), await gateway.asset()
    await call(gateway, "DELETE", f"{ASSETS}/{gone}")
    assert len(await gateway.objects()) == 2
    await gateway.parts.sweeper.sweep()
    assert [key.rpartition("/")[2] for key in await gateway.objects()] == [keep]
    assert await read(gateway, f"{ASSETS}/{gone}", MINE) == (410, "asset_deleted")


async def test_a_revocation_kills_every_token_and_what_is_minted_next_works_at_once(gateway: Running) -> None:
    asset_id = await gateway.asset()
    terms: list[dict[str, Any]] = [{}, {"window": 0}, {"window": 86400}, {"expiresInSeconds": WEEK}, {"download": True}]
    for _ in range(3):  # all within one second
        old = [await gateway.sign(asset_id, **term) for term in terms]
        assert {await read(gateway, url) for url in old} == {(200, None)}
        status, data = await call(gateway, "POST", f"{ASSETS}/{asset_id}/revoke")
        assert (status, data["assetId"]) == (200, asset_id)
        assert {await read(gateway, url) for url in old} == {(403, "token_invalid")}
        assert {await read(gateway, url, MINE) for url in old} == {(403, "token_invalid")}
        new = [await gateway.sign(asset_id, **term) for term in terms]
        assert {await read(gateway, url) for url in new} == {(200, None)}
        assert all(claims_of(url)["iat"] > data["revokedAt"] for url in new)
    assert await read(gateway, f"{ASSETS}/{asset_id}", MINE) == (200, None)


async def test_tokens_stay_dead_as_time_goes_on(gateway: Running) -> None:
    asset_id = await gateway.asset()
    old = await gateway.sign(asset_id, expiresInSeconds=WEEK)
    await call(gateway, "POST", f"{ASSETS}/{asset_id}/revoke")
    moments = [await gateway.sign(asset_id)]
    for _ in range(5):
        gateway.clock.move(40)
        moments.append(await gateway.sign(asset_id))
        assert await read(gateway, old) == (403, "token_invalid")
        assert await read(gateway, moments[-1]) == (200, None)
    assert all(claims_of(a)["iat"] <= claims_of(b)["iat"] for a, b in pairwise(moments))


async def test_a_revocation_leaves_other_assets_alone(gateway: Running) -> None:
    first, second = await gateway.asset(), await gateway.asset()
    url = await gateway.sign(second)
    await call(gateway, "POST", f"{ASSETS}/{first}/revoke")
    assert await read(gateway, url) == (200, None)


# explain


async def explain(gateway: Running, query: str = "", headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
    path = f"{ASSETS}/{query}" if "/" in query else f"{ASSETS}/{ABSENT}/explain{query}"
    return await call(gateway, "GET", path, headers=service_headers("admin") if headers is None else headers)


async def test_only_a_service_with_the_scope_admin_may_ask_why(gateway: Running) -> None:
    status, problem = await explain(gateway, headers={})
    assert (status, problem["error"]) == (401, "sign_in_required")
    for headers in (MINE, *(service_headers(scope) for scope in ("read", "sign", "upload", "resolve", "tasks"))):
        status, problem = await explain(gateway, headers=headers)
        assert (status, problem["error"]) == (403, "scope_missing")
    assert (await explain(gateway))[0] == 200


async def test_the_rule_that_decided_is_named_with_what_it_read(gateway: Running) -> None:
    asset_id = await gateway.asset()
    token = (await gateway.sign(asset_id)).partition("token=")[2]
    _, owner = await explain(gateway, f"{asset_id}/explain?as=user:u_1&action=delete")
    assert (owner["allowed"], owner["rule"], owner["reason"]) == (True, "owner", "owner")
    assert owner["caller"]["id"] == "u_1"
    assert owner["asset"]["ownerType"] == "user"
    _, stranger = await explain(gateway, f"{asset_id}/explain?as=user:u_2")
    assert (stranger["allowed"], stranger["reason"]) == (False, "no_rule_allowed")
    _, holder = await explain(gateway, f"{asset_id}/explain?token={token}")
    assert (holder["allowed"], holder["rule"]) == (True, "token")
    await call(gateway, "DELETE", f"{ASSETS}/{asset_id}")
    _, late = await explain(gateway, f"{asset_id}/explain?as=user:u_2")
    # The operator learns what the stranger is not told.
    assert (late["rule"], late["reason"], late["told"]) == ("lifetime", "asset_deleted", "no_rule_allowed")
    rules = ["public", "token", "service", "owner", "guest", "lifetime"]
    assert [entry["rule"] for entry in late["rules"]] == rules


async def test_an_asset_that_is_not_there_is_explained_as_well(gateway: Running) -> None:
    status, found = await explain(gateway, "?as=user:u_1")
    assert (status, found["allowed"], found["asset"], found["told"]) == (200, False, None, "no_rule_allowed")


@pytest.mark.parametrize(
    ("query", "status"),
    [("?as=nobody", 422), ("?as=user:", 422), ("?action=fly", 422), ("?token=x", 403), ("?as=anonymous:x", 422)],
)
async def test_a_question_that_makes_no_sense_is_refused(gateway: Running, query: str, status: int) -> None:
    assert (await explain(gateway, query))[0] == status


async def test_what_is_said_in_json_is_kept_by_no_cache(gateway: Running) -> None:
    for path in (ASSETS, f"{ASSETS}/{await gateway.asset()}/info", f"{ASSETS}/{ABSENT}"):
        async with gateway.client.get(path, headers=MINE) as response:
            assert response.headers["Cache-Control"] == "no-store"
