"""The keys of a key server: fetched once for all who wait, renewed in the background, kept through an outage."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import aiohttp

from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.identity.flights import Flights
from gateway.identity.key_sets import VerificationKey, parse_key_set

Fetch = Callable[[str], Awaitable[bytes]]

_RENEW_AFTER: Final = 600.0  # seconds
_UNKNOWN_KID_PAUSE: Final = 30.0  # seconds; anyone can make up a kid, and must not make us storm the key server
_PAUSE_WITH_KEYS: Final = 30.0  # seconds before a failed renewal is tried again
_PAUSE_WITHOUT_KEYS: Final = 2.0  # seconds; until then callers hear of the outage at once
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10, connect=5)
_MAX_BYTES: Final = 512 * 1024
_log = logging.getLogger(__name__)


class KeyServer:
    """The key set at one URL. `on_change` is called when it came to hold other keys than before."""

    def __init__(
        self, url: str, pinned: Collection[str], clock: Clock, fetch: Fetch | None, on_change: Callable[[], None]
    ) -> None:
        self._url = url
        self._pinned = pinned
        self._clock = clock
        self._fetch = fetch or fetch_key_set
        self._on_change = on_change
        self._flights: Flights[str, None] = Flights()
        self._keys: tuple[VerificationKey, ...] | None = None
        self._fetched_at: float | None = None
        self._failed_at: float | None = None
        self._forced_at: float | None = None

    async def find(self, kid: str | None, algorithm: str) -> list[VerificationKey]:
        """Return the keys that a token may be signed with. Raises `Unavailable` when no keys were ever fetched."""
        if self._keys is None:
            await self._first()
        self.renew_when_old()
        found = self._matching(kid, algorithm)
        if found:
            return found
        if self._url not in self._flights:
            if not self._is_past(self._forced_at, _UNKNOWN_KID_PAUSE):
                return []
            self._forced_at = self._clock()
        await self._flights.join(self._url, self._renew)
        return self._matching(kid, algorithm)

    def renew_when_old(self) -> None:
        """Start a renewal in the background when the keys are old. Needs a running loop."""
        old = self._keys is not None and self._is_past(self._fetched_at, _RENEW_AFTER)
        if old and self._is_past(self._failed_at, _PAUSE_WITH_KEYS):
            self._flights.start(self._url, self._renew)

    async def close(self) -> None:
        await self._flights.close()

    async def _first(self) -> None:
        if self._is_past(self._failed_at, _PAUSE_WITHOUT_KEYS):
            await self._flights.join(self._url, self._renew)
        if self._keys is None:
            raise Unavailable("The keys that verify sign-ins cannot be fetched")

    def _matching(self, kid: str | None, algorithm: str) -> list[VerificationKey]:
        fitting = [key for key in self._keys or () if algorithm in key.algorithms]
        if kid is not None:
            return [key for key in fitting if key.kid == kid]
        # Without a kid the key must be plain; trying them all is work that a stranger could order.
        return fitting if len(fitting) == 1 else []

    async def _renew(self) -> None:
        try:
            keys = parse_key_set(await self._fetch(self._url), self._pinned)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._failed_at = self._clock()
            _log.warning("identity.jwt.jwks_url: the keys could not be fetched: %s", type(error).__name__)
            return
        changed = self._keys is not None and _identities(keys) != _identities(self._keys)
        self._keys, self._fetched_at, self._failed_at = keys, self._clock(), None
        if changed:
            self._on_change()

    def _is_past(self, moment: float | None, pause: float) -> bool:
        # A clock that was set back must not turn a pause into hours.
        return moment is None or abs(self._clock() - moment) >= pause


async def fetch_key_set(url: str) -> bytes:
    """Download a key set. Raises `aiohttp.ClientError`, OSError (TimeoutError) or ValueError."""
    headers = {"Accept": "application/jwk-set+json, application/json"}
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        if response.status != 200:  # noqa: PLR2004  OK
            raise ValueError(f"status {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _MAX_BYTES:
                raise ValueError("the key set is too large")
        return bytes(body)


def _identities(keys: tuple[VerificationKey, ...]) -> set[tuple[str | None, frozenset[str], str]]:
    return {(key.kid, key.algorithms, key.source) for key in keys}
