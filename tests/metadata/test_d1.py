"""What the D1 member does when the service is late, busy, wrong or away, and how few requests it makes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.errors import CannotStart, RecordsFault, RecordsTimeout, RecordsUnavailable, StorageFull, Unavailable
from gateway.metadata import Metadata
from gateway.metadata.d1_client import seconds_of
from gateway.metadata.limiter import Limiter
from policies.model import State
from tests.metadata.waiting import until
from tests.metadata.watched import HandClock
from tests.support.metadata import (
    GUEST,
    NOW,
    OWNER,
    an_asset,
    d1_settings,
    numbered,
    open_at,
    opened,
    read,
    remembering,
)
from tests.support.servers import processes
from tests.support.servers.d1 import D1

Fault = Callable[[web.Request, Callable[[], Awaitable[web.Response]]], Awaitable[web.StreamResponse]]


class Between:
    """A proxy before the service, which has the next requests answered by what is in `faults`."""

    def __init__(self, server: D1) -> None:
        self.faults: deque[Fault] = deque()
        self.asked: list[bytes] = []
        self._server = server

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append(body)

        async def forwarded() -> web.Response:
            headers = {"Authorization": request.headers["Authorization"]}
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"{self._server.origin}{request.path}", data=body, headers=headers) as answer,
            ):
                return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

        return await (self.faults.popleft()(request, forwarded) if self.faults else forwarded())


Through = tuple[Metadata, Between]


@asynccontextmanager
async def through(d1: D1, database: str, **settings: str) -> AsyncIterator[Through]:
    """Open a store with one asset through a proxy."""
    url, usual = f"d1://{d1.account}/{database}", d1_settings(d1)
    async with opened(url, **usual) as direct:
        await asyncio.to_thread(d1.query, database, "DELETE FROM assets")
        await direct.add(an_asset(owner=GUEST))
    between = Between(d1)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", between.handle)
    async with TestServer(application) as proxy:
        more = usual | {"D1_BASE_URL": str(proxy.make_url("/client/v4"))} | settings
        store = await open_at(url, **more)
        try:
            yield store, between
        finally:
            await store.close()


def says(status: int, body: bytes | str = "", **headers: str) -> Fault:
    """Answer so, and run nothing."""

    async def fault(_: web.Request, __: object) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body if isinstance(body, bytes) else body.encode(), headers=named)

    return fault


def errors(message: str, code: int = 7500) -> bytes:
    return orjson.dumps({"result": [], "success": False, "errors": [{"code": code, "message": message}]})


async def hangs(_: web.Request, __: object) -> web.Response:
    await asyncio.sleep(3600)
    raise AssertionError("unreachable")


async def breaks(request: web.Request, _: object) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def runs_and_breaks(request: web.Request, forwarded: Callable[[], Awaitable[web.Response]]) -> web.Response:
    await forwarded()
    return await breaks(request, None)


async def stops_halfway(request: web.Request, forwarded: Callable[[], Awaitable[web.Response]]) -> web.StreamResponse:
    answer = await forwarded()
    assert isinstance(answer.body, bytes)
    partial = web.StreamResponse(headers={"Content-Length": str(len(answer.body))})
    await partial.prepare(request)
    await partial.write(answer.body[: len(answer.body) // 2])
    assert request.transport is not None
    request.transport.abort()
    return partial


FAULTS: list[tuple[Fault, type[Unavailable]]] = [
    (says(500), RecordsUnavailable),
    (says(502, "<html>Bad gateway</html>"), RecordsUnavailable),
    (says(504, "<html>"), RecordsTimeout),
    (says(524, "<html>"), RecordsTimeout),
    (says(500, errors("Internal error in D1 DB storage caused object to be reset.")), RecordsUnavailable),
    (says(400, errors("D1 DB is overloaded. Too many requests queued.")), RecordsUnavailable),
    (says(400, errors("Network connection lost.")), RecordsUnavailable),
    (says(400, errors("D1 DB storage operation exceeded timeout which caused object to be reset.")), RecordsTimeout),
    (says(400, errors("database or disk is full: SQLITE_FULL")), StorageFull),
    (says(400, errors("near INSERTZ: syntax error")), RecordsFault),
    (says(401, errors("Authentication error", 10000)), RecordsUnavailable),
    (says(403, errors("Forbidden", 10000)), RecordsUnavailable),
    (says(404, errors("The database could not be found", 7404)), RecordsUnavailable),
    (says(302, "", Location="http://127.0.0.1:1/"), RecordsFault),
    (says(200, "garbage"), RecordsFault),
    (says(200, "{}"), RecordsFault),
    (says(200, '{"success": true, "result": [7]}'), RecordsFault),
    (says(200, '{"success": true, "result": []}'), RecordsFault),
    (says(200, b"\xff" * 100), RecordsFault),
    (hangs, RecordsTimeout),
    (breaks, RecordsUnavailable),
    (stops_halfway, RecordsUnavailable),
]


@pytest.mark.parametrize(("fault", "error"), FAULTS)
async def test_whatever_the_service_answers_has_its_error_and_is_got_over(
    d1: D1, d1_shared: str, fault: Fault, error: type[Unavailable]
) -> None:
    async with through(d1, d1_shared, D1_TIMEOUT="300ms") as (store, between):
        between.faults.extend([fault, fault])  # a read may ask twice
        with pytest.raises(Unavailable) as raised:
            await store.get([an_asset().id])
        assert isinstance(raised.value, error)
        between.faults.clear()
        assert await read(store, an_asset().id) == an_asset(owner=GUEST)


@pytest.mark.parametrize("fault", [says(503), breaks, stops_halfway])
async def test_a_read_is_asked_again_once(d1: D1, d1_shared: str, fault: Fault) -> None:
    async with through(d1, d1_shared) as (store, between):
        between.faults.append(fault)
        assert await read(store, an_asset().id) == an_asset(owner=GUEST)
        assert len(between.asked) == 2


@pytest.mark.parametrize(("fault", "claimed"), [(says(503), False), (breaks, False), (runs_and_breaks, True)])
async def test_a_write_that_may_have_run_is_not_asked_again(
    d1: D1, d1_shared: str, fault: Fault, claimed: bool
) -> None:
    async with through(d1, d1_shared) as (store, between):
        between.faults.append(fault)
        with pytest.raises(RecordsUnavailable):
            await store.claim(GUEST, OWNER, NOW)
        assert len(between.asked) == 1
        asset = await read(store, an_asset().id)
        assert asset is not None
        assert asset.owner == (OWNER if claimed else GUEST)


async def test_a_service_that_nobody_can_reach_is_away() -> None:
    settings = {"D1_BASE_URL": f"http://127.0.0.1:{processes.free_port()}", "D1_API_TOKEN": "t"}
    async with opened_only("d1://account/database", **settings) as store:
        with pytest.raises(RecordsUnavailable):
            await store.ping()
        with pytest.raises(RecordsUnavailable):
            await store.add(an_asset())


@asynccontextmanager
async def opened_only(url: str, **settings: str) -> AsyncIterator[Metadata]:
    store = await open_at(url, **settings)
    try:
        yield store
    finally:
        await store.close()


async def test_a_service_that_asks_for_a_pause_gets_it(d1: D1, d1_shared: str) -> None:
    async with through(d1, d1_shared) as (store, between):
        between.faults.append(says(429, errors("Please wait", 971), Retry_After="7"))
        with pytest.raises(RecordsUnavailable) as raised:
            await store.get([an_asset().id])
        assert raised.value.headers["Retry-After"] == "7"
        with pytest.raises(RecordsUnavailable) as raised:
            await store.claim(GUEST, OWNER, NOW)
        assert raised.value.headers["Retry-After"] == "7"
        assert len(between.asked) == 1


async def test_a_short_pause_is_waited_for(d1: D1, d1_shared: str) -> None:
    async with through(d1, d1_shared) as (store, between):
        between.faults.append(says(429, errors("Please wait", 971), Retry_After="1"))
        with pytest.raises(RecordsUnavailable):
            await store.ping()
        started = asyncio.get_running_loop().time()
        await store.ping()
        assert asyncio.get_running_loop().time() - started > 0.9
        assert len(between.asked) == 2


async def test_the_real_limit_of_the_service_is_understood(d1: D1) -> None:
    async with opened_only(f"d1://{d1.account}/{d1.create_database()}", **d1_settings(d1)) as store:
        d1.refuse(1, headers={"Retry-After": "9"})
        with pytest.raises(RecordsUnavailable) as raised:
            await store.ping()
        assert raised.value.headers["Retry-After"] == "9"


async def test_look_ups_at_once_are_few_requests(d1: D1, d1_shared: str) -> None:
    async with through(d1, d1_shared) as (store, between):
        ids = [asset.id for asset in numbered(500)]
        answers = await asyncio.gather(*(store.get([asset_id]) for asset_id in [*ids, an_asset().id]))
        assert answers[-1] == {an_asset().id: an_asset(owner=GUEST)}
        assert sum(map(len, answers)) == 2  # numbers begin at nought: one of the five hundred is there as well
        assert len(between.asked) <= 3
        assert all(len(orjson.loads(body).get("params", [])) <= 100 for body in between.asked)


async def test_a_look_up_that_fails_fails_for_all_who_travelled_with_it_and_nobody_else(d1: D1, d1_shared: str) -> None:
    async with through(d1, d1_shared) as (store, between):
        between.faults.append(says(400, errors("no such table: assets")))
        first = [asyncio.create_task(store.get([an_asset().id])) for _ in range(3)]
        first[1].cancel()
        answers = await asyncio.gather(*first, return_exceptions=True)
        assert [type(answer) for answer in answers] == [RecordsFault, asyncio.CancelledError, RecordsFault]
        assert await read(store, an_asset().id)


async def test_a_store_that_closes_turns_those_away_who_wait(d1: D1, d1_shared: str) -> None:
    async with through(d1, d1_shared) as (store, between):
        between.faults.append(hangs)
        waiting = [asyncio.create_task(store.get([an_asset(f"asset-{n:04}").id])) for n in range(3)]
        await until(lambda: between.asked)
        late = asyncio.create_task(store.get(["asset-late"]))
        await asyncio.sleep(0)
        await store.close()
        for answer in await asyncio.gather(*waiting, late, return_exceptions=True):
            assert isinstance(answer, RecordsUnavailable)


async def test_a_batch_is_one_request_and_one_transaction(d1: D1, d1_shared: str) -> None:
    async with through(d1, d1_shared) as (store, between):
        await store.add(an_asset("asset-new1"))
        await store.change("asset-new1", {"state": State.DELETED}, State.READY)
        await store.expire(NOW, NOW, 10)
        assert len(between.asked) == 3


async def test_turns_come_at_the_rate_of_the_service_after_a_burst() -> None:
    steady, slept = HandClock(), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        steady.now += seconds

    limiter = Limiter(4, 3, 10, steady, sleep)
    for _ in range(6):
        await limiter.turn()
    assert slept == [0.25, 0.25, 0.25]
    steady.now += 100  # a quiet time saves up a burst and no more
    for _ in range(4):
        await limiter.turn()
    assert slept == [0.25] * 4


async def test_who_would_wait_too_long_is_told_when_to_come_again_and_takes_no_turn() -> None:
    steady, slept = HandClock(), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)  # others come meanwhile: the clock stands

    limiter = Limiter(1, 1, 2, steady, sleep)
    for _ in range(3):
        await limiter.turn()
    for _ in range(5):
        with pytest.raises(RecordsUnavailable) as raised:
            await limiter.turn()
        assert raised.value.headers["Retry-After"] == "3"
    steady.now += 1
    await limiter.turn()
    assert slept == [1, 2, 2]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7),
        (" 0 ", 0),
        ("soon", None),
        ("-1", None),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30),
        ("Tue, 14 Nov 2023 22:12:00 GMT", 0),  # one of the two clocks was set
    ],
)
def test_a_pause_is_read_in_seconds_or_as_a_date(header: str | None, seconds: float | None) -> None:
    assert seconds_of(header, NOW / 1000) == seconds


WRONG = [
    ("d1://account", {"D1_API_TOKEN": "t"}, "d1://<account>/<database>"),
    ("d1://account/../database", {"D1_API_TOKEN": "t"}, "d1://<account>/<database>"),
    ("d1://account/database", {}, "d1.api_token"),
]


@pytest.mark.parametrize(("url", "settings", "problem"), WRONG)
async def test_a_wrong_address_or_no_token_refuses_to_start(
    monkeypatch: pytest.MonkeyPatch, url: str, settings: dict[str, str], problem: str
) -> None:
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN", raising=False)
    with pytest.raises(CannotStart, match=problem):
        await open_at(url, **settings)


async def test_the_token_of_wrangler_serves_as_well(d1: D1, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", d1.token)
    async with opened_only(f"d1://{d1.account}/{d1.create_database()}", D1_BASE_URL=d1.api) as store:
        await store.ping()


async def test_a_closed_store_is_away(d1: D1) -> None:
    store = await open_at(f"d1://{d1.account}/none", **d1_settings(d1))
    await store.close()
    for asking in (store.ping(), store.upgrade(), store.get(["asset-1"]), store.add(an_asset())):
        with pytest.raises(RecordsUnavailable):
            await asking


async def test_a_change_made_elsewhere_is_seen_within_the_stated_seconds(d1: D1, d1_shared: str) -> None:
    steady, settings = HandClock(), d1_settings(d1) | {"RECORDS_UNANNOUNCED_FOR": "2s"}
    url = f"d1://{d1.account}/{d1_shared}"
    async with (
        through(d1, d1_shared),
        remembering(url, **settings) as one,
        remembering(url, steady, **settings) as other,
    ):
        before = await read(other, an_asset().id)
        await one.revoke(an_asset().id, 5)
        steady.now += 1.9
        assert other.peek(an_asset().id) is before
        steady.now += 0.1
        assert other.peek(an_asset().id) is None
        assert await read(other, an_asset().id) == await read(one, an_asset().id) != before
