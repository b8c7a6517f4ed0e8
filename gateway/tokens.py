"""Access tokens in URLs (contract, section 5): make them, and check all of them that needs no look-up."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from math import ceil, floor
from typing import Any, Final

import orjson

from gateway.errors import Forbidden
from gateway.settings import SigningKey
from policies.model import Token
from policies.rules.token import parse_network

VERSION: Final = "v1"
LONGEST_LIFE: Final = 7 * 86400  # seconds between iat and exp
LONGEST_LEAD: Final = 60  # seconds that iat may lie in the future: clocks differ
LONGEST_WINDOW: Final = 86400  # seconds; a window takes up to that much from the life of a token of seven days
LONGEST_TEXT: Final = 4096  # characters; nothing longer is looked at

_DOMAIN: Final = "assetgate.asset.v1"  # what is signed here is good for nothing else
_PARTS: Final = 4
_BLOCK: Final = 64  # bytes that SHA-256 takes at a time
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")

Keys = Mapping[str, bytes]  # by kid


def verify(text: str, asset_id: str, keys: Keys, now: float) -> Token:
    """Return the claims of a token of this asset. Raises `Forbidden` with `token_invalid`, and the same words for all.

    Whether it has expired, and whose it is, is for the decision: an expired one may come with a cookie that lets in.
    """
    parts = text.split(".", _PARTS) if len(text) <= LONGEST_TEXT and text.isascii() else []
    if len(parts) != _PARTS or parts[0] != VERSION:
        raise _invalid()
    _, kid, claims, _ = parts
    key = keys.get(kid)
    # Comparing with what we would write refuses every other way to write the same MAC as well.
    if key is None or not hmac.compare_digest(signer(SigningKey(kid, key), claims)(asset_id), text):
        raise _invalid()
    try:
        token = _token(claims)
    except (ValueError, RecursionError):
        raise _invalid() from None
    if token.exp - token.iat > LONGEST_LIFE or token.iat > now + LONGEST_LEAD:
        raise _invalid()
    return token


def mint(key: SigningKey, asset_id: str, token: Token) -> str:
    """Make one token; many with the same claims share what `encode` and `signer` return."""
    return signer(key, encode(token))(asset_id)


def encode(token: Token) -> str:
    """Write the claims as the text that is signed; it can be signed for many assets."""
    claims: dict[str, Any] = {"iat": token.iat, "exp": token.exp}
    claims |= {name: value for name in ("dl", "sub", "ip") if (value := getattr(token, name)) is not None}
    return _base64url(orjson.dumps(claims))


def signer(key: SigningKey, claims: str) -> Callable[[str], str]:
    """Return what makes an asset's token of claims that `encode` wrote."""
    begun, closing = _begun(key)
    head, tail = f"{VERSION}.{key.kid}.{claims}.", f"\n{claims}".encode()

    def sign(asset_id: str) -> str:
        inner, outer = begun.copy(), closing.copy()
        inner.update(asset_id.encode() + tail)
        outer.update(inner.digest())
        return head + _base64url(outer.digest())

    return sign


def stable_times(now: float, ttl: float, window: float, revoked_at: int | None) -> tuple[int, int]:
    """Return `iat` and `exp` that stay the same for `window` seconds, so that URLs do too and caches work.

    The token lives for `ttl` at least and for one window more at most; where that would pass seven days they win, and
    it lives for up to one window less. The window is never longer than the life asked for, so that a token lives at
    most twice as long; 0 rounds to whole seconds alone. After a revocation `iat` lies past it, and still verifies.
    """
    life = max(ceil(ttl), 1)
    step = min(floor(window), life)
    start = floor(now) - floor(now) % step if step else floor(now)
    iat = start if revoked_at is None else max(start, revoked_at + 1)
    return iat, min(start + step + life, start + LONGEST_LIFE)


@lru_cache(maxsize=64)  # a gateway has a few keys
def _begun(signing_key: SigningKey) -> tuple[Any, Any]:
    """Begin the two hashes of an HMAC-SHA256 once for each key, which halves its cost (RFC 2104, section 4)."""
    kid, key = signing_key
    block = (key if len(key) <= _BLOCK else sha256(key).digest()).ljust(_BLOCK, b"\0")
    opening = bytes(byte ^ 0x36 for byte in block) + f"{_DOMAIN}\n{kid}\n".encode()
    return sha256(opening), sha256(bytes(byte ^ 0x5C for byte in block))


def _base64url(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE, b"=").decode()


def _parsed(claims: str) -> dict[str, Any]:
    data = base64.b64decode(claims + "=" * (-len(claims) % 4), b"-_", validate=True)
    if _base64url(data) != claims:
        raise binascii.Error
    parsed = _DECODER.decode(data.decode())
    if not isinstance(parsed, dict):
        raise ValueError  # noqa: TRY004 - one of many ways to be no token
    return parsed


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    # Two parsers may differ in which of two equal keys counts.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_without_duplicates)


@lru_cache(maxsize=4096)  # many are minted with the same times
def _token(text: str) -> Token:
    claims = _parsed(text)
    if not _CLAIMS.keys() >= claims.keys() >= {"iat", "exp"}:
        raise ValueError
    for name, value in claims.items():
        if not _CLAIMS[name](value):
            raise ValueError
    return Token(**claims)


def _is_integer(value: object) -> bool:
    return type(value) is int  # JSON's true is an int in Python


def _is_text(value: object) -> bool:
    # A lone surrogate, which JSON can write, can be sent in no header. Raises UnicodeEncodeError, a ValueError.
    return isinstance(value, str) and value.encode() != b""


def _is_download(value: object) -> bool:
    return _is_text(value) or (_is_integer(value) and value == 1)


def _is_network(value: object) -> bool:
    return isinstance(value, str) and parse_network(value) is not None


_CLAIMS: Final[Mapping[str, Callable[[object], bool]]] = {
    "iat": _is_integer,
    "exp": _is_integer,
    "dl": _is_download,
    "sub": _is_text,
    "ip": _is_network,
}


def _invalid() -> Forbidden:
    return Forbidden("The token is not valid", error="token_invalid")
