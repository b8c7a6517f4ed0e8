"""Starts what is compared: the gateway from this checkout with settings of the moment, and nginx from Debian."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import nginx, processes

# What an administrator would write to serve a folder fast, and no more.
STATIC = """
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  server {
    listen 127.0.0.1:@port@ backlog=4096;
    root @files@;
  }
"""

# One process, as nginx has one worker; a port of its own.
EMBEDDED = """
[server]
port = 0
workers = 1
"""

serve_static = nginx.running


@dataclass
class Gateway:
    """A running gateway and the service key that it made for itself."""

    url: str
    service_key: str
    process: processes.Process


@contextmanager
def gateway(settings: str = EMBEDDED, **environment: str) -> Iterator[Gateway]:
    """Start `serve` in an empty folder with these settings; the folder goes in the end."""
    with processes.folder("gateway") as folder:
        (folder / "assetgate.toml").write_text(settings)
        command: processes.Command = [sys.executable, "-m", "gateway", "serve"]
        # The checkout is what is measured, whatever is installed.
        environment["PYTHONPATH"] = str(processes.ROOT)
        process = processes.start("gateway", command, folder / "gateway.log", env=environment)
        try:
            url = process.wait_for(r"Assetgate listening on (http\S+)")
            yield Gateway(url.rstrip("/"), _service_key(folder), process)
        finally:
            process.stop()


def _service_key(folder: Path) -> str:
    secrets = tomllib.loads((folder / "data/secrets.toml").read_text(encoding="utf-8"))
    return str(secrets["service_key"])
