"""Speaks Cloudflare's HTTP API of D1: one request is one query or one batch, which is a transaction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import orjson

from gateway.clock import Clock
from gateway.errors import RETRY_AFTER, RecordsFault, RecordsTimeout, RecordsUnavailable, StorageFull, Unavailable
from gateway.metadata.driver import Row
from gateway.metadata.limiter import Limiter

_CONNECT_TIMEOUT: Final = 3.0  # seconds
_KEEP_ALIVE: Final = 60.0  # seconds that an idle connection stays open
_MOST_CONNECTIONS: Final = 6
_PAUSE: Final = 5.0  # seconds, when asked to come later without being told when

# What the messages of D1 say of whose fault it is; the rest is about the statement. It went wrong before or after the
# statement ran: nobody knows.
_MESSAGES: Final[Mapping[str, type[Unavailable]]] = {
    "exceeded timeout": RecordsTimeout,
    "exceeded its cpu time limit": RecordsTimeout,
    "queued for too long": RecordsTimeout,
    "overloaded": RecordsUnavailable,
    "network connection lost": RecordsUnavailable,
    "to be reset": RecordsUnavailable,
    "was reset": RecordsUnavailable,
    "db reset": RecordsUnavailable,
    "cannot resolve d1 db": RecordsUnavailable,
    "client disconnected": RecordsUnavailable,
    "database or disk is full": StorageFull,
    "maximum db size": StorageFull,
}
_STATUSES: Final[Mapping[int, type[Unavailable]]] = {
    HTTPStatus.UNAUTHORIZED: RecordsUnavailable,
    HTTPStatus.FORBIDDEN: RecordsUnavailable,
    HTTPStatus.NOT_FOUND: RecordsUnavailable,
    HTTPStatus.GATEWAY_TIMEOUT: RecordsTimeout,
    524: RecordsTimeout,  # Cloudflare's own: the origin did not answer in time
}


class D1Error(Exception):
    """What the API answered, for the operator's eyes."""


class D1Client:
    """Asks one database, never more often than the limiter allows."""

    def __init__(self, url: str, token: str, timeout: float, limiter: Limiter, clock: Clock) -> None:
        self._url = url
        self._limiter = limiter
        self._clock = clock
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MOST_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE),
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, _CONNECT_TIMEOUT)),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def ask(self, body: Mapping[str, Any], *, again: bool) -> Sequence[Sequence[Row]]:
        """Return the rows of each statement. With `again` it is asked twice where the first answer is none.

        What never reached the service is sent a second time as well: it cannot have run.
        """
        try:
            return await self._ask(body)
        except _NotSent:
            return await self._ask(body)
        except RecordsUnavailable as away:
            if not again or isinstance(away, _TooOften):
                raise
            return await self._ask(body)

    async def close(self) -> None:
        await self._session.close()

    async def _ask(self, body: Mapping[str, Any]) -> Sequence[Sequence[Row]]:
        await self._limiter.turn()
        try:
            async with self._session.post(self._url, data=orjson.dumps(body), allow_redirects=False) as response:
                return self._read(response.status, response.headers, await response.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as away:
            raise _NotSent from away
        except TimeoutError as late:
            raise RecordsTimeout from late
        except (aiohttp.ClientError, OSError) as away:
            raise RecordsUnavailable from away

    def _read(self, status: int, headers: Mapping[str, str], content: bytes) -> Sequence[Sequence[Row]]:
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            pause = seconds_of(headers.get("Retry-After"), self._clock())
            self._limiter.pause(_PAUSE if pause is None else pause)
            raise _TooOften(retry_after=math.ceil(pause) if pause else RETRY_AFTER)
        try:
            answer = orjson.loads(content)
            if status == HTTPStatus.OK and answer["success"] is True:
                return [[tuple(row.values()) for row in part["results"]] for part in answer["result"]]
            raise _error_of(status, answer["errors"][0]["message"]) from D1Error(answer["errors"][0]["message"])
        except (ValueError, LookupError, TypeError, AttributeError) as nonsense:
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise _STATUSES.get(status, RecordsUnavailable) from nonsense  # a page of some proxy's
            raise RecordsFault from nonsense


class _NotSent(RecordsUnavailable):
    """No connection came about."""


class _TooOften(RecordsUnavailable):
    """Refused by the service's own limit: nothing ran."""


def _error_of(status: int, message: object) -> Unavailable:
    said = str(message).lower()
    for words, error in _MESSAGES.items():
        if words in said:
            return error()
    away = RecordsUnavailable if status >= HTTPStatus.INTERNAL_SERVER_ERROR else RecordsFault
    return _STATUSES.get(status, away)()


def seconds_of(retry_after: str | None, now: float) -> float | None:
    """Read a `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.fromtimestamp(now, UTC)).total_seconds())
