"""What the PostgreSQL member does when the server, a connection or a statement fails, and that it comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest

from gateway.errors import CannotStart, RecordsTimeout, RecordsUnavailable, Unavailable
from gateway.metadata import Metadata, Quota
from tests.metadata.waiting import until
from tests.support.metadata import GUEST, NOW, OWNER, add_all, an_asset, numbered, open_at, opened, read
from tests.support.servers import postgres as postgres_module
from tests.support.servers.postgres import Postgres

BOUND = 3.0  # seconds within which an answer must come though the server is away; the settings below allow half
AWAY = 10.0  # seconds of an outage under load
IMPATIENT = {"POSTGRES_STATEMENT_TIMEOUT": "300ms", "POSTGRES_CONNECT_TIMEOUT": "500ms"}


@pytest.fixture(scope="module")
def own() -> Iterator[Postgres]:
    """A server that these tests may stop."""
    with postgres_module.running() as server:
        yield server


@pytest.fixture
def url(own: Postgres) -> str:
    return own.create_database()


def database_of(url: str) -> str:
    return url.rpartition("/")[2]


def backends(server: Postgres, url: str, condition: str = "true") -> list[int]:
    """Return the process ids of the connections to a database, of which `condition` is true."""
    rows = server.execute(
        f"SELECT pid FROM pg_stat_activity WHERE datname = '{database_of(url)}' AND {condition}"  # noqa: S608
    )
    return [int(pid) for pid in rows.split()]


def until_waiting(server: Postgres, url: str) -> int:
    """Wait until a connection waits for a lock; return its process id."""
    while True:
        for pid in backends(server, url, "wait_event_type = 'Lock'"):
            return pid


# A server ends with the thread that started it: this one lasts.
_STARTER = ThreadPoolExecutor(1)


async def aside(work: Callable[[], None]) -> None:
    """Stop or start a server while the loop goes on."""
    await asyncio.get_running_loop().run_in_executor(_STARTER, work)


async def service_returns(store: Metadata) -> None:
    """Ask until there is an answer; it comes within seconds."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await store.ping()
            except RecordsUnavailable:
                await asyncio.sleep(0.05)


async def test_while_the_server_is_away_answers_come_in_time_and_service_returns_by_itself(
    own: Postgres, url: str
) -> None:
    async with opened(url, **IMPATIENT) as store:
        await store.add(an_asset())
        own.stop()
        try:
            started = time.monotonic()
            reads = [store.get([asset.id]) for asset in numbered(50)]
            answers = await asyncio.gather(*reads, store.add(an_asset("asset-new1")), return_exceptions=True)
            assert time.monotonic() - started < BOUND
        finally:
            own.start()
        assert not [answer for answer in answers if not isinstance(answer, RecordsUnavailable)]
        await service_returns(store)
        assert await read(store, an_asset().id) == an_asset()
        assert await read(store, "asset-new1") is None


async def test_a_server_stopped_and_started_under_load_costs_errors_and_no_wrong_answer(
    own: Postgres, url: str
) -> None:
    async with opened(url, **IMPATIENT) as store:
        kept, wrong, ends = list[str](), list[object](), asyncio.Event()

        async def write(number: int) -> None:
            for n in range(1_000_000):
                asset = an_asset(f"asset-{number}-{n}")
                try:
                    await store.add(asset, Quota(10**6, 10**9), NOW)
                    kept.append(asset.id)
                    if await read(store, asset.id) != asset:
                        wrong.append(asset.id)
                except Unavailable:
                    await asyncio.sleep(0.01)
                if ends.is_set():
                    return

        writers = [asyncio.create_task(write(number)) for number in range(8)]
        await asyncio.sleep(0.2)
        before = len(kept)
        await aside(own.stop)
        await asyncio.sleep(AWAY)
        await aside(own.start)
        await service_returns(store)
        at_return = len(kept)
        await until(lambda: len(kept) >= at_return + 50)
        ends.set()
        await asyncio.gather(*writers)
        assert before
        assert not wrong
        assert len(await store.get(kept)) == len(kept)  # what was answered is there


async def test_a_server_that_starts_later_than_the_gateway_is_found(own: Postgres, url: str) -> None:
    own.stop()
    try:
        store = await open_at(url, **IMPATIENT)
        with pytest.raises(RecordsUnavailable):
            await store.upgrade()
    finally:
        own.start()
    await service_returns(store)
    await store.upgrade()
    await store.close()


