"""Reads JSON Web Key Sets (RFC 7517) into the keys that may verify our tokens."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import jwt

# Only asymmetric types: an `oct` key on a web page is no secret. RFC 7518, section 3.1, and RFC 8037 for OKP.
_ALGORITHMS: Final[dict[tuple[str, str | None], tuple[str, ...]]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("EC", "secp256k1"): ("ES256K",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
_PUBLIC: Final = ("kty", "crv", "n", "e", "x", "y")
_MOST_KEYS: Final = 100  # a set larger than that is a mistake


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, and which of the pinned algorithms it may be used with. `source` tells it from others."""

    kid: str | None
    algorithms: frozenset[str]
    source: str
    key: Any


def parse_key_set(body: bytes, pinned: Collection[str]) -> tuple[VerificationKey, ...]:
    """Return the keys of a set that fit the pinned algorithms. Raises ValueError when it is no key set."""
    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("is nested too deep") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        raise ValueError("is no JSON Web Key Set")
    # Keys that we do not understand stand beside those that we do (RFC 7517, section 5).
    return tuple(found for key in keys if isinstance(key, dict) and (found := _usable(key, pinned)) is not None)


def _usable(key: dict[str, Any], pinned: Collection[str]) -> VerificationKey | None:
    kid, operations = key.get("kid"), key.get("key_ops", ["verify"])
    if key.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if not (kid is None or isinstance(kid, str)):
        return None
    algorithms = _algorithms_of(key) & set(pinned)
    if not algorithms:
        return None
    public: dict[str, Any] = {name: key[name] for name in _PUBLIC if name in key}
    try:
        parsed = jwt.get_algorithm_by_name(min(algorithms)).from_jwk(public)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return VerificationKey(kid, frozenset(algorithms), json.dumps(public, sort_keys=True), parsed)


def _algorithms_of(key: dict[str, Any]) -> set[str]:
    kind, curve = key.get("kty"), key.get("crv")
    if not isinstance(kind, str) or not (curve is None or isinstance(curve, str)):
        return set()
    possible = set(_ALGORITHMS.get((kind, None if kind == "RSA" else curve), ()))
    return possible & {key["alg"]} if isinstance(key.get("alg"), str) else possible
