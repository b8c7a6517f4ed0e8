"""better-auth's tables in the two styles that applications have, and cookies signed as better-auth signs them."""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from gateway.identity.better_auth import BetterAuthSessions
from gateway.settings import BetterAuth
from tests.identity.made import HandClock

SECRET: Final = "an-example-secret-of-32-characters!!"
TOKEN: Final = "Vj4rYw0zqWq2l3kC9uXb1PzT8sNfA5eR"
# Made by better-call 1.4.5 under Node 20: its serializeSignedCookie, given "better-auth.session_token", the token, the
# secret and no options.
COOKIE: Final = f"{TOKEN}.QCwmcxSZzJWIb3PtNhQBTAd4u7vhs1GGh8DtlJw%2B8mY%3D"
DOTTED_COOKIE: Final = "a.token.with.dots.%2BwKRejm46SlWIrFwgtMcRtGQm1AuRb6%2BNvzlVAZVeRc%3D"
# Made by a sign-up with better-auth 1.7.25, the memory adapter and baseURL https://app.example; from its Set-Cookie.
SIGN_UP_COOKIE: Final = "oX31RZuctK3SN5oiRWer7hLt2TIpIO5G.QpFsLlkU6L5PD5WJHmugKPkGSiVbC%2Bra%2FQNUfgbVB4s%3D"


def cookie(token: str, secret: str = SECRET) -> str:
    """Sign a token as the recorded cookies are signed."""
    signature = base64.b64encode(hmac.digest(secret.encode(), token.encode(), "sha256")).decode()
    return quote(f"{token}.{signature}", safe="")


def sessions(database: str, clock: HandClock, **settings: Any) -> BetterAuthSessions:
    return BetterAuthSessions(BetterAuth(secret=SECRET, database=database, **settings), clock)


@dataclass(frozen=True)
class Style:
    """The names that one application's tables have."""

    session: str = "session"
    user: str = "user"
    user_id: str = "userId"
    expires_at: str = "expiresAt"
    role: bool = True

    def tables(self, time: str, key: str = "TEXT") -> list[str]:
        role = ", role TEXT" if self.role else ""
        columns = (
            "id TEXT PRIMARY KEY, token TEXT UNIQUE NOT NULL,"
            f' "{self.user_id}" {key} NOT NULL REFERENCES "{self.user}" (id)'
        )
        return [
            f'CREATE TABLE "{self.user}" (id {key} PRIMARY KEY, name TEXT{role})',
            f'CREATE TABLE "{self.session}" ({columns}, "{self.expires_at}" {time})',
        ]

    def add_user(self, user: str = "'u_1'", role: str = "'user'") -> str:
        names, values = ("id, name, role", f"{user}, 'Ann', {role}") if self.role else ("id, name", f"{user}, 'Ann'")
        return f'INSERT INTO "{self.user}" ({names}) VALUES ({values})'  # noqa: S608  the test's own words

    def add_session(self, expires_at: str, token: str = TOKEN, user: str = "'u_1'") -> str:
        return (
            f'INSERT INTO "{self.session}" (id, token, "{self.user_id}", "{self.expires_at}")'  # noqa: S608  see above
            f" VALUES ('s_{token}', '{token}', {user}, {expires_at})"
        )


CAMEL: Final = Style()
SNAKE: Final = Style(user_id="user_id", expires_at="expires_at")
STYLES: Final = {
    "camelCase, as better-auth's own migrations": CAMEL,
    "snake_case, as drizzle schemas": SNAKE,
    "without the admin plugin": Style(role=False),
    "plural": Style(session="sessions", user="users", user_id="user_id", expires_at="expires_at"),
}
