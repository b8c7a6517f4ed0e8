"""Cloudflare D1 on loopback: workerd's own, behind the shape of Cloudflare's HTTP API."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.support.servers import processes

FOLDER = processes.ROOT / ".servers/d1"
TOKEN = "test-token"
ACCOUNT = "0123456789abcdef0123456789abcdef"
_DATABASES = 100  # each is made when first used
_URL_TIMEOUT = 60.0  # seconds


@dataclass
class D1:
    """The service. `api` stands for `https://api.cloudflare.com/client/v4`."""

    origin: str
    process: processes.Process
    _unused: list[str] = field(default_factory=list)
    account: str = ACCOUNT
    token: str = TOKEN

    @property
    def api(self) -> str:
        return f"{self.origin}/client/v4"

    def create_database(self) -> str:
        """Return the id of a database that is empty and nobody else's."""
        return self._unused.pop()

    def query_url(self, database: str) -> str:
        return f"{self.api}/accounts/{self.account}/d1/database/{database}/query"

    def query(self, database: str, sql: str) -> list[dict[str, Any]]:
        """Run SQL; return the rows of its last statement."""
        headers = {"Authorization": f"Bearer {self.token}"}
        request = Request(self.query_url(database), json.dumps({"sql": sql}).encode(), headers)  # noqa: S310 - a loopback URL
        with urlopen(request, timeout=_URL_TIMEOUT) as response:  # noqa: S310
            rows: list[dict[str, Any]] = json.load(response)["result"][-1]["results"]
            return rows

    def refuse(
        self,
        count: int,
        *,
        status: int = 429,
        code: int = 971,
        message: str = "Please wait and consider throttling your request speed",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the next `count` queries with an error, as the rate limit does unless told otherwise."""
        body = {"count": count, "status": status, "code": code, "message": message, "headers": dict(headers or {})}
        request = Request(f"{self.origin}/refuse", json.dumps(body).encode())
        urlopen(request, timeout=_URL_TIMEOUT).close()

    def stop(self) -> None:
        self.process.stop()


@contextmanager
def running() -> Iterator[D1]:
    """Start the service with a supply of empty databases."""
    with processes.folder("d1") as folder:
        databases = [str(uuid.uuid4()) for _ in range(_DATABASES)]
        script = Path(__file__).with_name("d1.mjs")
        command: processes.Command = ["node", script, FOLDER / "node_modules", TOKEN, *databases]
        process = processes.start("d1", command, folder / "d1.log")
        try:
            yield D1(process.wait_for(r"^(http://\S+)$"), process, databases)
        finally:
            process.stop()
