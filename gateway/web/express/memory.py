"""Decisions on reads, remembered until they end by themselves or something about the asset changes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from gateway.delivery.plan import Fields, Representation
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


class News(Protocol):
    """Tells when what is remembered of an asset is no longer so."""

    def subscribe(self, forget: Callable[[str | None], None]) -> None:
        """Call `forget` with each asset id that changed, and with None when all must be forgotten."""
        ...

    def is_current(self) -> bool:
        """Take in what has changed up to now; False when that cannot be known, and nothing remembered may be used."""
        ...

    @property
    def lasts(self) -> float:
        """How long (seconds) what was read may be believed; short where changes are not announced."""
        ...


class Decisions:
    """The memory. Without news of changes it remembers nothing."""

    def __init__(self, news: News | None) -> None:
        self._news = news
        self._assets: OrderedDict[str, dict[Asked, Decided]] = OrderedDict()
        self._forgotten = 0
        if self._news is not None:
            self._news.subscribe(self.forget)

    @property
    def is_open(self) -> bool:
        """Whether anything is ever remembered."""
        return self._news is not None

    def recall(self, asset_id: str, asked: Asked, now: float) -> Decided | None:
        if self._news is None or not self._news.is_current():
            return None
        found = self._assets.get(asset_id)
        decided = found.get(asked) if found is not None else None
        if found is None or decided is None:
            return None
        if now >= decided.until:
            del found[asked]
            return None
        self._assets.move_to_end(asset_id)
        return decided

    def mark(self) -> int:
        """Take a mark before a record is read: what was forgotten since then must not be kept."""
        return self._forgotten

    def keep(self, mark: int, asked: Asked, decided: Decided, now: float) -> None:
        """Remember a decision on a record that was read after `mark` was taken."""
        if self._news is None or not self._news.is_current() or mark != self._forgotten:
            return
        token, asset_id = decided.grant.token, decided.grant.subject.asset_id
        if token is not None and token.ip is not None:
            return  # the same request from another address is another question
        decided.until = min(decided.until, now + self._news.lasts)
        found = self._assets.setdefault(asset_id, {})
        if len(found) >= MOST_OF_ONE:
            found.clear()
        found[asked] = decided
        self._assets.move_to_end(asset_id)
        if len(self._assets) > MOST_ASSETS:
            self._assets.popitem(last=False)

    def forget(self, asset_id: str | None) -> None:
        self._forgotten += 1
        if asset_id is None:
            self._assets.clear()
        else:
            self._assets.pop(asset_id, None)
