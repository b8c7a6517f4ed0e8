"""How nodes see each other's changes on PostgreSQL: within 100 ms; and that they trust no memory that may be old."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest

from gateway.errors import RecordsUnavailable
from gateway.metadata import Metadata
from gateway.metadata.listening import LEASE
from gateway.metadata.remembered import Remembered
from policies.model import State
from tests.metadata.test_bulletin import DELETED, DUE, PENDING, READY, UNSTORED, WRITES, Write
from tests.metadata.test_postgres import IMPATIENT, aside, backends, service_returns
from tests.metadata.waiting import until
from tests.support.metadata import GUEST, NOW, OWNER, add_all, an_asset, numbered, opened, read, remembering
from tests.support.servers import postgres as postgres_module
from tests.support.servers.pgbouncer import PgBouncer
from tests.support.servers.postgres import Postgres

PROMISED = 0.1  # seconds
BUSY = 2.0  # seconds that a machine busy with other tests may take instead
LISTENERS = "query LIKE 'LISTEN%' OR query = 'SELECT 1'"


async def forgotten(store: Remembered, asset_id: str) -> None:
    """Wait until the record is remembered no more."""
    await until(lambda: store.peek(asset_id) is None, BUSY)


async def trusting(store: Remembered) -> None:
    await until(store.current)


@pytest.mark.parametrize(("asset_id", "write"), [case for case in WRITES if case[0] != "asset-new1"])
async def test_whatever_one_node_changes_another_sees_in_time(postgres_url: str, asset_id: str, write: Write) -> None:
    async with remembering(postgres_url) as one, remembering(postgres_url) as other, opened(postgres_url) as command:
        await add_all(command, PENDING, READY, DUE, DELETED, UNSTORED)
        before = await read(other, asset_id)
        assert other.peek(asset_id) is before
        assert before is not None
        await write(one)
        await forgotten(other, asset_id)
        after = await read(command, asset_id)
        assert after != before
        assert await read(other, asset_id) == await read(one, asset_id) == after


async def test_a_revocation_is_seen_by_other_nodes_as_soon_as_promised(postgres_url: str) -> None:
    async with remembering(postgres_url) as one, remembering(postgres_url) as other:
        await one.add(READY)
        took: list[float] = []
        for at in range(1, 22):
            await read(other, READY.id)
            await one.revoke(READY.id, at)
            started = time.monotonic()
            await forgotten(other, READY.id)
            took.append(time.monotonic() - started)
        assert sorted(took)[10] < PROMISED


async def test_what_another_program_changes_is_seen_as_well(postgres: Postgres, postgres_url: str) -> None:
    async with remembering(postgres_url) as store:
        await store.add(READY)
        await read(store, READY.id)
        await asyncio.to_thread(postgres.execute, "UPDATE assets SET visibility = 'public'", postgres_url)
        await forgotten(store, READY.id)


COPIES = """
    INSERT INTO assets
    SELECT (json_populate_record(a, json_build_object('id', a.id || repeat('x', 40) || n))).*
    FROM assets AS a, generate_series(1, {}) AS n
"""


@pytest.mark.parametrize("count", [1000, 10_001])
async def test_a_claim_of_many_is_seen_in_time(postgres: Postgres, postgres_url: str, count: int) -> None:
    async with remembering(postgres_url) as one, remembering(postgres_url) as other:
        await add_all(one, *numbered(3, owner=GUEST))
        await asyncio.to_thread(postgres.execute, COPIES.format(count // 3), postgres_url)
        ids = [asset.id for asset in numbered(3)]
        await other.get(ids)
        claimed = await one.claim(GUEST, OWNER, NOW)
        assert len(claimed) == count // 3 * 3 + 3
        for asset_id in ids:
            await forgotten(other, asset_id)


async def test_a_lost_channel_ends_trust_at_once_and_memory_begins_anew(postgres: Postgres, postgres_url: str) -> None:
    async with remembering(postgres_url) as store, opened(postgres_url) as other:
        await store.add(READY)
        await read(store, READY.id)
        (listener,) = await asyncio.to_thread(backends, postgres, postgres_url, LISTENERS)
        await asyncio.to_thread(postgres.execute, f"SELECT pg_terminate_backend({listener})")
        await until(lambda: not store.current(), BUSY)
        await other.revoke(READY.id, 3)  # nobody here can be told
        assert store.peek(READY.id) is None
        asset = await read(store, READY.id)
        assert asset is not None
        assert asset.revoked_at == 3
        await trusting(store)
        assert store.peek(READY.id) is None
        assert await read(store, READY.id) == asset
        assert store.peek(READY.id) == asset


async def test_a_channel_that_falls_silent_is_trusted_no_longer_than_its_lease(
    postgres: Postgres, postgres_url: str
) -> None:
    async with remembering(postgres_url) as store:
        await store.add(READY)
        await read(store, READY.id)
        (listener,) = await asyncio.to_thread(backends, postgres, postgres_url, LISTENERS)
        os.kill(listener, signal.SIGSTOP)
        try:
            await until(lambda: store.peek(READY.id) is None, LEASE + BUSY)
        finally:
            os.kill(listener, signal.SIGCONT)
        await trusting(store)
        await read(store, READY.id)
        assert store.peek(READY.id) == READY


async def test_behind_a_pooler_memory_lasts_for_seconds_unless_listening_goes_past_it(
    pgbouncer: PgBouncer, postgres_url: str
) -> None:
    pooled, settings = pgbouncer.url(postgres_url), {"POSTGRES_PGBOUNCER": "true"}
    async with remembering(pooled, **settings) as store:
        assert not store.news.lasting
    async with (
        remembering(pooled, **settings, POSTGRES_LISTEN_URL=postgres_url) as one,
        remembering(pooled, **settings, POSTGRES_LISTEN_URL=postgres_url) as other,
    ):
        assert other.news.lasting
        await one.add(READY)
        await read(other, READY.id)
        await one.change(READY.id, {"state": State.DELETED}, State.READY)
        await forgotten(other, READY.id)


@pytest.fixture
def own() -> Iterator[Postgres]:
    with postgres_module.running() as server:
        yield server


async def answers(store: Metadata) -> bool:
    try:
        return await read(store, READY.id) == READY
    except RecordsUnavailable:
        return False


async def test_while_the_records_are_away_reads_stop_or_go_on_as_the_settings_say(own: Postgres) -> None:
    url = own.create_database()
    async with (
        remembering(url, **IMPATIENT) as closed,
        remembering(url, **IMPATIENT, RECORDS_STALE_FOR="1500ms") as stale,
    ):
        await add_all(closed, READY)
        assert [await answers(closed), await answers(stale)] == [True, True]
        await aside(own.stop)
        lost = time.monotonic()
        try:
            assert [await answers(closed), await answers(stale)] == [False, True]
            while await answers(stale):  # noqa: ASYNC110 - nothing tells when a bound is reached
                await asyncio.sleep(0.02)
            assert time.monotonic() - lost < 2.5
            assert stale.peek(an_asset().id) is None
        finally:
            await aside(own.start)
        await service_returns(closed)
        await trusting(closed)
        await trusting(stale)
        assert [await answers(closed), await answers(stale)] == [True, True]
