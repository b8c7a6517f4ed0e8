"""The delivery table over HTTP, byte for byte, on every combination of engines."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import pytest_asyncio

from policies.model import State
from tests.support import delivery
from tests.support.delivery import CASES, Case, Known
from tests.support.gateway import PNG, Running, service_headers, user_headers
from tests.support.raw import Answer, Connection, ask, connected
from tests.support.storage import content

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTENT = PNG + content("delivery", 600_000)  # more than two writes of the sender's
LONGEST_LINE = 8190  # bytes of one header that the server reads
OWNER = tuple(user_headers("u_1").items())

# Nothing that a test sends twice may come back twice.
ONCE = ("Content-Length", "Content-Type", "Content-Range", "ETag", "Last-Modified", "Cache-Control", "X-Request-Id")


class Sample(NamedTuple):
    gateway: Running
    path: str
    known: Known


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sample(engines: Running) -> Sample:
    """An asset, and what its first answer says of it."""
    path = f"/api/storage/assets/{await engines.asset(CONTENT)}"
    first = await ask(engines.url, "HEAD", path, OWNER)
    assert first.status == 200, first
    modified = delivery.Known(len(CONTENT), first.headers["ETag"], int(engines.clock()))
    assert first.headers["Last-Modified"] == modified.fill("{modified}")
    return Sample(engines, path, modified)


def faults_of(case: Case, known: Known, answer: Answer, data: bytes = CONTENT) -> list[str]:
    length = len(answer.body) if case.method == "GET" and case.status == 206 else None
    found = case.faults(known, answer.status, answer.headers, length)
    if case.status in {200, 206} and answer.body != case.body(known, data):
        found.append(f"the body is another: {len(answer.body)} bytes")
    names = [name.lower() for name, _ in answer.lines]
    return found + [f"{name} stands there twice" for name in ONCE if names.count(name.lower()) > 1]


def too_long(case: Case, known: Known) -> bool:
    return any(len(value) > LONGEST_LINE for _, value in case.headers(known))


@pytest.mark.parametrize("case", CASES, ids=delivery.name_of)
async def test_each_request_gets_its_answer(sample: Sample, case: Case) -> None:
    answer = await ask(sample.gateway.url, case.method, sample.path, [*OWNER, *case.headers(sample.known)])
    if too_long(case, sample.known):
        assert (answer.status, answer.headers["Content-Type"]) == (400, "application/problem+json")
        assert answer.document["request_id"] == answer.headers["X-Request-Id"]
        assert b"999" not in answer.body
        return
    assert faults_of(case, sample.known, answer) == []


async def test_all_of_them_are_told_apart_on_one_connection(sample: Sample) -> None:
    cases = [case for case in CASES if not too_long(case, sample.known)]
    async with connected(sample.gateway.url) as connection:
        for case in cases:
            connection.send(case.method, sample.path, [*OWNER, *case.headers(sample.known)])
        found = {case.name: faults_of(case, sample.known, await connection.answer(case.method)) for case in cases}
    assert {name: faults for name, faults in found.items() if faults} == {}


async def sizes(connection: Connection, sample: Sample, path: str) -> list[tuple[int, int]]:
    asked = [(), (("Range", "bytes=0-1"),), (("If-None-Match", sample.known.etag),)]
    answers = [await connection.ask("GET", path, lines) for lines in asked]
    return [(answer.status, len(answer.body)) for answer in answers]


async def test_a_token_opens_the_same_bytes(sample: Sample) -> None:
    path = await sample.gateway.sign(sample.path.rpartition("/")[2])
    async with connected(sample.gateway.url) as connection:
        assert await sizes(connection, sample, path) == [(200, len(CONTENT)), (206, 2), (304, 0)]


async def test_caches_are_told_by_what_the_grant_rests_on(sample: Sample) -> None:
    gateway, path = sample.gateway, sample.path
    signed = await gateway.sign(path.rpartition("/")[2], expiresInSeconds=600, window=0)
    shown = await gateway.asset(PNG, headers=service_headers(), owner="user:u_1", visibility="public")
    found = {
        "owner": (await ask(gateway.url, "GET", path, OWNER)).headers,
        "token": (await ask(gateway.url, "GET", signed)).headers,
        "token, and an owner who needs none": (await ask(gateway.url, "GET", signed, OWNER)).headers,
        "public": (await ask(gateway.url, "GET", f"/api/storage/assets/{shown}")).headers,
        "public, to its owner": (await ask(gateway.url, "GET", f"/api/storage/assets/{shown}", OWNER)).headers,
    }
    caching = {name: (headers["Cache-Control"], headers.get("Vary")) for name, headers in found.items()}
    public = ("public, max-age=300, stale-while-revalidate=60", None)
    assert caching == {
        "owner": ("private, no-cache", "Authorization, Cookie"),
        "token": ("private, max-age=600", None),
        "token, and an owner who needs none": ("private, max-age=600", None),
        "public": public,
        "public, to its owner": public,
    }


async def test_not_modified_says_no_less_of_caching_than_the_whole(sample: Sample) -> None:
    whole = await ask(sample.gateway.url, "GET", sample.path, OWNER)
    lines = [*OWNER, ("If-None-Match", sample.known.etag)]
    unchanged = await ask(sample.gateway.url, "GET", sample.path, lines)
    for name in ("ETag", "Cache-Control", "Vary"):  # RFC 9110, section 15.4.5
        assert unchanged.headers.get(name) == whole.headers.get(name)


async def test_what_has_no_body_never_asks_the_storage(engines: Running) -> None:
    """The object is taken away behind the record: whoever touches the storage now is answered 502."""
    asset_id = await engines.asset(CONTENT)
    path = f"/api/storage/assets/{asset_id}"
    etag = (await ask(engines.url, "HEAD", path, OWNER)).headers["ETag"]
    await engines.parts.storage.delete([(await engines.parts.metadata.get([asset_id]))[asset_id].object_key])
    asked = {
        "HEAD": ("HEAD", OWNER),
        "unchanged": ("GET", (*OWNER, ("If-None-Match", etag))),
        "failed": ("GET", (*OWNER, ("If-Match", '"other"'))),
        "outside": ("GET", (*OWNER, ("Range", f"bytes={len(CONTENT)}-"))),
        "stranger": ("GET", ()),
        "whole": ("GET", OWNER),
        "range": ("GET", (*OWNER, ("Range", "bytes=0-1"))),
    }
    statuses = {name: (await ask(engines.url, method, path, lines)).status for name, (method, lines) in asked.items()}
    expected = {"HEAD": 200, "unchanged": 304, "failed": 412, "outside": 416, "stranger": 404}
    assert statuses == {**expected, "whole": 502, "range": 502}


async def test_trouble_before_the_first_byte_is_a_problem_to_read(engines: Running) -> None:
    asset_id = await engines.asset(CONTENT)
    await engines.parts.storage.delete([(await engines.parts.metadata.get([asset_id]))[asset_id].object_key])
    answer = await ask(engines.url, "GET", f"/api/storage/assets/{asset_id}", OWNER)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.document["error"] == "storage_fault"
    assert answer.document["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("filename", "disposition"),
    [
        ("a.png", 'inline; filename="a.png"'),
        ("Straße.png", "inline; filename=\"Stra_e.png\"; filename*=UTF-8''Stra%C3%9Fe.png"),
        ("page.html", 'inline; filename="page.html"'),
        (None, "inline"),
    ],
)
async def test_the_type_is_what_the_bytes_are_whatever_the_name_says(
    engines: Running, filename: str | None, disposition: str
) -> None:
    path = f"/api/storage/assets/{await engines.asset(filename='first.svg')}"
    async with engines.client.patch(path, json={"filename": filename}, headers=dict(OWNER)) as changed:
        assert changed.status == 200
    headers = (await ask(engines.url, "GET", path, OWNER)).headers
    assert (headers["Content-Type"], headers["Content-Disposition"]) == ("image/png", disposition)
    assert headers["Cross-Origin-Resource-Policy"] == "same-site"


@pytest.mark.parametrize(
    ("download", "disposition"),
    [
        (True, 'attachment; filename="picture.png"'),
        ("mine.png", 'attachment; filename="mine.png"'),
        ('a"b\r\nX: y.png', None),
    ],
)
async def test_a_token_can_make_it_a_download(engines: Running, download: bool | str, disposition: str | None) -> None:
    path = await engines.sign(await engines.asset(), download=download)
    answer = await ask(engines.url, "GET", path)
    assert answer.status == 200
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    assert "X" not in answer.headers
    if disposition is not None:
        assert answer.headers["Content-Disposition"] == disposition


@pytest.mark.parametrize("asset_id", ["short", "-begins-with-a-dash", "has.a.dot.in.it", "%00%00%00%00%00%00%00%00"])
async def test_what_cannot_be_an_id_is_not_found_before_any_look_up(engines: Running, asset_id: str) -> None:
    known = await ask(engines.url, "GET", "/api/storage/assets/never-there-01", OWNER)
    answer = await ask(engines.url, "GET", f"/api/storage/assets/{asset_id}", OWNER)
    assert answer.status == known.status == 404
    assert {**answer.document, "request_id": ""} == {**known.document, "request_id": ""}


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "TRACE"])
async def test_another_method_is_told_which_there_are(sample: Sample, method: str) -> None:
    answer = await ask(sample.gateway.url, method, sample.path, OWNER)
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PATCH", "DELETE"}


async def test_a_pending_asset_is_nobodys_to_read(engines: Running) -> None:
    asset_id = await engines.asset()
    await engines.parts.metadata.change(asset_id, {"state": State.PENDING}, when=State.READY)
    assert (await ask(engines.url, "GET", f"/api/storage/assets/{asset_id}", OWNER)).status == 404
