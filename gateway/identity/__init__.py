"""Who a credential proves its bearer to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identified:
    """A user or a service that a credential proved, good until `until` (seconds since 1970)."""

    id: str
    until: float
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
