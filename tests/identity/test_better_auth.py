"""better-auth's sessions: cookies that its own code signed, and its table in SQLite files of both column styles."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import CannotStart, CredentialInvalid, RecordsFault, RecordsUnavailable
from gateway.identity import Identified
from gateway.identity.better_auth import BetterAuthSessions, cookie_names
from gateway.settings import BetterAuth
from tests.identity.made import NOW, HandClock
from tests.identity.sessions import (
    CAMEL,
    COOKIE,
    DOTTED_COOKIE,
    SECRET,
    SIGN_UP_COOKIE,
    SNAKE,
    STYLES,
    TOKEN,
    Style,
    cookie,
    sessions,
)

LATER = f"{NOW + 600:.0f}"
Open = Callable[..., BetterAuthSessions]


class Application:
    """The application's database file, which it writes while we read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def start(self, style: Style, expires_at: str = LATER, time: str = "DATE", **session: Any) -> None:
        self.run(*style.tables(time), style.add_user(), style.add_session(expires_at, **session))


@pytest.fixture
def application(tmp_path: Path) -> Application:
    return Application(tmp_path / "app with spaces & #.db")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def opened(application: Application, clock: HandClock) -> AsyncIterator[Open]:
    """Make the sessions of the application's database, closed with the test."""
    made: list[BetterAuthSessions] = []

    def make(**settings: Any) -> BetterAuthSessions:
        made.append(sessions(application.url, clock, **settings))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
async def test_a_session_names_its_user_and_role(application: Application, opened: Open, style: Style) -> None:
    application.start(style)
    found = opened()
    await found.open()
    roles = frozenset({"user"} if style.role else ())
    assert await found.identify(COOKIE) == Identified("u_1", NOW + 5, roles)


SIGNED = {
    "as browsers send it": (COOKIE, TOKEN),
    "decoded on the way": (f"{TOKEN}.QCwmcxSZzJWIb3PtNhQBTAd4u7vhs1GGh8DtlJw+8mY=", TOKEN),
    "of a token with dots": (DOTTED_COOKIE, "a.token.with.dots"),
    "of a real sign-up": (SIGN_UP_COOKIE, "oX31RZuctK3SN5oiRWer7hLt2TIpIO5G"),
}


@pytest.mark.parametrize(("value", "token"), SIGNED.values(), ids=SIGNED)
async def test_cookies_of_the_real_code_are_read(
    application: Application, opened: Open, value: str, token: str
) -> None:
    application.start(SNAKE, token=token)
    assert (await opened().identify(value)).id == "u_1"


