"""Where better-auth's session table keeps what we ask of it: the shape of the tables, and the times in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

_SESSION_TABLES: Final = ("session", "sessions")  # the plural is what `usePlural` of the drizzle adapter gives
_USER_TABLES: Final = ("user", "users")
_USER_COLUMNS: Final = ("userId", "user_id")
_EXPIRY_COLUMNS: Final = ("expiresAt", "expires_at")
_FIRST_MILLISECONDS: Final = (
    100_000_000_000  # as seconds the year 5138, as milliseconds 1973: above it are milliseconds
)


class WrongTables(Exception):
    """The database answers, and has no table that could be better-auth's; `problem` says so to the operator."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class Database(Protocol):
    """A connection to the application's database. Raises `RecordsUnavailable`, `RecordsTimeout`, `RecordsFault`."""

    parameter: str  # how SQL names its only parameter

    async def columns(self, table: str) -> frozenset[str]:
        """Return the names of a table's columns, none when there is no such table."""
        ...

    async def row(self, sql: str, token: str) -> Sequence[Any] | None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Session:
    """A row of the table. `expires_at` is in seconds since 1970."""

    user: str
    expires_at: float
    role: str | None


async def look_up(database: Database) -> str:
    """Look at the tables; return the SQL that finds a session by its token. Raises `WrongTables`."""
    for table in _SESSION_TABLES:
        columns = await database.columns(table)
        user = next((name for name in _USER_COLUMNS if name in columns), None)
        expiry = next((name for name in _EXPIRY_COLUMNS if name in columns), None)
        if user and expiry and "token" in columns:
            role, join = await _user_part(database, user)
            return (
                f'SELECT CAST(s."{user}" AS TEXT), s."{expiry}", {role} '  # noqa: S608  names of the lists above
                f'FROM "{table}" s {join} WHERE s."token" = {database.parameter}'
            )
    raise WrongTables("has no table session with token, userId (or user_id) and expiresAt (or expires_at)")


async def _user_part(database: Database, user: str) -> tuple[str, str]:
    """Return the column of the role and the join that demands that the user is still there, as better-auth does."""
    for table in _USER_TABLES:
        columns = await database.columns(table)
        if "id" in columns:
            role = 'CAST(u."role" AS TEXT)' if "role" in columns else "NULL"
            return role, f'JOIN "{table}" u ON u."id" = s."{user}"'
    return "NULL", ""


def parse_row(row: Sequence[Any]) -> Session:
    """Read what the SQL of `look_up` found. Raises ValueError for a time that is none."""
    user, expiry, role = row
    return Session(user or "", _seconds(expiry), role)


def _seconds(moment: object) -> float:
    """Turn a timestamp, ISO text, or whole seconds or milliseconds into seconds since 1970. Nothing is long ago."""
    if moment is None:
        return 0.0
    if isinstance(moment, str):
        moment = float(moment) if moment.isdecimal() else datetime.fromisoformat(moment)
    if isinstance(moment, datetime):
        # Without a zone it is UTC: that is what drizzle, Prisma and SQLite's own functions write.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(moment, int | float):
        return moment / 1000 if moment >= _FIRST_MILLISECONDS else float(moment)
    raise ValueError("the expiry of a session is no time")
