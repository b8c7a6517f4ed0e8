"""What an engine of SQL must do for the records: run one statement, or several as one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.metadata.news import News

Row = Sequence[Any]
Statement = tuple[str, Sequence[object]]  # its text, and the values of $1, $2, …


class Script(str):
    """A text of several statements without values, of which nobody wants the rows; for engines that take such."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where the engines differ. `lock_owner` takes an owner, `lock_owner_of` an asset id: until the batch ends.

    An engine with one writer at a time needs neither. `adopt` takes the known migrations, a JSON object of name and
    checksum, and the time; `note` a name: they keep another tool's list of migrations and ours in step.
    """

    scripts: bool = False  # takes a `Script`
    ids: str = "(SELECT value FROM json_each($1))"  # the ids in a JSON list
    lock_owner: str | None = None
    lock_owner_of: str | None = None
    lock_schema: str | None = None
    other_list: str | None = None
    adopt: str | None = None
    note: str | None = None
    skip_locked: str = ""  # behind the LIMIT of what chooses rows to claim, with a space before it


class Driver(Protocol):
    """What an engine must do. Raises the errors of the port, never those of its library."""

    @property
    def engine(self) -> str:
        """Name the folder of its migrations."""
        ...

    @property
    def dialect(self) -> Dialect: ...

    @property
    def news(self) -> News:
        """Make an ear for the changes of records, not yet open."""
        ...

    async def fetch(self, statement: Statement) -> Sequence[Row]:
        """Run a statement that only reads."""
        ...

    async def batch(self, statements: Sequence[Statement], *, patient: bool = False) -> Sequence[Sequence[Row]]:
        """Run statements in one transaction, nothing coming between; return the rows of each.

        A caller that is cancelled meanwhile leaves it done or undone, never open. With `patient` it may take as long
        as it takes: a migration does.
        """
        ...

    async def close(self) -> None: ...


_CHANGING: Final = ("UPDATE assets ", "DELETE FROM assets ", "INSERT INTO assets ")


def changed_ids(statements: Sequence[Statement], results: Sequence[Sequence[Row]]) -> list[str]:
    """Return the ids of the records that statements changed: what changes any returns its id first."""
    return [
        row[0]
        for (text, _), rows in zip(statements, results, strict=True)
        if text.startswith(_CHANGING)
        for row in rows
    ]