async def test_a_server_that_hangs_is_late_and_no_connection_is_lost_to_it(own: Postgres, url: str) -> None:
    async with opened(url, **IMPATIENT) as store:
        await store.add(an_asset())
        stopped = [own.pid, *backends(own, url)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            answers = await asyncio.gather(*(store.ping() for _ in range(30)), return_exceptions=True)
            assert time.monotonic() - started < BOUND
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert {type(answer) for answer in answers} <= {RecordsTimeout, RecordsUnavailable}
        await service_returns(store)
        assert await asyncio.gather(*(read(store, an_asset().id) for _ in range(30))) == [an_asset()] * 30


async def test_a_connection_killed_in_the_middle_of_a_claim_claims_nothing(own: Postgres, url: str) -> None:
    assets = numbered(5, owner=GUEST)
    async with opened(url) as store:
        await add_all(store, *assets)
        other = await asyncpg.connect(url)
        async with other.transaction():
            # The claim changes the others and then waits for this one.
            await other.execute("SELECT 1 FROM assets WHERE id = $1 FOR UPDATE", assets[-1].id)
            claiming = asyncio.create_task(store.claim(GUEST, OWNER, NOW))
            waiting = await asyncio.to_thread(until_waiting, own, url)
            await asyncio.to_thread(own.execute, f"SELECT pg_terminate_backend({waiting})")
            with pytest.raises(RecordsUnavailable):
                await claiming
        await other.close()
        assert {asset.owner for asset in (await store.get([asset.id for asset in assets])).values()} == {GUEST}
        assert await store.claim(GUEST, OWNER, NOW) == [asset.id for asset in assets]


async def test_a_claim_that_lost_a_deadlock_is_tried_again(own: Postgres, url: str) -> None:
    assets = numbered(5, owner=GUEST)
    async with opened(url) as store:
        await add_all(store, *assets)
        other = await asyncpg.connect(url)
        async with other.transaction():
            lock = "SELECT 1 FROM assets WHERE id = $1 FOR UPDATE"
            await other.execute(lock, assets[-1].id)
            claiming = asyncio.create_task(store.claim(GUEST, OWNER, NOW))
            await asyncio.to_thread(until_waiting, own, url)
            await other.fetch(lock, assets[0].id)  # each now waits for the other; the claim has waited longer
        assert await claiming == [asset.id for asset in assets]
        await other.close()


async def test_connections_cut_while_idle_cost_a_reader_nothing(own: Postgres, url: str) -> None:
    async with opened(url) as store:
        await store.add(an_asset())
        await asyncio.gather(*(store.ping() for _ in range(5)))
        own.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database_of(url)}'"  # noqa: S608
        )
        assert await asyncio.gather(*(read(store, an_asset().id) for _ in range(20))) == [an_asset()] * 20


async def test_a_statement_that_waits_too_long_is_late_and_leaves_nothing_open(own: Postgres, url: str) -> None:
    async with opened(url, **IMPATIENT) as store:
        await store.add(an_asset(owner=GUEST))
        other = await asyncpg.connect(url)
        async with other.transaction():
            await other.execute("SELECT 1 FROM assets FOR UPDATE")
            with pytest.raises(RecordsTimeout):
                await store.claim(GUEST, OWNER, NOW)
        await other.close()
        assert await store.claim(GUEST, OWNER, NOW) == [an_asset().id]


async def test_callers_that_leave_leave_no_transaction_open(own: Postgres, url: str) -> None:
    async with opened(url) as store:
        await store.ping()
        for n, asset in enumerate(numbered(60, owner=GUEST)):
            adding = asyncio.create_task(store.add(asset, Quota(10**6, 10**9), NOW))
            await asyncio.sleep(0.0002 * (n % 12))
            adding.cancel()
            await asyncio.gather(adding, return_exceptions=True)
        await until(lambda: not backends(own, url, "state <> 'idle' AND pid <> pg_backend_pid()"))
        assert own.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").strip() == "0"


async def test_a_hundred_readers_share_two_connections(own: Postgres, url: str) -> None:
    async with opened(url, POSTGRES_POOL_SIZE="2") as store:
        await store.add(an_asset())
        assert await asyncio.gather(*(read(store, an_asset().id) for _ in range(100))) == [an_asset()] * 100
        assert len(backends(own, url)) == 2


async def test_statements_are_prepared_unless_a_pooler_is_between(own: Postgres, url: str) -> None:
    for pooled, count in (("false", 1), ("true", 0)):
        async with opened(url, POSTGRES_PGBOUNCER=pooled, POSTGRES_POOL_SIZE="1") as store:
            await read(store, an_asset().id)
            await read(store, an_asset().id)
            driver = store._driver  # type: ignore[attr-defined]  # noqa: SLF001 - what is prepared is seen there alone
            rows = await driver.fetch(
                ("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%id = $1'", ())
            )
            assert rows[0][0] == count


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("postgresql://postgres@127.0.0.1:1/x", RecordsUnavailable),
        ("postgresql://postgres@127.0.0.1:{port}/none", RecordsUnavailable),
        ("postgresql://postgres@127.0.0.1:port/x", CannotStart),
    ],
)
async def test_a_wrong_address_is_refused(own: Postgres, wrong: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        async with opened(wrong.format(port=own.port)):
            pass


async def test_a_closed_store_is_away(url: str) -> None:
    store = await open_at(url)
    await store.close()
    for asking in (store.ping(), store.upgrade(), store.get(["asset-1"]), store.add(an_asset())):
        with pytest.raises(RecordsUnavailable):
            await asking
