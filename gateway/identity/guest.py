"""Guest sessions: a cookie made by the server, of which the database knows only a hash.

The value is `v1.<random>.<mac>`: 128 random bits and the HMAC-SHA256 of `v1.<random>`, both base64url without padding.
Each signing key gives a MAC key of its own for this purpose alone, so that no access token passes for a cookie and no
cookie for a token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
from collections.abc import Sequence
from typing import Final

from gateway.clock import Randomness
from gateway.errors import CannotStart
from gateway.identity import refused
from gateway.settings import Guests, SigningKey

COOKIE_NAME: Final = "assetgate_guest"
_PURPOSE: Final = b"assetgate.guest.v1"
_VERSION: Final = "v1."
_RANDOM_BYTES: Final = 16
_VALUE = re.compile(r"v1\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})", re.ASCII)
_HASH_DIGITS: Final = 32  # 128 bits, as many as the session itself has


class GuestSessions:
    """Makes and checks guest cookies: the first signing key signs, all verify."""

    def __init__(self, keys: Sequence[SigningKey], settings: Guests, randomness: Randomness) -> None:
        if not keys:
            raise CannotStart("signing.keys: guest sessions need a signing key")
        self._keys = [hmac.digest(key, _PURPOSE, "sha256") for _, key in keys]
        self._max_age = max(1, math.ceil(settings.ttl))
        self._randomness = randomness

    def issue(self) -> tuple[str, str]:
        """Begin a session; return the cookie's value and the hash that the records know it by."""
        random = self._randomness(_RANDOM_BYTES)
        return self._signed(_encoded(random)), _hashed(random)

    def identify(self, cookie_value: str) -> str:
        """Return the session's hash. Raises `CredentialInvalid`.

        Answer that error with `clear_cookie_header` as well: a browser sends the bad cookie until it is told otherwise.
        """
        return _hashed(base64.urlsafe_b64decode(self._verified(cookie_value) + "=="))

    def renew(self, cookie_value: str) -> str:
        """Sign the same session with the first key, so that it outlives the key that began it."""
        return self._signed(self._verified(cookie_value))

    def set_cookie_header(self, value: str, secure: bool) -> str:
        """The `Set-Cookie` that gives a browser the session for another `guests.ttl`."""
        return _cookie(value, self._max_age, secure=secure)

    def _signed(self, random: str) -> str:
        return f"{_VERSION}{random}.{_encoded(_mac(self._keys[0], random))}"

    def _verified(self, cookie_value: str) -> str:
        """Return the random part, as text, of a value whose MAC is right."""
        found = _VALUE.fullmatch(cookie_value)
        if found is None:
            raise refused("The guest cookie is not valid")
        random, mac = found[1], found[2].encode()
        # Comparing the text refuses the other spellings that base64 has for the same bytes.
        if not any(hmac.compare_digest(_encoded(_mac(key, random)).encode(), mac) for key in self._keys):
            raise refused("The guest cookie is not valid")
        return random


def clear_cookie_header(secure: bool) -> str:
    """The `Set-Cookie` that makes a browser forget its session."""
    return _cookie("", 0, secure=secure)


def _cookie(value: str, max_age: int, *, secure: bool) -> str:
    header = f"{COOKIE_NAME}={value}; Max-Age={max_age}; Path=/; HttpOnly; SameSite=Lax"
    return f"{header}; Secure" if secure else header


def _mac(key: bytes, random: str) -> bytes:
    return hmac.digest(key, f"{_VERSION}{random}".encode(), "sha256")


def _hashed(random: bytes) -> str:
    return hashlib.sha256(random).hexdigest()[:_HASH_DIGITS]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
