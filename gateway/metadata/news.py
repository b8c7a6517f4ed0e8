"""How the memory of records hears which of them were changed, whoever changed them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

Heard = Callable[[str | None], None]  # told the id of a record that changed; None: any of them may have


class News(Protocol):
    """One ear: it hears of the changes that this and every other process make."""

    @property
    def lasting(self) -> bool:
        """Tell whether changes are told at all. If not, what is remembered ages in seconds."""
        ...

    async def open(self, heard: Heard) -> None:
        """Begin to listen. Returns although the records are away: then it goes on trying."""
        ...

    def current(self) -> bool:
        """Pass on what has come in; tell whether all of it came. Costs next to nothing: asked at each look-up."""
        ...

    @property
    def until(self) -> float:
        """The moment (seconds of the steady clock) up to which everything was heard."""
        ...

    def unsettled(self, asset_id: str) -> bool:
        """Tell whether a change of the record is under way, so that what is read of it now may be old in a moment."""
        ...

    async def close(self) -> None: ...


class Silence:
    """Nothing is told. `lasting` where nobody but this process changes the records."""

    until = math.inf

    def __init__(self, *, lasting: bool) -> None:
        self.lasting = lasting

    async def open(self, heard: Heard) -> None: ...

    def current(self) -> bool:
        return True

    def unsettled(self, asset_id: str) -> bool:  # noqa: ARG002 - nobody else's changes are known
        return False

    async def close(self) -> None: ...