BAD = {
    "nothing": "",
    "the token alone": TOKEN,
    "a token without signature": f"{TOKEN}.",
    "a signature without token": COOKIE.removeprefix(TOKEN),
    "another token": COOKIE.replace("Vj4", "Vj5"),
    "another signature": COOKIE.replace("QCw", "QCx"),
    "another spelling of the signature": COOKIE.replace("8mY%3D", "8mZ%3D"),
    "a signature without padding": COOKIE.removesuffix("%3D"),
    "a signature of 43 letters and two pads": COOKIE.replace("8mY%3D", "8m%3D%3D"),
    "another secret": cookie(TOKEN, "another-secret-of-the-application!!!"),
    "an empty token, signed": cookie(""),
    "encoded twice": COOKIE.replace("%", "%25"),
    "broken encoding": f"%FF{COOKIE}",
    "half a surrogate pair": f"\udcff{COOKIE}",
    "letters beyond ASCII in the signature": COOKIE.replace("QCw", "éCw"),
    "five kilobytes": cookie("t" * 5000),
    "SQL": f"' OR 1=1 --.{COOKIE.partition('.')[2]}",
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
async def test_a_cookie_that_is_not_signed_is_refused_before_any_look_up(opened: Open, value: str) -> None:
    with pytest.raises(CredentialInvalid) as refusal:  # there is no database at all
        await opened().identify(value)
    assert "WWW-Authenticate" in refusal.value.headers


@pytest.mark.parametrize(
    ("time", "left", "ended"),
    [
        ("INTEGER", f"{NOW + 60:.0f}", f"{NOW:.0f}"),
        ("INTEGER", f"{(NOW + 60) * 1000:.0f}", f"{NOW * 1000:.0f}"),
        ("DATE", "'2026-09-21T14:14:20.000Z'", "'2026-09-21T14:13:20.000Z'"),
        ("TEXT", "'2026-09-21 14:14:20'", "'2026-09-21 14:13:20'"),
        ("TEXT", "'2026-09-21T16:14:20+02:00'", "'2026-09-21T16:13:20+02:00'"),
        ("TEXT", f"'{(NOW + 60) * 1000:.0f}'", f"'{NOW * 1000:.0f}'"),
        ("REAL", f"{NOW + 60}", f"{NOW}"),
        ("DATE", LATER, "NULL"),
    ],
    ids=["seconds", "milliseconds", "ISO text", "SQLite text", "another zone", "digits", "a fraction", "nothing"],
)
async def test_the_expiry_is_read_in_every_form(
    application: Application, opened: Open, time: str, left: str, ended: str
) -> None:
    application.start(CAMEL, left, time)
    application.run(CAMEL.add_session(ended, "ended"))
    found = opened()
    assert (await found.identify(COOKIE)).id == "u_1"
    with pytest.raises(CredentialInvalid):
        await found.identify(cookie("ended"))


async def test_an_expiry_that_is_no_time_is_our_fault(application: Application, opened: Open) -> None:
    application.start(CAMEL, "'tomorrow'")
    with pytest.raises(RecordsFault):
        await opened().identify(COOKIE)


async def test_a_session_that_is_not_there_or_lost_its_user_is_refused(application: Application, opened: Open) -> None:
    application.start(CAMEL, user="'u_gone'")
    found = opened()
    for value in (COOKIE, cookie("unknown")):
        with pytest.raises(CredentialInvalid):
            await found.identify(value)


async def test_several_roles_stand_with_commas_between_them(application: Application, opened: Open) -> None:
    application.start(CAMEL)
    application.run("""UPDATE "user" SET role = 'admin, editor'""")
    assert (await opened().identify(COOKIE)).roles == {"admin", "editor"}


async def test_ids_of_digits_become_text(application: Application, opened: Open) -> None:
    application.run(*SNAKE.tables("INTEGER", "INTEGER"), SNAKE.add_user("7"), SNAKE.add_session(LATER, user="7"))
    assert (await opened().identify(COOKIE)).id == "7"


async def test_a_sign_out_is_seen_when_the_cache_ends(application: Application, opened: Open, clock: HandClock) -> None:
    application.start(CAMEL)
    found = opened(cache=5)
    assert found.remembered(COOKIE) is None
    await found.identify(COOKIE)
    application.run("DELETE FROM session")
    clock.now = NOW + 4.9
    assert found.remembered(COOKIE) is not None
    assert (await found.identify(COOKIE)).until == NOW + 5
    clock.now = NOW + 5
    assert found.remembered(COOKIE) is None
    with pytest.raises(CredentialInvalid):
        await found.identify(COOKIE)


async def test_a_no_is_believed_as_long_as_a_yes(application: Application, opened: Open, clock: HandClock) -> None:
    application.start(CAMEL, token="another")
    found = opened(cache=5)
    with pytest.raises(CredentialInvalid):
        await found.identify(COOKIE)
    application.run(CAMEL.add_session(LATER))
    with pytest.raises(CredentialInvalid):
        await found.identify(COOKIE)
    assert found.remembered(COOKIE) is None
    clock.now = NOW + 5
    assert (await found.identify(COOKIE)).id == "u_1"


async def test_the_cache_ends_with_the_session(application: Application, opened: Open, clock: HandClock) -> None:
    application.start(CAMEL, f"{NOW + 2:.0f}")
    found = opened(cache=60)
    assert (await found.identify(COOKIE)).until == NOW + 2
    clock.now = NOW + 2
    assert found.remembered(COOKIE) is None


async def test_without_a_cache_every_look_is_a_new_one(application: Application, opened: Open) -> None:
    application.start(CAMEL)
    found = opened(cache=0)
    await found.identify(COOKIE)
    application.run("DELETE FROM session")
    with pytest.raises(CredentialInvalid):
        await found.identify(COOKIE)


async def test_a_herd_is_answered_whole(application: Application, opened: Open) -> None:
    application.start(CAMEL)
    found = opened()
    assert {one.id for one in await asyncio.gather(*(found.identify(COOKIE) for _ in range(50)))} == {"u_1"}


async def test_a_database_that_is_away_is_no_fault_of_the_cookie_and_may_come_back(
    application: Application, opened: Open
) -> None:
    found = opened()
    with pytest.raises(RecordsUnavailable):
        await found.open()
    with pytest.raises(RecordsUnavailable):
        await found.identify(COOKIE)
    application.start(CAMEL)
    assert (await found.identify(COOKIE)).id == "u_1"


async def test_a_file_that_is_no_database_is_our_fault(application: Application, opened: Open) -> None:
    application.path.write_bytes(b"no database" * 1000)
    with pytest.raises(RecordsFault):
        await opened().identify(COOKIE)


async def test_tables_that_are_not_better_auths_keep_the_gateway_from_starting(
    application: Application, opened: Open
) -> None:
    application.run("CREATE TABLE session (sid TEXT, data TEXT)")
    with pytest.raises(CannotStart, match="no table session"):
        await opened().open()
    with pytest.raises(RecordsFault):
        await opened().identify(COOKIE)


async def test_tables_that_were_migrated_under_us_are_looked_at_again(
    application: Application, opened: Open, clock: HandClock
) -> None:
    application.start(CAMEL)
    found = opened()
    await found.identify(COOKIE)
    application.run('ALTER TABLE session RENAME COLUMN "userId" TO user_id')
    clock.now = NOW + 5
    with pytest.raises((RecordsFault, RecordsUnavailable)):
        await found.identify(COOKIE)
    assert (await found.identify(COOKIE)).id == "u_1"


async def test_the_applications_database_is_never_written(application: Application, opened: Open) -> None:
    application.start(CAMEL)
    before = application.path.read_bytes()
    await opened().identify(COOKIE)
    assert application.path.read_bytes() == before
    assert [path.name for path in application.path.parent.iterdir()] == [application.path.name]


async def test_a_session_is_found_in_the_write_ahead_log(application: Application, opened: Open) -> None:
    application.start(CAMEL, token="another")
    with closing(sqlite3.connect(application.path, isolation_level=None)) as writing:
        writing.execute("PRAGMA journal_mode = WAL")
        writing.execute(CAMEL.add_session(LATER))
        assert (await opened().identify(COOKIE)).id == "u_1"


@pytest.mark.parametrize("database", ["", "sqlite:///", "mysql://host/app", "app.db"])
def test_a_database_of_no_known_kind_keeps_the_gateway_from_starting(database: str, clock: HandClock) -> None:
    with pytest.raises(CannotStart, match=r"identity\.better_auth\.database"):
        sessions(database, clock)


def test_the_cookie_may_have_the_name_of_https_which_goes_first() -> None:
    settings = BetterAuth(secret=SECRET, database="sqlite:///a.db")
    plain = "better-auth.session_token"
    assert cookie_names(settings) == (f"__Secure-{plain}", plain)
    for name in (f"__Secure-{plain}", f"__Host-{plain}"):
        assert cookie_names(settings.model_copy(update={"cookie": name})) == (name,)
