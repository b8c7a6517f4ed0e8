"""What is noted of every finished request: one log line and the counters."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TextIO

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Counter

from gateway.metrics import Metrics
from gateway.model import PATH_PREFIX
from gateway.web.middleware import CALLER, REASON, REQUEST_ID, peer_of
from policies.model import ANONYMOUS

FLUSH_AFTER: Final = 0.1  # seconds
ABORTED: Final = 499  # nginx's word for a client that went away
ASSET_ROUTE: Final = PATH_PREFIX + "{id}"


class Note(NamedTuple):
    """What is told of one request. `began` is of `time.perf_counter`; the path is as sent, without its query."""

    began: float
    request_id: str | None
    method: str
    path: str
    route: str
    status: int
    reason: str
    size: int | None
    range: str | None
    caller: str
    address: str | None
    agent: str | None


class Observed:
    """The outermost middleware. Queries are never logged, for they carry tokens; nor are cookies and credentials."""

    def __init__(self, metrics: Metrics, log: AccessLog | None = None) -> None:
        self._metrics = metrics
        self._log = log
        self._counters: dict[tuple[str, str, int, str], Counter] = {}

    def middleware(self) -> Middleware:
        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            began = time.perf_counter()
            response: web.StreamResponse | None = None
            try:
                response = await handler(request)
            finally:
                self.note(_note_of(request, response, began), broken=response is None)
            return response

        return note

    def note(self, note: Note, *, broken: bool) -> None:
        """Count a finished request, and log it. `broken`: the client did not get all of it."""
        status = ABORTED if broken else note.status
        key = (note.route, note.method, status, note.reason)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._metrics.requests.labels(note.route, note.method, str(status), note.reason)
            self._counters[key] = counter
        counter.inc()
        if self._log is not None:
            self._log.add(note, status)


def _note_of(request: web.Request, response: web.StreamResponse | None, began: float) -> Note:
    caller = request.get(CALLER, ANONYMOUS)
    return Note(
        began=began,
        request_id=request.get(REQUEST_ID),
        method=request.method,
        path=request.rel_url.raw_path,  # still encoded: no line breaks
        route=route_of(request),
        status=ABORTED if response is None else response.status,
        reason=request.get(REASON, ""),
        size=response.content_length if response is not None else None,
        range=request.headers.get("Range"),
        caller=caller.kind.value,
        address=caller.address or peer_of(request),
        agent=request.headers.get("User-Agent"),
    )


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
        line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode("utf-8", "replace")


class ReadableLines(logging.Formatter):
    """Lines for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{clock} {record.levelname.lower()} {record.name}: {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class AccessLog:
    """One line a request, written in batches: a system call for each would cost more than the line.

    What was noted in the last moment is lost when the process is killed, and nothing else.
    """

    def __init__(self, stream: TextIO, *, readable: bool) -> None:
        self._stream = stream
        self._line = _readable if readable else _json_line
        self._lines: list[str] = []

    def add(self, note: Note, status: int) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_AFTER, self.flush)
        self._lines.append(self._line(note, status, round((time.perf_counter() - note.began) * 1000, 2)))

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        self._stream.write("".join(lines))
        self._stream.flush()


def _json_line(note: Note, status: int, elapsed: float) -> str:
    facts = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "info",
        "logger": "assetgate.access",
        "request_id": note.request_id,
        "method": note.method,
        "path": note.path,
        "route": note.route,
        "status": status,
        "reason": note.reason or None,
        "ms": elapsed,
        "bytes": note.size,
        "range": note.range,
        "caller": note.caller,
        "address": note.address,
        "agent": note.agent,
    }
    try:
        return orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE).decode()
    except orjson.JSONEncodeError:  # a header that is no UTF-8
        return json.dumps(facts) + "\n"


def _readable(note: Note, status: int, elapsed: float) -> str:
    size = f" {note.size} B" if note.size is not None else ""
    reason = f" ({note.reason})" if note.reason else ""
    clock = time.strftime("%H:%M:%S")
    return f"{clock} {status} {note.method} {note.path}{reason}{size} {elapsed} ms\n"


def set_up_logging(style: str, stream: TextIO = sys.stderr) -> AccessLog:
    """Send logs to `stream`: `json`, `text`, or `auto` (text where a person reads). Returns the log of requests."""
    handler = logging.StreamHandler(stream)
    readable = style == "text" or (style == "auto" and stream.isatty())
    handler.setFormatter(ReadableLines() if readable else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    return AccessLog(stream, readable=readable)
