"""Decisions on reads, remembered until they end by themselves or the asset's record changes."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from gateway.delivery.plan import Fields, Representation
from gateway.model import Asset
from policies.model import Caller, Grant

MOST_ASSETS: Final = 20_000
MOST_OF_ONE: Final = 64  # callers or tokens whose decisions on one asset are remembered


class Asked(NamedTuple):
    """All of a request that a decision on a read depends on, as it was sent."""

    target: str
    authorization: str | None
    cookie: str | None


@dataclass(slots=True)
class Decided:
    """A grant, what it shows, and its heads as bytes, each rendered when first sent.

    `until` is when it ends by itself, in seconds since 1970: with the grant, the token or the caller's credential.
    """

    asset: Asset
    grant: Grant
    caller: Caller
    shown: Representation
    until: float = field(init=False)
    reason: str = field(init=False)
    kind: str = field(init=False)
    rendered: dict[int, bytes] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        token = self.grant.token
        ends = (self.grant.until, self.caller.until, None if token is None else float(token.exp))
        self.until = min((end for end in ends if end is not None), default=math.inf)
        self.reason, self.kind = self.grant.reason.value, self.caller.kind.value

    def head(self, status_line: bytes, fixed: Fields) -> bytes:
        """The status line and the fields that never change; `fixed` is one of the representation's own tuples."""
        found = self.rendered.get(id(fixed))
        if found is None:
            lines = "".join(f"{name}: {value}\r\n" for name, value in fixed)
            found = self.rendered[id(fixed)] = status_line + lines.encode("latin-1")
        return found


class Records(Protocol):
    """The memory of records."""

    def peek(self, asset_id: str) -> Asset | None:
        """Return the record if it is remembered and good this very moment: the same object until it changes."""
        ...


class Decisions:
    """The memory. A decision is good while the record that it was made on is: without that memory there is none."""

    def __init__(self, records: Records | None) -> None:
        self._records = records
        self._assets: OrderedDict[str, dict[Asked, Decided]] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Whether anything is ever remembered."""
        return self._records is not None

    def recall(self, asset_id: str, asked: Asked, now: float) -> Decided | None:
        found = self._assets.get(asset_id)
        decided = found.get(asked) if found is not None else None
        if found is None or decided is None or self._records is None:
            return None
        if now >= decided.until or self._records.peek(asset_id) is not decided.asset:
            del found[asked]
            return None
        self._assets.move_to_end(asset_id)
        return decided

    def keep(self, asked: Asked, decided: Decided) -> None:
        token, asset_id = decided.grant.token, decided.asset.id
        if self._records is None or (token is not None and token.ip is not None):
            return  # the same request from another address is another question
        found = self._assets.setdefault(asset_id, {})
        if len(found) >= MOST_OF_ONE:
            found.clear()
        found[asked] = decided
        self._assets.move_to_end(asset_id)
        if len(self._assets) > MOST_ASSETS:
            self._assets.popitem(last=False)
