"""Who a credential proves its bearer to be."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import CredentialInvalid

CHALLENGE = {"WWW-Authenticate": 'Bearer error="invalid_token"'}  # RFC 6750, section 3.1; a 401 must carry a challenge


@dataclass(frozen=True, slots=True)
class Identified:
    """A user or a service that a credential proved, good until `until` (seconds since 1970).

    After `until` the credential has to be shown to its judge again; that need not be when the credential ends.
    """

    id: str
    until: float
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()


def refused(detail: str) -> CredentialInvalid:
    """The error that answers a bad credential, whichever kind it is."""
    return CredentialInvalid(detail, headers=CHALLENGE)
