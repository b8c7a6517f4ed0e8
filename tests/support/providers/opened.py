"""Opens providers for tests that need no network: a clock that stands still, settings from the vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from gateway.families import member
from gateway.providers import Provider as Opened
from gateway.settings import Provider

NOW = 1795305600.0
VECTORS: Mapping[str, Mapping[str, Any]] = {
    vector["name"].partition(" ")[0]: vector
    for vector in json.loads((Path(__file__).parents[2] / "vectors" / "webhooks.json").read_text(encoding="utf-8"))
}


def opened(name: str, session: ClientSession, now: float = NOW, **settings: Any) -> Opened:
    tables = {"api_key": "test-api-key-0001"} | settings
    provider: Opened = member("providers", name).open_provider(Provider(**tables), lambda: now, session)
    return provider


def standard_headers_of(vector: Mapping[str, Any]) -> dict[str, str]:
    return {name.replace("_", "-"): vector[name] for name in vector if name.startswith("webhook_")}


def body_of(vector: Mapping[str, Any]) -> bytes:
    body: str = vector["body"]
    return body.encode()
