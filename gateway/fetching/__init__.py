"""The guarded downloader: the one place that fetches a URL which a stranger chose (contract, section 8).

What is judged is the address that the socket connects to, at the moment it is made for it: neither a name that resolves
differently the second time nor a redirect slips past. Proxies of the environment are not used:
they would connect for us.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import (
    AddrInfoType,
    ClientConnectionError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    InvalidURL,
    TCPConnector,
)
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway.clock import Clock
from gateway.fetching.addresses import refusal
from gateway.fetching.failures import FetchFailed, Reason
from gateway.fetching.places import judged
from gateway.fetching.reading import STALL, Pace, checked_size, chunks_of
from gateway.settings import Fetch

__all__ = ["FetchFailed", "Fetched", "Fetcher", "Reason"]

MOST_REDIRECTS: Final = 5
CONNECT_TIMEOUT: Final = 10.0  # seconds
BUFFER: Final = 256 * 1024  # bytes; aiohttp pauses the socket at twice this
_LONGEST_RETRY_AFTER: Final = 3600.0  # seconds
_REDIRECTS: Final = {301, 302, 303, 307, 308}
_REASONS: Final[Mapping[int, tuple[Reason, str]]] = {
    401: (Reason.FORBIDDEN, "The host refuses to give the file"),
    403: (Reason.FORBIDDEN, "The host refuses to give the file"),
    404: (Reason.NOT_FOUND, "The file is not there"),
    408: (Reason.UNAVAILABLE, "The host could not answer"),
    410: (Reason.NOT_FOUND, "The file is gone"),
    425: (Reason.UNAVAILABLE, "The host could not answer"),
    429: (Reason.RATE_LIMITED, "The host asks to be called later"),
}


class _AddressRefused(OSError):
    """Raised in the place of a socket. An OSError, so that another address of the same name may be tried.

    Without words of its own: of several errors that read alike the connector raises the first, else a text of all.
    """


@dataclass(frozen=True, slots=True)
class Fetched:
    """A download that has begun. `media_type` and `size` are what the host declares, None where it does not.

    `chunks` ends after the last byte; it raises `FetchFailed` when that does not come, or more than allowed does.
    """

    url: str
    status: int
    media_type: str | None
    size: int | None
    chunks: AsyncIterator[bytes]


class Fetcher:
    """Downloads by the settings `fetch`. To be closed; its connections are opened with the first download."""

    def __init__(
        self, settings: Fetch, clock: Clock, *, resolver: AbstractResolver | None = None, stall: float = STALL
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._resolver = resolver
        self._stall = stall
        self._session: ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def open(
        self,
        url: str,
        *,
        hosts: Sequence[str],
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
        deadline: float | None = None,
    ) -> AsyncIterator[Fetched]:
        """Fetch `url` if its host is among `hosts`: exact, `*.suffix`, with `:port` or without, or `*` for any.

        `headers` go to the URL's own host alone. `deadline` is in seconds since 1970; the settings' time and size
        limit everything. Raises `FetchFailed`. Leaving at any point closes the connection of an unfinished download.
        """
        allowed = min(self._settings.max_bytes, self._settings.max_bytes if max_bytes is None else max_bytes)
        pace = Pace(self._stall, self._time_left(deadline))
        response = await self._follow(judged(url, hosts, allow_http=self._settings.allow_http), hosts, headers, pace)
        try:
            size = checked_size(response, allowed)
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            async with aclosing(chunks_of(response, allowed, pace)) as chunks:
                yield Fetched(str(response.url), response.status, media_type or None, size, chunks)
        finally:
            if not response.content.is_eof():
                response.close()
            response.release()

    async def _follow(
        self, place: URL, hosts: Sequence[str], headers: Mapping[str, str] | None, pace: Pace
    ) -> ClientResponse:
        """Ask, and ask again where a redirect leads: every step is judged like the first."""
        carried = dict(headers or {})
        for _ in range(MOST_REDIRECTS + 1):
            response = await self._ask(place, carried, pace)
            if response.status not in _REDIRECTS:
                return _checked_status(response)
            location = response.headers.get("Location", "")
            response.close()
            try:
                target = place.join(URL(location, encoded=location.isascii()))
            except ValueError:
                raise FetchFailed(Reason.URL_INVALID, "The host redirects to what is no URL") from None
            following = judged(target, hosts, allow_http=self._settings.allow_http)
            if following.origin() != place.origin():
                carried = {}  # for good: a redirect back does not earn the credentials again
            place = following
        raise FetchFailed(Reason.TOO_MANY_REDIRECTS, f"More than {MOST_REDIRECTS} redirects")

    async def _ask(self, place: URL, headers: Mapping[str, str], pace: Pace) -> ClientResponse:
        try:
            async with asyncio.timeout(pace.patience()):
                return await self._opened().get(
                    place,
                    # What is compressed may grow without bound when it is opened; media are compressed already.
                    headers={"Accept": "*/*", **headers, "Accept-Encoding": "identity"},
                    allow_redirects=False,
                )
        except TimeoutError:
            raise FetchFailed(Reason.TOO_SLOW, "The host did not answer in time") from None
        except ClientConnectionError as error:
            if _was_refused(error):
                raise FetchFailed(Reason.ADDRESS_NOT_ALLOWED, "The host is at an address of a private kind") from None
            raise FetchFailed(Reason.UNREACHABLE, "The host cannot be reached") from error
        except InvalidURL:
            raise FetchFailed(Reason.URL_INVALID, "The URL names no host in the usual form") from None
        except (ClientError, ValueError) as error:
            raise FetchFailed(Reason.UNAVAILABLE, "The host did not answer as HTTP wants it") from error

    def _opened(self) -> ClientSession:
        if self._session is None:
            connector = TCPConnector(
                resolver=self._resolver, use_dns_cache=False, socket_factory=self._make_socket, limit=0
            )
            self._session = ClientSession(
                connector=connector,
                cookie_jar=DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                read_bufsize=BUFFER,
                timeout=ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            )
        return self._session

    def _make_socket(self, info: AddrInfoType) -> socket.socket:
        """Make the socket that will be connected to just this address, or refuse."""
        family, kind, protocol, _, address = info
        if refusal(str(address[0]), self._settings.allow_networks) is not None:
            raise _AddressRefused
        return socket.socket(family, kind, protocol)

    def _time_left(self, deadline: float | None) -> float:
        left = self._settings.timeout if deadline is None else deadline - self._clock()
        return min(left, self._settings.timeout)


def _checked_status(response: ClientResponse) -> ClientResponse:
    """Return the response of a 200, or close it and raise what its status means."""
    status = response.status
    if status == 200:  # noqa: PLR2004 - RFC 9110: all of the file; 206 would be a part that nobody asked for
        return response
    response.close()
    server_error = (Reason.UNAVAILABLE, "The host could not answer")
    other = (Reason.UNEXPECTED_STATUS, f"The host answered {status}")
    reason, detail = server_error if status >= 500 else _REASONS.get(status, other)  # noqa: PLR2004 - RFC 9110
    raise FetchFailed(reason, detail, status=status, retry_after=_retry_after(response))


def _retry_after(response: ClientResponse) -> float | None:
    value = response.headers.get("Retry-After", "").strip()
    return min(float(value), _LONGEST_RETRY_AFTER) if re.fullmatch(r"[0-9]{1,6}", value) else None


def _was_refused(error: BaseException) -> bool:
    """Tell whether the guard is behind an error of the connector."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _AddressRefused) or isinstance(getattr(seen, "os_error", None), _AddressRefused):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
