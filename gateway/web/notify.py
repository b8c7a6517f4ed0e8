"""The route by which providers tell that a task has news."""

from __future__ import annotations

from aiohttp import web

from gateway.clock import Clock
from gateway.errors import CredentialInvalid, NotFound, RequestTooLarge
from gateway.jobs.opened import Desks
from gateway.metrics import Metrics
from gateway.model import is_asset_id
from gateway.tasks import TaskService
from gateway.web.bodies import ok


class NotifyRoutes:
    """`POST /api/ai/notify/{provider}`: 2xx says that it is written down, 5xx that the provider should try again.

    Nothing is parsed before it is verified, and a provider without a secret has no route at all.
    """

    def __init__(self, desks: Desks, tasks: TaskService, largest: int, metrics: Metrics, clock: Clock) -> None:
        self._desks = desks
        self._tasks = tasks
        self._largest = largest
        self._metrics = metrics
        self._clock = clock

    async def notify(self, request: web.Request) -> web.Response:
        name = request.match_info["provider"]
        desk = self._desks.find(name)
        if desk is None or not desk.provider.accepts_notifications:
            raise NotFound
        body = await self._read(request)
        try:
            notification = await desk.provider.verify(request.headers, body, self._clock())
        except CredentialInvalid:
            self._metrics.notifications.labels(name, "refused").inc()
            raise
        named = request.query.get("task")
        task_id = named if named is not None and is_asset_id(named) else None
        new = await self._tasks.notified(name, notification, task_id)
        self._metrics.notifications.labels(name, "accepted" if new else "replayed").inc()
        return ok({"received": True})

    async def _read(self, request: web.Request) -> bytes:
        """Read the raw bytes, as they were signed, and never more than the limit."""
        if (request.content_length or 0) > self._largest:
            raise RequestTooLarge(f"The body may have {self._largest} bytes")
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > self._largest:
                raise RequestTooLarge(f"The body may have {self._largest} bytes")
        return bytes(body)
