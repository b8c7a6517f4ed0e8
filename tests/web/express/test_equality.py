"""Both lanes answer any conversation with the same bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.delivery import Known
from tests.support.gateway import PNG, guest_headers, service_headers, user_headers
from tests.support.raw import ask
from tests.support.storage import content
from tests.web.express.requests import Lines, conversations, oddities, plain_reads, posts
from tests.web.express.twins import Chunk, conversation, request, twins, watched

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY: Lines = tuple(service_headers().items())
OWNER: Lines = tuple(user_headers().items())
STRANGER: Lines = tuple(user_headers("u_9").items())


class Pair(NamedTuple):
    express: Path
    handlers: Path
    reads: list[tuple[str, Lines]]
    known: Known
    asset_id: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """The gateways, and reads that both know already."""
    async with twins(tmp_path_factory.mktemp("twins")) as (gateway, express, handlers):
        asset_id = await gateway.asset(PNG + content("middle", 5_000))
        path = f"/api/storage/assets/{asset_id}"
        large = f"/api/storage/assets/{await gateway.asset(PNG + content('large', 600_000))}"
        public = f"/api/storage/assets/{await gateway.asset(visibility='public')}"
        uploaded = await gateway.upload(("purpose", "reference_image"), ("files", "a.png", PNG))
        guests = f"/api/storage/assets/{(await uploaded.json())['data']['assetId']}"
        signed, saved = await gateway.sign(asset_id), await gateway.sign(asset_id, download="a b.png")
        guest: Lines = tuple(guest_headers(uploaded).items())
        reads: list[tuple[str, Lines]] = [
            *((path, OWNER), (path, KEY), (path, ()), (path, STRANGER), (signed, ()), (signed, OWNER), (saved, ())),
            *((large, OWNER), (public, ()), (public, OWNER), (public, guest), (guests, guest), (guests, ())),
            *((signed[:-1], ()), ("/api/storage/assets/never-there-01", OWNER)),
        ]
        first = await ask(gateway.url, "HEAD", path, OWNER)
        for target, lines in reads:
            await ask(gateway.url, "GET", target, lines)  # may wait for the records; then they are in memory
        await conversation(express, [Chunk(request("GET", target, *lines)) for target, lines in reads])
        known = Known(int(first.headers["Content-Length"]), first.headers["ETag"], int(gateway.clock()))
        yield Pair(express, handlers, reads, known, asset_id)


@settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_both_lanes_answer_any_conversation_alike(pair: Pair, data: st.DataObject) -> None:
    reads = plain_reads(pair.reads, pair.known)
    chunks = data.draw(conversations(reads, posts(KEY, pair.asset_id)))
    assert await conversation(pair.express, chunks) == await conversation(pair.handlers, chunks)


async def test_every_oddity_is_answered_alike_before_and_behind_remembered_reads(pair: Pair) -> None:
    target, lines = pair.reads[0]
    plain = request("GET", target, *lines)
    found = []
    for odd in oddities(plain):
        for chunks in (
            [Chunk(plain), Chunk(odd), Chunk(plain)],
            [Chunk(plain), Chunk(plain + odd)],
            [Chunk(odd, step=5)],
        ):
            if max(len(chunk.data) for chunk in chunks) > 3_000 and chunks[0].step is not None:
                continue
            answers = await conversation(pair.express, chunks), await conversation(pair.handlers, chunks)
            if answers[0] != answers[1]:
                found.append((odd[-200:], *answers))
    assert not found


async def test_remembered_reads_are_answered_by_the_lane(pair: Pair) -> None:
    target, lines = pair.reads[0]
    chunks = [Chunk(request("GET", target, *lines))] * 3
    with watched() as taken:
        await conversation(pair.express, chunks)
        assert len(taken.answered) == 3
        await conversation(pair.handlers, chunks)
    assert (len(taken.answered), len(taken.left)) == (3, 0)
