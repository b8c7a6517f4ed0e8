"""A real PgBouncer in transaction mode before a PostgreSQL, on a free port."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.servers import processes
from tests.support.servers.postgres import Postgres

_POOL = 4  # server connections, fewer than a store has: so that transactions change their servers
_CONFIG = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 500
server_round_robin = 1
"""


@dataclass
class PgBouncer:
    """The pooler: every database of its server is behind it."""

    port: int
    process: processes.Process

    def url(self, direct: str) -> str:
        """Return the URL of the same database through the pooler."""
        return f"postgresql://postgres@127.0.0.1:{self.port}{urlsplit(direct).path}"


@contextmanager
def running(server: Postgres) -> Iterator[PgBouncer]:
    """Start a pooler before `server`."""
    with processes.folder("pgbouncer") as folder:
        port, users, config = processes.free_port(), folder / "users.txt", folder / "pgbouncer.ini"
        users.write_text('"postgres" ""\n')
        config.write_text(_CONFIG.format(server=server.port, port=port, users=users, pool=_POOL))
        process = _started(config, folder)
        try:
            process.wait_until(lambda: processes.accepts(port))
            yield PgBouncer(port, process)
        finally:
            process.stop()


def _started(config: Path, folder: Path) -> processes.Process:
    user = "nobody" if processes.is_root() else None  # it refuses to run as root
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    command: processes.Command = [processes.program("pgbouncer"), config]
    return processes.start("pgbouncer", command, folder / "pgbouncer.log", user=user)
