"""What is noted of every finished request: one log line and the counters."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.metrics import Metrics
from gateway.web.callers import peer_of
from gateway.web.middleware import CALLER, REASON, REQUEST_ID
from policies.model import ANONYMOUS

access_log = logging.getLogger("assetgate.access")
ABORTED: Final = 499  # nginx's word for a client that went away


class Observed:
    """The outermost middleware. Queries are never logged, for they carry tokens; nor are cookies and credentials."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def middleware(self) -> Middleware:
        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            began = time.perf_counter()
            response: web.StreamResponse | None = None
            try:
                response = await handler(request)
            finally:
                self._note(request, response, time.perf_counter() - began)
            return response

        return note

    def _note(self, request: web.Request, response: web.StreamResponse | None, seconds: float) -> None:
        status = ABORTED if response is None else response.status
        route = route_of(request)
        reason = request.get(REASON, "")
        self._metrics.requests.labels(route, request.method, str(status), reason).inc()
        if access_log.isEnabledFor(logging.INFO):
            caller = request.get(CALLER, ANONYMOUS)
            facts = {
                "request_id": request.get(REQUEST_ID),
                "method": request.method,
                "path": request.rel_url.raw_path,  # still encoded: no line breaks
                "route": route,
                "status": status,
                "reason": reason or None,
                "ms": round(seconds * 1000, 2),
                "bytes": response.content_length if response is not None else None,
                "range": request.headers.get("Range"),
                "caller": caller.kind.value,
                "address": caller.address or peer_of(request),
                "agent": request.headers.get("User-Agent"),
            }
            access_log.info("request", extra={"facts": facts})


def route_of(request: web.Request) -> str:
    """The route's pattern, so that counters do not grow with the number of assets."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "other"


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        facts = getattr(record, "facts", None)
        line.update(facts if isinstance(facts, Mapping) else {"message": record.getMessage()})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode("utf-8", "replace")


class ReadableLines(logging.Formatter):
    """Lines for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        facts = getattr(record, "facts", None)
        if isinstance(facts, Mapping):
            size = f" {facts['bytes']} B" if facts["bytes"] is not None else ""
            reason = f" ({facts['reason']})" if facts["reason"] else ""
            return f"{clock} {facts['status']} {facts['method']} {facts['path']}{reason}{size} {facts['ms']} ms"
        text = f"{clock} {record.levelname.lower()} {record.name}: {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def set_up_logging(style: str, stream: TextIO = sys.stderr) -> None:
    """Send logs to `stream`: `json`, `text`, or `auto` (text where a person reads)."""
    handler = logging.StreamHandler(stream)
    readable = style == "text" or (style == "auto" and stream.isatty())
    handler.setFormatter(ReadableLines() if readable else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
