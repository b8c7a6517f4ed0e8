"""A connection goes from lane to handlers and back, sends large bodies as fast as they are read, and ends in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.app import build
from gateway.web import connections
from tests.support.gateway import (
    DRAIN_TIMEOUT,
    PNG,
    MovableClock,
    Running,
    answering,
    running,
    settings_for,
    user_headers,
)
from tests.support.raw import Connection, connected
from tests.support.sockets import Reader
from tests.support.storage import content
from tests.support.wire import chunked, head_of
from tests.web.express.twins import request, watched

MEBIBYTE = 1024 * 1024
LARGE = PNG + content("large", 4 * MEBIBYTE)
LARGER = PNG + content("larger", 16 * MEBIBYTE)  # than what the sockets' buffers hold
READ = 40_000  # bytes: more than a head
PATIENCE = 15.0  # seconds
SIGN = "/api/storage/assets/sign"
EXPRESS = {"server.express": True}


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with running(EXPRESS) as gateway:
        yield gateway


async def until(state: Callable[[], object], what: Callable[[], Any]) -> None:
    """Wait, turn by turn of the loop, until something is so."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not state():  # noqa: ASYNC110 - nothing announces that a socket's end has arrived
                await asyncio.sleep(0.001)
    except TimeoutError:
        pytest.fail(f"it stays so: {what()}")


def sample(gateway: Running, name: str) -> float:
    return gateway.parts.metrics.registry.get_sample_value(name) or 0.0


async def read(connection: Connection, path: str, content: bytes = PNG) -> None:
    answer = await connection.ask("GET", path)
    assert (answer.status, answer.body) == (200, content)


async def test_the_lane_answers_whoever_brings_a_token_alone_once_the_record_is_remembered(gateway: Running) -> None:
    asset_id = await gateway.asset()
    paths = [await gateway.sign(asset_id, download=name) for name in ("one.png", "two.png")]
    async with connected(gateway.url) as connection:
        with watched() as taken:
            for path in paths * 2:
                await read(connection, path)
        assert (len(taken.left), len(taken.answered)) == (0, 4)


async def test_the_lane_answers_who_has_a_session_from_the_second_read_on(gateway: Running) -> None:
    path, lines = f"/api/storage/assets/{await gateway.asset()}", tuple(user_headers().items())
    async with connected(gateway.url) as connection:
        with watched() as taken:
            for _ in range(3):
                assert (await connection.ask("GET", path, lines)).body == PNG
        assert (len(taken.left), len(taken.answered)) == (1, 2)
    async with connected(gateway.url) as connection:
        with watched() as taken:
            assert (await connection.ask("GET", path, lines)).body == PNG
        assert (len(taken.left), len(taken.answered)) == (0, 1)


BETWEEN = {
    "a route of the handlers": request("GET", "/healthz"),
    "what is not found": request("GET", "/no/such/route"),
    "a POST with a body": request("POST", SIGN, body=b"{}"),
    "a POST with a large body that is refused": request("POST", SIGN, body=b"x" * 300_000),
    "a condition that fails": b"",
}


@pytest.mark.parametrize("name", BETWEEN)
async def test_the_lane_takes_a_connection_back_from_the_handlers(gateway: Running, name: str) -> None:
    """It has to know that they wait for a next request: this fails when aiohttp calls its `_waiter` another name."""
    path = await gateway.sign(await gateway.asset())
    async with connected(gateway.url) as connection:
        await read(connection, path)
        for _ in range(2):
            data = BETWEEN[name] or request("GET", path, ("If-Match", '"other"'))
            connection.writer.write(data)
            assert (await connection.answer("GET")).status < 500
            with watched() as taken:
                await read(connection, path)
            assert len(taken.answered) == 1


async def test_what_came_while_the_handlers_were_busy_does_not_keep_the_connection_there(gateway: Running) -> None:
    path = await gateway.sign(await gateway.asset())
    async with connected(gateway.url) as connection:
        await read(connection, path)
        for _ in range(2):
            # A session's first read is the handlers' own, and they are busy while nobody takes its bytes.
            large = f"/api/storage/assets/{await gateway.asset(LARGER)}"
            connection.writer.write(request("GET", large, *user_headers().items()))
            await until(lambda: sample(gateway, "assetgate_open_streams"), lambda: "it is not sent")
            connection.writer.write(request("GET", path))
            await asyncio.sleep(0.01)  # many turns
            assert (await connection.answer("GET")).body == LARGER
            assert (await connection.answer("GET")).body == PNG
            with watched() as taken:
                await read(connection, path)
            assert len(taken.answered) == 1


async def test_a_busy_connection_comes_back_from_the_handlers_after_a_large_answer(gateway: Running) -> None:
    path, lines = f"/api/storage/assets/{await gateway.asset(LARGE)}", tuple(user_headers().items())
    async with connected(gateway.url) as connection:
        with watched() as taken:
            for _ in range(4):
                # Asked as soon as the last byte is there: the handler is about to end.
                assert (await connection.ask("GET", path, lines)).body == LARGE
        assert len(taken.answered) == 3


