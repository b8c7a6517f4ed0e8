"""Keeps a provider's public keys: fetched when needed, seldom, and kept through an outage of the key server."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.providers.calling import read_bounded

LIFETIME = 24 * 3600.0  # seconds; fal: cache for at most 24 hours
REFRESH = 6 * 3600.0  # seconds after which new keys are looked for, so that an outage meets a young copy
BETWEEN_FETCHES = 300.0  # seconds; an unknown signature may not make us a hammer on the key server
AFTER_FAILURE = 15.0  # seconds between attempts while there are no keys at all
_LARGEST = 256 * 1024  # bytes


class Ed25519Keys:
    """The Ed25519 keys of a JWKS (RFC 8037)."""

    def __init__(self, session: ClientSession, url: str, clock: Clock) -> None:
        self._session = session
        self._url = url
        self._clock = clock
        self._keys: tuple[Ed25519PublicKey, ...] = ()
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._fetching = asyncio.Lock()

    async def known(self) -> tuple[Ed25519PublicKey, ...]:
        """Return the keys. Raises `Unavailable` when none are known and none can be had."""
        if self._clock() - self._fetched > REFRESH:
            await self._fetch(BETWEEN_FETCHES if self._usable() else AFTER_FAILURE)
        if not self._usable():
            raise Unavailable("The keys of the provider cannot be had", error="provider_keys_unavailable")
        return self._keys

    async def renewed(self) -> bool:
        """Look for keys that were added since; True when there is something new to try."""
        before = self._fetched
        await self._fetch(BETWEEN_FETCHES)
        return self._fetched != before

    def _usable(self) -> bool:
        return bool(self._keys) and self._clock() - self._fetched <= LIFETIME

    async def _fetch(self, spacing: float) -> None:
        """Fetch, unless the last attempt was just now; a failure keeps what there is."""
        async with self._fetching:
            now = self._clock()
            if now - max(self._tried, self._fetched) < spacing:
                return
            self._tried = now
            try:
                async with self._session.get(
                    self._url, timeout=ClientTimeout(total=10), allow_redirects=False
                ) as response:
                    response.raise_for_status()
                    keys = _parse(await read_bounded(response, _LARGEST))
            except (ClientError, TimeoutError, ValueError):
                return
            if keys:
                self._keys, self._fetched = keys, now


def _parse(body: bytes) -> tuple[Ed25519PublicKey, ...]:
    """Read the Ed25519 keys among all. Raises ValueError for what is no JWKS."""
    document: Any = orjson.loads(body)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("no JWKS")  # noqa: TRY004 - it is the document that is wrong, not the caller's type
    keys = []
    for entry in entries:
        encoded = entry.get("x") if isinstance(entry, dict) and entry.get("crv") == "Ed25519" else None
        if not isinstance(encoded, str):
            continue
        try:
            # `x` comes unpadded; fal's own sample forgets that.
            keys.append(
                Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
            )
        except (binascii.Error, ValueError):
            continue
    return tuple(keys)
