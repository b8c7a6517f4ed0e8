"""A real nginx in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support.servers import processes

# A whole configuration around the `http` directives that a test brings: one worker, nothing outside the folder.
_CONF = """
daemon off;
master_process on;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
{http}
}}
"""


@dataclass
class Nginx:
    """A running nginx; `folder` is its prefix, so that relative paths in the configuration lie there."""

    folder: Path
    port: int
    process: processes.Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return processes.tail(self.process.log)

    def stop(self) -> None:
        self.process.stop()


class Start(Protocol):
    """Starts an nginx that ends with the test; see `running`."""

    def __call__(self, http: str, files: Path | None = None) -> Nginx: ...


@contextmanager
def running(http: str, files: Path | None = None) -> Iterator[Nginx]:
    """Start nginx with these directives of `http`: `@port@` is its port, `@files@` the folder `files`."""
    with processes.folder("nginx") as folder:
        port = processes.free_port()
        directives = http.replace("@port@", str(port)).replace("@files@", str(files or folder))
        user = "user root;\n" if processes.is_root() else ""  # the files may lie where only root can go
        (folder / "nginx.conf").write_text(user + _CONF.format(http=directives))
        command: processes.Command = [processes.program("nginx"), "-p", folder, "-c", "nginx.conf", "-e", "stderr"]
        process = processes.start("nginx", command, folder / "nginx.log")
        try:
            process.wait_until(lambda: processes.accepts(port))
            yield Nginx(folder, port, process)
        finally:
            process.stop()
