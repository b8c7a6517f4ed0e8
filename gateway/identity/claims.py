"""What the claims of a JWT whose signature is right say of its bearer (RFC 7519, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.identity import Identified, refused
from gateway.settings import Jwt

CLOCK_SKEW: Final = 60.0  # seconds that an issuer's clock may be ahead of ours; `exp` gets none
_LONGEST_ID: Final = 255  # characters
_LAST_MOMENT: Final = 253_402_300_799  # the end of the year 9999, in seconds since 1970


def read_claims(claims: Mapping[str, Any], settings: Jwt, now: float) -> Identified:
    """Return the user whom the claims name. Raises `CredentialInvalid`."""
    until = _check_times(claims, now)
    if settings.issuer is not None and claims.get("iss") != settings.issuer:
        raise refused("The token is from another issuer")
    _check_audience(claims.get("aud"), settings.audience)
    return Identified(_user_of(claims.get(settings.user_claim)), until, _roles_of(claims.get(settings.roles_claim)))


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    """Return `exp`, after which the token is dead."""
    until = _moment(claims, "exp")
    if until is None:
        raise refused("The token has no expiry")
    if until <= now:
        raise refused("The token has expired")
    for name in ("nbf", "iat"):
        moment = _moment(claims, name)
        if moment is not None and moment > now + CLOCK_SKEW:
            raise refused("The token is not valid yet")
    return until


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_MOMENT:
        raise refused(f"The token's {name} is not a time")
    return float(value)


def _check_audience(found: object, wanted: str | None) -> None:
    """Refuse a token for others; for a gateway without an audience that is every token that names one, as in PyJWT.

    RFC 7519, section 4.1.3: who does not find itself in a token's `aud` must reject it.
    """
    audiences = found if isinstance(found, list) else [found]
    if wanted is None:
        accepted = found in (None, "", [])
    else:
        accepted = wanted in audiences and all(isinstance(audience, str) for audience in audiences)
    if not accepted:
        raise refused("The token is for another audience")


def _user_of(value: object) -> str:
    # What does not print (NUL, lone surrogates, line breaks) would break databases and logs later.
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ID or not value.isprintable():
        raise refused("The token names no user")
    return value


def _roles_of(value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    roles = value.split() if isinstance(value, str) else value
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise refused("The token's roles are no list of names")
    return frozenset(role for role in roles if role)