async def test_a_body_that_comes_in_pieces_is_the_handlers_to_its_end(gateway: Running) -> None:
    path = await gateway.sign(await gateway.asset())
    body = request("GET", path)  # what looks like a read inside a body is none
    async with connected(gateway.url) as connection:
        await read(connection, path)
        head = request("POST", SIGN, body=body)[: -len(body)]
        with watched() as taken:
            for piece in (head, body[:1], body[1:]):
                connection.writer.write(piece)
                for _ in range(5):
                    await asyncio.sleep(0)
            assert (await connection.answer("POST")).status == 401
            assert taken.answered == []
            await read(connection, path)
        assert len(taken.answered) == 1


async def test_chunks_that_look_like_a_read_are_none(gateway: Running) -> None:
    path = await gateway.sign(await gateway.asset())
    async with connected(gateway.url) as connection:
        await read(connection, path)
        connection.writer.write(head_of("POST", SIGN, {"Transfer-Encoding": "chunked"}))
        with watched() as taken:
            connection.writer.write(chunked(request("GET", path)) + chunked(b""))
            assert (await connection.answer("POST")).status == 401
            await read(connection, path)
        assert taken.answered == []


async def test_pipelined_reads_are_answered_in_their_order(gateway: Running) -> None:
    paths = [await gateway.sign(await gateway.asset(PNG + bytes([number]))) for number in range(3)]
    large = await gateway.sign(await gateway.asset(LARGE))
    async with connected(gateway.url) as connection:
        for path in [*paths, large]:
            await connection.ask("GET", path)
        for path in [large, *paths, large, *paths]:
            connection.writer.write(request("GET", path))
            await asyncio.sleep(0)
        bodies = [(await connection.answer("GET")).body for _ in range(8)]
    small = [PNG + bytes([number]) for number in range(3)]
    assert bodies == [LARGE, *small, LARGE, *small]


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
async def test_a_reader_who_leaves_the_lane_is_counted_as_broken(gateway: Running, reset: bool) -> None:
    path = await gateway.sign(await gateway.asset(LARGE))
    async with connected(gateway.url) as connection:
        await read(connection, path, LARGE)
    with watched() as taken:
        for _ in range(20):
            reader = Reader(gateway.url)
            await reader.ask(path)
            assert (await reader.read(READ)).startswith(b"HTTP/1.1 200 OK\r\n")
            reader.close(reset=reset)
    assert len(taken.answered) == 20
    await until(lambda: sample(gateway, "assetgate_broken_streams_total") == 20, lambda: gateway.journal.text)
    assert sample(gateway, "assetgate_open_streams") == 0
    assert gateway.journal.text.count('"status":499') == 20


async def test_a_slow_reader_of_the_lane_gets_every_byte(gateway: Running) -> None:
    path = await gateway.sign(await gateway.asset(LARGE))
    async with connected(gateway.url) as connection:
        await read(connection, path, LARGE)
    reader = Reader(gateway.url)
    with watched() as taken:
        await reader.ask(path)
        got = await reader.read(1)
    assert len(taken.answered) == 1
    assert sample(gateway, "assetgate_open_streams") == 1
    _, _, begun = (got + await reader.read(READ)).partition(b"\r\n\r\n")
    got = begun + await reader.read(len(LARGE) - len(begun))
    assert got == LARGE
    await until(lambda: sample(gateway, "assetgate_open_streams") == 0, lambda: "it is open")
    assert sample(gateway, "assetgate_broken_streams_total") == 0
    reader.close()


async def test_a_drain_closes_the_idle_at_once_lets_the_sending_finish_and_cuts_the_late() -> None:
    clock = MovableClock()
    async with build(settings_for(None, EXPRESS), clock) as parts, AsyncExitStack() as stack:
        await parts.metadata.upgrade()
        gateway = await stack.enter_async_context(answering(parts, clock))
        path = await gateway.sign(await gateway.asset(LARGE))
        fresh = await stack.enter_async_context(connected(gateway.url))
        served = await stack.enter_async_context(connected(gateway.url))
        await read(served, path, LARGE)
        await read(served, path, LARGE)  # by the lane
        sending, late = Reader(gateway.url), Reader(gateway.url)
        for reader in (sending, late):
            await reader.ask(path)
            assert await reader.read(1) == b"H"
        loop = asyncio.get_running_loop()
        began, closing = loop.time(), asyncio.create_task(stack.pop_all().aclose())
        assert await fresh.reader.read() == b""
        assert await served.reader.read() == b""
        assert not closing.done()
        assert (await sending.read(2 * len(LARGE))).endswith(LARGE)  # and then it is closed
        assert not closing.done()
        await closing
        assert loop.time() - began >= DRAIN_TIMEOUT
        assert len(await late.read(2 * len(LARGE))) < len(LARGE)
        assert sample(gateway, "assetgate_open_streams") == 0
        assert sample(gateway, "assetgate_broken_streams_total") == 1
        for reader in (sending, late):
            reader.close()


async def test_a_connection_that_nobody_uses_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE", 0.05)
    async with running(EXPRESS) as gateway, connected(gateway.url) as fresh, connected(gateway.url) as served:
        path = await gateway.sign(await gateway.asset())
        await read(served, path)
        await read(served, path)  # by the lane
        async with asyncio.timeout(PATIENCE):
            assert await fresh.reader.read() == b""
            assert await served.reader.read() == b""
