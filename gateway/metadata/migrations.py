"""Brings the database to the shape that this version knows, once however many nodes ask at once.

`migrations/<engine>/0001_pre_name.sql` runs before a deploy, `0002_post_name.sql` after it. Each is applied in one
transaction that begins with its row in `schema_migrations`: of two nodes that apply it at once the second one's row is
refused, with all that follows.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.clock import Clock, milliseconds
from gateway.errors import CannotStart, RecordsFault
from gateway.metadata import MigrationStatus
from gateway.metadata.driver import Driver, Row, Script, Statement
from gateway.resources import resource

_NAME: Final = re.compile(r"\d{4}_(pre|post)_[a-z0-9_]+\.sql\Z")

_TABLE: Final = """CREATE TABLE IF NOT EXISTS schema_migrations (
    name TEXT NOT NULL PRIMARY KEY, checksum TEXT NOT NULL, applied_at BIGINT NOT NULL
)"""
_APPLIED: Final = "SELECT name, checksum, applied_at FROM schema_migrations ORDER BY name"
_APPLY: Final = "INSERT INTO schema_migrations (name, checksum, applied_at) VALUES ($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of SQL."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self) -> list[str]:
        """Split the file where statements end: at a semicolon that ends a line and no trigger's inner statement."""
        found, lines = [], list[str]()
        for line in self.text.splitlines():
            if not lines and (not line.strip() or line.startswith("--")):
                continue
            lines.append(line)
            if sqlite3.complete_statement("\n".join(lines)):
                found.append("\n".join(lines))
                lines = []
        if lines:
            raise CannotStart(f"{self.name}: the last statement does not end")
        return found


def known(engine: str) -> list[Migration]:
    """Read the migrations that ship for an engine, in order."""
    files = [file for file in resource(f"migrations/{engine}").iterdir() if _NAME.match(file.name)]
    found = [Migration(file.name, file.read_text(encoding="utf-8")) for file in files]
    return sorted(found, key=lambda migration: migration.name)


class Migrations:
    """The migrations of one database."""

    def __init__(self, driver: Driver, clock: Clock) -> None:
        self._driver = driver
        self._clock = clock

    async def upgrade(self) -> Sequence[str]:
        """Apply what is missing; return the names of those that this call applied."""
        migrations, applied = known(self._driver.engine), await self._applied()
        self._check(migrations, applied)
        return [
            migration.name for migration in migrations if migration.name not in applied and await self._apply(migration)
        ]

    async def status(self) -> Sequence[MigrationStatus]:
        """List those this version knows and those the database has, in order."""
        applied = await self._applied()
        names = {migration.name for migration in known(self._driver.engine)} | applied.keys()
        return [MigrationStatus(name, applied[name][2] if name in applied else None) for name in sorted(names)]

    async def _applied(self) -> Mapping[str, Row]:
        statements: list[Statement] = [*self._locked(), (_TABLE, ()), *self._adopting(), (_APPLIED, ())]
        rows = (await self._driver.batch(statements, patient=True))[-1]  # another node may be migrating
        return {row[0]: row for row in rows}

    def _locked(self) -> list[Statement]:
        lock = self._driver.dialect.lock_schema
        return [(lock, ())] if lock else []

    def _adopting(self) -> list[Statement]:
        """Take over what another tool applied: it keeps a list of its own, without checksums."""
        dialect = self._driver.dialect
        if dialect.other_list is None or dialect.adopt is None:
            return []
        checksums = {migration.name: migration.checksum for migration in known(self._driver.engine)}
        return [(dialect.other_list, ()), (dialect.adopt, (json.dumps(checksums), milliseconds(self._clock())))]

    async def _apply(self, migration: Migration) -> bool:
        note = self._driver.dialect.note
        rows: list[Statement] = [(_APPLY, (migration.name, migration.checksum, milliseconds(self._clock())))]
        rows += [(note, (migration.name,))] if note else []
        texts = [Script(migration.text)] if self._driver.dialect.scripts else migration.statements()
        statements: list[Statement] = [(text, ()) for text in texts]
        try:
            await self._driver.batch([*self._locked(), *rows, *statements], patient=True)
        except RecordsFault as fault:
            applied = await self._applied()
            if migration.name not in applied:
                raise CannotStart(f"{self._path(migration.name)}: could not be applied: {fault.__cause__}") from fault
            self._check([migration], {migration.name: applied[migration.name]})
            return False
        return True

    def _check(self, migrations: Sequence[Migration], applied: Mapping[str, Row]) -> None:
        checksums = {migration.name: migration.checksum for migration in migrations}
        problems = [
            f"{self._path(name)}: the database has it, and this version does not know it"
            if name not in checksums
            else f"{self._path(name)}: it was changed after it was applied"
            for name, row in applied.items()
            if checksums.get(name) != row[1]
        ]
        if problems:
            raise CannotStart(*problems)

    def _path(self, name: str) -> str:
        return f"migrations/{self._driver.engine}/{name}"
