"""What operators ask: is it alive, is it ready, what does it count, what does it offer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.errors import AssetgateError, RecordsTimeout
from gateway.metadata import Metadata
from gateway.metrics import Metrics
from gateway.resources import resource
from gateway.storage import Storage

READY_TIMEOUT: Final = 5.0  # seconds for each part
NO_SUCH_KEY: Final = "00/ready"  # asking for an object that is not there shows that the storage answers


class HealthRoutes:
    """`/healthz`, `/readyz`, `/metrics` and `/openapi.json`."""

    def __init__(self, metadata: Metadata, storage: Storage, metrics: Metrics) -> None:
        self._metadata = metadata
        self._storage = storage
        self._metrics = metrics
        self._description = orjson.dumps(orjson.loads(resource("web/openapi.json").read_bytes()))

    async def alive(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def ready(self, _request: web.Request) -> web.Response:
        """200 when the records and the storage answer, else 503 that says which does not."""
        parts = {"metadata": self._metadata.ping(), "storage": self._storage.stat(NO_SUCH_KEY)}
        states = dict(zip(parts, await asyncio.gather(*map(_state, parts.values())), strict=True))
        good = all(state == "ok" for state in states.values())
        body = {"status": "ready" if good else "unready", **states}
        return web.json_response(body, status=200 if good else 503, headers={"Cache-Control": "no-store"})

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def openapi(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._description, content_type="application/json")


async def _state(answer: Awaitable[Any]) -> str:
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            await answer
    except AssetgateError as error:
        return error.error
    except TimeoutError:
        return RecordsTimeout.error.replace("records_", "")
    return "ok"
