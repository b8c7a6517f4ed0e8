"""Users by JSON Web Token, checked as RFC 8725 advises.

The algorithms are pinned by the settings, the signature is PyJWT's work, the times are ours, by the clock handed in.
A token that carries an `aud` is refused while `identity.jwt.audience` is not set, as PyJWT does by default: Supabase's,
for one, need `audience = "authenticated"`.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final, NamedTuple

import jwt

from gateway.clock import Clock
from gateway.errors import CannotStart
from gateway.identity import Identified, refused
from gateway.identity.claims import read_claims
from gateway.identity.key_server import Fetch, KeyServer
from gateway.identity.remembered import Remembered
from gateway.settings import Jwt

_LONGEST_TOKEN: Final = 8 * 1024  # bytes
_REMEMBERED: Final = 4096  # tokens
_LONGEST_KID: Final = 256  # characters
# Tokens of other kinds, such as logout or DPoP ones, come signed with the same keys (RFC 8725, section 3.11).
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_NOT_A_TOKEN: Final = "The token is malformed"  # noqa: S105  no secret


class _Header(NamedTuple):
    algorithm: str
    kid: str | None


class JwtVerifier:
    """Verifies tokens by a shared secret or by the keys of a key server; remembers them until they end."""

    def __init__(self, settings: Jwt, clock: Clock, fetch: Fetch | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._pinned = frozenset(settings.pinned)
        self._remembered: Remembered[Identified] = Remembered(_REMEMBERED)
        # Keys too short for their algorithm (RFC 7518, sections 3.2 and 3.3) verify nothing.
        self._jws = jwt.PyJWS(sorted(self._pinned), {"enforce_minimum_key_length": True})
        self._secret = _checked_secret(settings)
        self._server = (
            KeyServer(settings.jwks_url, self._pinned, clock, fetch, self._remembered.clear)
            if settings.jwks_url is not None
            else None
        )

    async def verify(self, token: str) -> Identified:
        """Return the token's user. Raises `CredentialInvalid`, and `Unavailable` when there are no keys at hand."""
        known = self.remembered(token)
        if known is not None:
            return known
        header = self._header_of(token)
        keys = await self._keys_for(header)
        identified = read_claims(self._claims_of(token, header, keys), self._settings, self._clock())
        self._remembered.put(token, identified, self._clock(), identified.until)
        return identified

    def remembered(self, token: str) -> Identified | None:
        """Return the user of a token that was verified before and has not ended. Needs a running loop, never waits."""
        if self._server is not None:
            self._server.renew_when_old()
        if len(token) > _LONGEST_TOKEN:
            return None
        return self._remembered.get(token, self._clock())

    async def close(self) -> None:
        if self._server is not None:
            await self._server.close()

    def _header_of(self, token: str) -> _Header:
        if len(token) > _LONGEST_TOKEN or not token.isascii():
            raise refused(_NOT_A_TOKEN)
        parts = [_decoded(part) for part in token.split(".")]
        if len(parts) != 3:  # noqa: PLR2004  header, claims, signature
            raise refused(_NOT_A_TOKEN)
        header = _parsed(parts[0])
        # No extension is understood here, so none may be critical (RFC 7515, section 4.1.11); b64 is one of them.
        if "crit" in header or "b64" in header:
            raise refused(_NOT_A_TOKEN)
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if not isinstance(algorithm, str) or algorithm not in self._pinned:
            raise refused("The token's algorithm is not accepted")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise refused("The token is of another kind")
        if kid is not None and not (isinstance(kid, str) and len(kid) <= _LONGEST_KID):
            raise refused(_NOT_A_TOKEN)
        return _Header(algorithm, kid)

    async def _keys_for(self, header: _Header) -> list[Any]:
        if self._server is None:
            return [self._secret]
        return [found.key for found in await self._server.find(header.kid, header.algorithm)]

    def _claims_of(self, token: str, header: _Header, keys: list[Any]) -> dict[str, Any]:
        for key in keys:
            try:
                verified = self._jws.decode_complete(token, key, [header.algorithm])
            except jwt.PyJWTError:
                continue
            return _parsed(verified["payload"])
        raise refused("The token's signature is not valid")


def _checked_secret(settings: Jwt) -> bytes:
    """Return the secret (empty with a key server). Raises `CannotStart` for what no token could be verified with."""
    secret = settings.secret.get_secret_value().encode() if settings.secret is not None else b""
    for name in settings.pinned:
        try:
            algorithm = jwt.get_algorithm_by_name(name)
            problem = algorithm.check_key_length(algorithm.prepare_key(secret)) if secret else None
        except NotImplementedError:
            raise CannotStart(f"identity.jwt.algorithms: there is no {name!r}") from None
        except jwt.InvalidKeyError:
            raise CannotStart("identity.jwt.secret: is a public key or certificate; use jwks_url for those") from None
        if problem is not None:
            raise CannotStart(f"identity.jwt.secret: is too short for {name} (RFC 7518, section 3.2)")
    if settings.secret is not None and not secret:
        raise CannotStart("identity.jwt.secret: is empty")
    return secret


def _decoded(part: str) -> bytes:
    """Decode one part, refusing every spelling but the one that an encoder gives."""
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise refused(_NOT_A_TOKEN) from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise refused(_NOT_A_TOKEN)
    return data


def _parsed(text: bytes) -> dict[str, Any]:
    """Parse a JSON object in which no name stands twice: parsers differ on which of two counts."""
    try:
        document = json.loads(text.decode(), object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise refused(_NOT_A_TOKEN) from None
    if not isinstance(document, dict):
        raise refused(_NOT_A_TOKEN)
    return document


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
