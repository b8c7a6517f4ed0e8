"""Decisions on reads, remembered until they end by themselves or the asset's record changes."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from gateway.delivery.plan import Fields, Representation
from gateway.generations import Generations
from gateway.model import Asset
from gateway.web.express.requests import Head, is_read
from gateway.web.observed import Facts
from policies.model import Caller, Grant

MOST_KEPT: Final = 64 * 1024 * 1024  # bytes, nearly, of what is remembered; cookies can be long
MOST_LATELY: Final = 4096  # answers of one second
LONGEST_KEPT: Final = 2000  # bytes of a request whose answer is
LET_GO_AFTER: Final = 1.0  # seconds
DECISION_SIZE: Final = 2500  # bytes, nearly, of a decision and its heads

# All of a request that a decision on a read depends on, as it was sent: the first line, Authorization and Cookie.
Asked = tuple[bytes, str | None, str | None]


class Wanted(NamedTuple):
    """Bytes that have to be waited for."""

    grant: Grant
    span: range


class Prepared(NamedTuple):
    """An answer but for the request's id, which the head ends before."""

    head: bytes
    body: memoryview | Wanted | None
    facts: Facts


@dataclass(eq=False, slots=True)
class Decided:
    """A grant, what it shows, and its heads as bytes, each rendered when first sent.

    `until` is when it ends by itself, in seconds since 1970: with the grant, the token or the caller's credential.
    """

    asset: Asset
    grant: Grant
    caller: Caller
    shown: Representation
    until: float = field(init=False)
    rendered: dict[int, bytes] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        token = self.grant.token
        ends = (self.grant.until, self.caller.until, None if token is None else float(token.exp))
        self.until = min((end for end in ends if end is not None), default=math.inf)

    def head(self, status_line: bytes, fixed: Fields) -> bytes:
        """The status line and the fields that never change; `fixed` is one of the representation's own tuples."""
        found = self.rendered.get(id(fixed))
        if found is None:
            lines = "".join([f"{name}: {value}\r\n" for name, value in fixed])
            found = self.rendered[id(fixed)] = status_line + lines.encode("latin-1")
        return found


class Ready(NamedTuple):
    """An answer to the very same bytes, good while its decision is."""

    decided: Decided
    head: Head
    prepared: Prepared


class Lately:
    """The answers made in one second, by the request as it was sent.

    They tell the time, and must not hold bytes for longer that should make room.
    """

    def __init__(self) -> None:
        self._second = 0
        self._answers: dict[bytes, Ready] = {}

    def get(self, data: bytes, now: float) -> Ready | None:
        if int(now) != self._second:
            self._second = int(now)
            self._answers.clear()
        return self._answers.get(data)

    def keep(self, data: bytes, ready: Ready) -> None:
        """Keep what was just asked for in vain. It goes with the next second, or by itself where nobody asks again."""
        if not self._answers:
            asyncio.get_running_loop().call_later(LET_GO_AFTER, self._answers.clear)
        if len(self._answers) < MOST_LATELY and len(data) <= LONGEST_KEPT:
            self._answers[data] = ready


class Records(Protocol):
    """The memory of records."""

    def peek(self, asset_id: str) -> Asset | None:
        """Return the record if it is remembered and good this very moment: the same object until it changes."""
        ...


class Decisions:
    """The memory. A decision is good while the record that it was made on is: without that memory there is none."""

    def __init__(self, records: Records | None) -> None:
        self._records = records
        self._decided = Generations[Asked, Decided](MOST_KEPT, _weigh)

    @property
    def is_open(self) -> bool:
        """Whether anything is ever remembered."""
        return self._records is not None

    def recall(self, asked: Asked, now: float) -> Decided | None:
        decided = self._decided.get(asked)
        if decided is not None and not self.holds(decided, now):
            self._decided.drop(asked)
            return None
        return decided

    def holds(self, decided: Decided, now: float) -> bool:
        """Tell whether a decision is good at this moment."""
        asset = decided.asset
        return self._records is not None and now < decided.until and self._records.peek(asset.id) is asset

    def keep(self, asked: Asked, decided: Decided) -> bool:
        """Remember a decision; False for a request that the lane does not read, or whose decision is not for all."""
        token = decided.grant.token
        if self._records is None or not is_read(asked[0]) or (token is not None and token.ip is not None):
            return False  # the same request from another address is another question
        self._decided.keep(asked, decided)
        return True


def _weigh(asked: Asked, _decided: Decided) -> int:
    line, authorization, cookie = asked
    return DECISION_SIZE + len(line) + len(authorization or "") + len(cookie or "")
