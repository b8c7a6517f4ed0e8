"""better-auth's session table in PostgreSQL: both column styles, every type of time, and a server that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from gateway.errors import CannotStart, CredentialInvalid, RecordsFault, RecordsUnavailable
from gateway.identity import Identified
from gateway.identity.better_auth import BetterAuthSessions
from tests.identity.made import NOW, HandClock
from tests.identity.sessions import CAMEL, COOKIE, SNAKE, STYLES, TOKEN, Style, cookie, sessions

LATER = f"to_timestamp({NOW + 600:.0f})"
Open = Callable[..., BetterAuthSessions]


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def opened(clock: HandClock) -> AsyncIterator[Open]:
    """Make the sessions of a database, closed with the test."""
    made: list[BetterAuthSessions] = []

    def make(url: str, **settings: Any) -> BetterAuthSessions:
        made.append(sessions(url, clock, **settings))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
async def test_a_session_names_its_user_and_role(postgres_url: str, opened: Open, style: Style) -> None:
    await run(postgres_url, *style.tables("TIMESTAMPTZ"), style.add_user(), style.add_session(LATER))
    found = opened(postgres_url)
    await found.open()
    roles = frozenset({"user"} if style.role else ())
    assert await found.identify(COOKIE) == Identified("u_1", NOW + 5, roles)
    with pytest.raises(CredentialInvalid):
        await found.identify(cookie("unknown"))


@pytest.mark.parametrize(
    ("time", "left", "ended"),
    [
        ("TIMESTAMPTZ", f"to_timestamp({NOW + 60})", f"to_timestamp({NOW})"),
        ("TIMESTAMP", "'2026-09-21 14:14:20'", "'2026-09-21 14:13:20'"),
        ("TIMESTAMP", "'infinity'", "'-infinity'"),
        ("TEXT", "'2026-09-21T14:14:20.000Z'", "'2026-09-21T14:13:20.000Z'"),
        ("BIGINT", f"{NOW + 60:.0f}", f"{NOW:.0f}"),
        ("BIGINT", f"{(NOW + 60) * 1000:.0f}", f"{NOW * 1000:.0f}"),
    ],
    ids=["with a zone", "without", "infinite", "ISO text", "seconds", "milliseconds"],
)
async def test_the_expiry_is_read_in_every_form(
    postgres_url: str, opened: Open, time: str, left: str, ended: str
) -> None:
    await run(postgres_url, *CAMEL.tables(time), CAMEL.add_user())
    await run(postgres_url, CAMEL.add_session(left), CAMEL.add_session(ended, "ended"))
    found = opened(postgres_url)
    assert (await found.identify(COOKIE)).id == "u_1"
    with pytest.raises(CredentialInvalid):
        await found.identify(cookie("ended"))


@pytest.mark.parametrize(
    ("key", "user"), [("UUID", "6f2c1f4e-6a44-4b0e-9a57-5d0f6f7b2a10"), ("BIGINT", "7")], ids=["UUID", "digits"]
)
async def test_ids_of_other_types_become_text(postgres_url: str, opened: Open, key: str, user: str) -> None:
    tables = SNAKE.tables("TIMESTAMP", key)
    await run(postgres_url, *tables, SNAKE.add_user(f"'{user}'"), SNAKE.add_session("'infinity'", user=f"'{user}'"))
    assert (await opened(postgres_url).identify(COOKIE)).id == user


async def test_tables_of_another_schema_are_found_by_the_search_path(postgres_url: str, opened: Open) -> None:
    schema = ["CREATE SCHEMA auth", "SET search_path TO auth", *CAMEL.tables("TIMESTAMPTZ")]
    await run(postgres_url, *schema, CAMEL.add_user(), CAMEL.add_session(LATER))
    assert (await opened(f"{postgres_url}?search_path=auth").identify(COOKIE)).id == "u_1"
    with pytest.raises(CannotStart, match="no table session"):
        await opened(postgres_url).open()


async def test_connections_that_were_cut_are_made_again(postgres_url: str, opened: Open, clock: HandClock) -> None:
    await run(postgres_url, *SNAKE.tables("TIMESTAMP"), SNAKE.add_user(), SNAKE.add_session("'infinity'"))
    found = opened(postgres_url)
    await found.identify(COOKIE)
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await run(postgres_url, f"SELECT pg_terminate_backend(pid) {others}")
    clock.now += 5
    with suppress(RecordsUnavailable):  # the one who finds the connection cut may be told so
        await found.identify(COOKIE)
    assert (await found.identify(COOKIE)).id == "u_1"


async def test_tables_that_were_migrated_under_us_are_looked_at_again(
    postgres_url: str, opened: Open, clock: HandClock
) -> None:
    await run(postgres_url, *CAMEL.tables("TIMESTAMPTZ"), CAMEL.add_user(), CAMEL.add_session(LATER))
    found = opened(postgres_url)
    await found.identify(COOKIE)
    await run(postgres_url, 'ALTER TABLE session RENAME COLUMN "expiresAt" TO expires_at')
    clock.now += 5
    with pytest.raises(RecordsFault):
        await found.identify(COOKIE)
    assert (await found.identify(COOKIE)).id == "u_1"


async def test_a_herd_makes_one_look_up(postgres_url: str, opened: Open) -> None:
    await run(postgres_url, *SNAKE.tables("TIMESTAMP"), SNAKE.add_user(), SNAKE.add_session("'infinity'"))
    found = opened(postgres_url)
    await found.open()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    locking, watching = await asyncpg.connect(postgres_url), await asyncpg.connect(postgres_url)
    async with asyncio.timeout(5), locking.transaction():
        await locking.execute("LOCK TABLE session IN ACCESS EXCLUSIVE MODE")
        herd = asyncio.gather(*(found.identify(COOKIE) for _ in range(50)))
        while not await watching.fetchval(waiting):
            pass
        await asyncio.sleep(0.1)  # a second look-up would need another connection: leave it time to make one
        assert await watching.fetchval(waiting) == 1
    assert {one.id for one in await herd} == {"u_1"}
    await locking.close()
    await watching.close()


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:9/app", "postgres://nobody@127.0.0.1:9/app"])
async def test_a_server_that_is_away_is_no_fault_of_the_cookie(opened: Open, url: str) -> None:
    found = opened(url)
    with pytest.raises(RecordsUnavailable):
        await found.open()
    with pytest.raises(RecordsUnavailable):
        await found.identify(COOKIE)


async def test_a_database_that_does_not_exist_is_away(postgres_url: str, opened: Open) -> None:
    with pytest.raises(RecordsUnavailable):
        await opened(f"{postgres_url}_missing").identify(COOKIE)


async def test_a_token_is_data_and_never_sql(postgres_url: str, opened: Open) -> None:
    await run(postgres_url, *SNAKE.tables("TIMESTAMP"), SNAKE.add_user(), SNAKE.add_session("'infinity'"))
    with pytest.raises(CredentialInvalid):
        await opened(postgres_url).identify(cookie(f"{TOKEN}' OR '1'='1"))
