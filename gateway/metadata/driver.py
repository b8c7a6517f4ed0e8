"""What an engine of SQL must do for the records: run one statement, or several as one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Row = Sequence[Any]
Statement = tuple[str, Sequence[object]]  # its text, and the values of $1, $2, …


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where the engines differ. `lock_owner` takes an owner, `lock_owner_of` an asset id: until the batch ends.

    An engine with one writer at a time needs neither.
    """

    ids: str = "(SELECT value FROM json_each($1))"  # the ids in a JSON list
    lock_owner: str | None = None
    lock_owner_of: str | None = None
    lock_schema: str | None = None
    skip_locked: str = ""  # behind the LIMIT of what chooses rows to claim, with a space before it


class Driver(Protocol):
    """What an engine must do. Raises the errors of the port, never those of its library."""

    @property
    def engine(self) -> str:
        """Name the folder of its migrations."""
        ...

    @property
    def dialect(self) -> Dialect: ...

    async def fetch(self, statement: Statement) -> Sequence[Row]:
        """Run a statement that only reads."""
        ...

    async def batch(self, statements: Sequence[Statement]) -> Sequence[Sequence[Row]]:
        """Run statements in one transaction, nothing coming between; return the rows of each.

        A caller that is cancelled meanwhile leaves it done or undone, never open.
        """
        ...

    async def close(self) -> None: ...
