"""The application's own side: uploads for its users, and asks for signed URLs, with curl as a shell script would."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.support.gateway import service_key


@dataclass(frozen=True)
class Shop:
    url: str

    def upload(self, path: Path, purpose: str, visibility: str = "private") -> str:
        """Upload for the user `u_1`; return the id."""
        fields = {"purpose": purpose, "owner": "user:u_1", "visibility": visibility, "files": f"@{path}"}
        form = [part for name, value in fields.items() for part in ("-F", f"{name}={value}")]
        return str(self._ask("upload-media", *form)["assetId"])

    def sign(self, asset_id: str) -> str:
        """Return an absolute signed URL."""
        body = orjson.dumps({"assetIds": [asset_id], "absolute": True}).decode()
        return str(self._ask("assets/sign", "-d", body)["results"][0]["url"])

    def _ask(self, path: str, *options: str) -> dict[str, Any]:
        key = f"Authorization: Bearer {service_key()}"
        command = ["curl", "-sS", "--fail-with-body", "-H", key, f"{self.url}/api/storage/{path}", *options]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        data: dict[str, Any] = orjson.loads(done.stdout)["data"]
        return data
