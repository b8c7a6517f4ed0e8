"""Users by better-auth's session cookie: its signature, then the session table of the application.

The cookie is `<token>.<signature>`, percent-encoded; the signature is the base64, with padding, of HMAC-SHA256 over the
token with BETTER_AUTH_SECRET as it stands (better-call 1.4.5, `src/crypto.ts`: signCookieValue, and `src/context.ts`:
getSignedCookie, which splits at the last dot and wants 44 characters). Its name has `__Secure-` before it where the
application runs on https (better-auth 1.7.25, `src/cookies/index.ts`: createCookieGetter). The token is looked up as it
is in `session.token`; a session without its user is none (`src/db/internal-adapter.ts`: findSession).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from typing import Final, NamedTuple
from urllib.parse import unquote

from gateway.clock import Clock
from gateway.errors import CannotStart, RecordsFault, Unavailable
from gateway.identity import Identified, refused
from gateway.identity.flights import Flights
from gateway.identity.remembered import Remembered
from gateway.identity.session_sqlite import SCHEME as SQLITE
from gateway.identity.session_sqlite import SqliteSessions
from gateway.identity.session_table import Database, Session, WrongTables, look_up, parse_row
from gateway.settings import BetterAuth

_SECURE_PREFIX: Final = "__Secure-"
_PREFIXES: Final = (_SECURE_PREFIX, "__Host-")
_LONGEST_COOKIE: Final = 4096  # bytes; browsers store no longer one
_SIGNATURE_LENGTH: Final = 44  # base64 of 32 bytes
_REMEMBERED: Final = 4096  # cookies
_log = logging.getLogger(__name__)


class _Finding(NamedTuple):
    """What the table said; None for a session that is not there or has expired."""

    identified: Identified | None


def cookie_names(settings: BetterAuth) -> tuple[str, ...]:
    """The names that the cookie may have, the one to prefer first: on https only a server can set `__Secure-` ones."""
    if settings.cookie.startswith(_PREFIXES):
        return (settings.cookie,)
    return _SECURE_PREFIX + settings.cookie, settings.cookie


class BetterAuthSessions:
    """Looks sessions up and believes the answer, yes or no, for `identity.better_auth.cache`.

    So a session that was signed out, or a role taken away, counts for that long at most; `Identified.until` says when.
    """

    def __init__(self, settings: BetterAuth, clock: Clock) -> None:
        self._secret = settings.secret.get_secret_value().encode()
        self._cache = settings.cache
        self._clock = clock
        self._database = _database_of(settings.database)
        self._sql: str | None = None
        self._remembered: Remembered[_Finding] = Remembered(_REMEMBERED)
        self._flights: Flights[str, _Finding] = Flights()

    async def open(self) -> None:
        """Look at the tables now. Raises `CannotStart` when they are not better-auth's.

        Raises `RecordsUnavailable` while the database is away; the tables are then looked at when first needed.
        """
        try:
            self._sql = await look_up(self._database)
        except WrongTables as wrong:
            raise CannotStart(f"identity.better_auth.database: {wrong.problem}") from None

    async def close(self) -> None:
        await self._flights.close()
        await self._database.close()

    async def identify(self, cookie_value: str) -> Identified:
        """Return the session's user. Raises `CredentialInvalid`, or what the database's absence is called."""
        finding = self._finding(cookie_value)
        if finding is None:
            token = self._token_of(cookie_value)
            finding = await self._flights.join(token, lambda: self._looked_up(token))
            self._remember(cookie_value, finding)
        if finding.identified is None:
            raise refused("The session has ended")
        return finding.identified

    def remembered(self, cookie_value: str) -> Identified | None:
        """Return the user of a cookie that was looked up just now. Never waits."""
        finding = self._finding(cookie_value)
        return finding.identified if finding is not None else None

    def _finding(self, cookie_value: str) -> _Finding | None:
        if len(cookie_value) > _LONGEST_COOKIE:
            return None
        return self._remembered.get(cookie_value, self._clock())

    def _remember(self, cookie_value: str, finding: _Finding) -> None:
        now = self._clock()
        until = finding.identified.until if finding.identified is not None else now + self._cache
        self._remembered.put(cookie_value, finding, now, until)

    def _token_of(self, cookie_value: str) -> str:
        """Return the token inside a cookie whose signature is right."""
        if len(cookie_value) > _LONGEST_COOKIE:
            raise refused("The session cookie is not valid")
        token, dot, signature = _unquoted(cookie_value).rpartition(".")
        if not (token and dot and _is_signed(token, signature, self._secret)):
            raise refused("The session cookie is not valid")
        return token

    async def _looked_up(self, token: str) -> _Finding:
        session = await self._session(token)
        now = self._clock()
        if session is None or session.expires_at <= now or not session.user:
            return _Finding(None)
        until = min(session.expires_at, now + self._cache)
        return _Finding(Identified(session.user, until, _roles_of(session.role)))

    async def _session(self, token: str) -> Session | None:
        try:
            sql = self._sql = self._sql or await look_up(self._database)
            row = await self._database.row(sql, token)
            return parse_row(row) if row is not None else None
        except WrongTables as wrong:
            _log.error("identity.better_auth.database: %s", wrong.problem)
            raise RecordsFault("Sign-ins cannot be looked up") from None
        except Unavailable:
            self._sql = None  # the application may have been migrated under us: look at its tables again
            raise
        except ValueError:
            _log.error("identity.better_auth.database: a session's expiry is no time")
            raise RecordsFault("Sign-ins cannot be looked up") from None


def _database_of(url: str) -> Database:
    if url.startswith(SQLITE) and url != SQLITE:
        return SqliteSessions(url)
    if url.startswith(("postgresql://", "postgres://")):
        try:
            from gateway.identity.session_postgres import PostgresSessions  # noqa: PLC0415  asyncpg is an extra
        except ModuleNotFoundError:
            raise CannotStart(
                "identity.better_auth.database: needs the package asyncpg: pip install 'assetgate[postgres]'"
            ) from None
        return PostgresSessions(url)
    raise CannotStart("identity.better_auth.database: must be sqlite:///… or postgresql://…")


def _unquoted(cookie_value: str) -> str:
    try:
        return unquote(cookie_value, errors="strict")
    except UnicodeError:
        return ""


def _is_signed(token: str, signature: str, secret: bytes) -> bool:
    if len(signature) != _SIGNATURE_LENGTH or not signature.isascii():
        return False
    try:
        shown = base64.b64decode(signature, validate=True)
        made = hmac.digest(secret, token.encode(), "sha256")
    except (binascii.Error, UnicodeError):
        return False
    return hmac.compare_digest(shown, made) and base64.b64encode(shown).decode() == signature


def _roles_of(role: str | None) -> frozenset[str]:
    """Read `user.role` of the admin plugin, where several stand with commas between them."""
    return frozenset(name.strip() for name in (role or "").split(",") if name.strip())
