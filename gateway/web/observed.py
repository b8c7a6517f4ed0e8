"""What is noted of every finished request: one log line and the counters."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, TextIO

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.clock import milliseconds
from gateway.metrics import Metrics
from gateway.model import PATH_PREFIX
from gateway.web.middleware import CALLER, REASON, REQUEST_ID, peer_of
from policies.model import ANONYMOUS

SETTLED_AFTER: Final = 0.1  # seconds
AT_ONCE: Final = 256  # notes that are settled before that
ABORTED: Final = 499  # nginx's word for a client that went away
ASSET_ROUTE: Final = PATH_PREFIX + "{id}"


@dataclass(slots=True)
class Facts:
    """What is told of a request, and of every other like it. The path is as sent, without its query."""

    method: str
    path: str
    route: str
    status: int
    reason: str
    size: int | None
    range: str | None
    caller: str
    agent: str | None
    json: str = field(init=False, default="")  # the members of a line's JSON object, from when they are first asked for


class Note(NamedTuple):
    """What is told of one request. `began` and `ended` are of `time.perf_counter`.

    `broken`: the client did not get all of it. `sent` (bytes of an object) and `decision` (seconds) are for who did not
    count them before.
    """

    facts: Facts
    began: float
    ended: float
    request_id: str | None
    address: str | None
    broken: bool
    sent: int = 0
    decision: float | None = None

    @property
    def status(self) -> int:
        return ABORTED if self.broken else self.facts.status


class Observed:
    """The outermost middleware. Queries are never logged, for they carry tokens; nor are cookies and credentials.

    Notes are counted and logged many at a time: a system call and a lock for each would cost more than its answer.
    What was noted in the last moment is lost when the process is killed, and nothing else.
    """

    def __init__(self, metrics: Metrics, log: AccessLog | None = None) -> None:
        self._metrics = metrics
        self._log = log
        self._notes: list[Note] = []
        metrics.registry.late.append(self.settle)

    def middleware(self) -> Middleware:
        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            began = time.perf_counter()
            response: web.StreamResponse | None = None
            try:
                response = await handler(request)
            finally:
                self.add(_note_of(request, response, began))
            return response

        return note

    def add(self, note: Note) -> None:
        """Take note of a finished request."""
        notes = self._notes
        if not notes:
            asyncio.get_running_loop().call_later(SETTLED_AFTER, self._metrics.registry.settle)
        notes.append(note)
        if len(notes) >= AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Count and log what was noted."""
        notes, self._notes = self._notes, []
        if not notes:
            return
        requests = Counter((n.facts.route, n.facts.method, n.status, n.facts.reason) for n in notes)
        for (route, method, status, reason), count in requests.items():
            self._metrics.requests.labels(route, method, str(status), reason).inc(count)
        self._metrics.sent.inc(sum(note.sent for note in notes))
        self._metrics.decision.observe_all([note.decision for note in notes if note.decision is not None])
        if self._log is not None:
            self._log.write(notes)


OBSERVED: Final = web.AppKey("observed", Observed)


def _note_of(request: web.Request, response: web.StreamResponse | None, began: float) -> Note:
    caller = request.get(CALLER, ANONYMOUS)
    facts = Facts(
        method=request.method,
        path=request.rel_url.raw_path,  # still encoded: no line breaks
        route=route_of(request),
        status=ABORTED if response is None else response.status,
        reason=request.get(REASON, ""),
        size=response.content_length if response is not None else None,
        range=request.headers.get("Range"),
        caller=caller.kind.value,
        agent=request.headers.get("User-Agent"),
    )
    address = caller.address or peer_of(request)
    return Note(facts, began, time.perf_counter(), request.get(REQUEST_ID), address, broken=response is None)


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
    """One line a request."""

    def __init__(self, stream: TextIO, *, readable: bool) -> None:
        self._stream = stream
        self._line = _readable if readable else _json_line

    def write(self, notes: Iterable[Note]) -> None:
        started = time.time() - time.perf_counter()  # of the counter, by the clock
        self._stream.write("".join([self._line(note, started) for note in notes]))
        self._stream.flush()


def _json_line(note: Note, started: float) -> str:
    facts = note.facts
    if note.broken:
        facts = replace(facts, status=ABORTED)
    if not facts.json:
        facts.json = _json(facts)
    elapsed = (note.ended - note.began) * 1000
    request_id = "null" if note.request_id is None else f'"{note.request_id}"'  # letters, digits and . _ - at most
    return (
        f'{{"time":"{_iso(milliseconds(started + note.ended))}","level":"info","logger":"assetgate.access",'
        f'"request_id":{request_id},"ms":{elapsed:.2f},"address":{_quoted(note.address)},{facts.json}}}\n'
    )


def _json(facts: Facts) -> str:
    told = {
        "method": facts.method,
        "path": facts.path,
        "route": facts.route,
        "status": facts.status,
        "reason": facts.reason or None,
        "bytes": facts.size,
        "range": facts.range,
        "caller": facts.caller,
        "agent": facts.agent,
    }
    try:
        text = orjson.dumps(told).decode()
    except orjson.JSONEncodeError:  # a header that is no UTF-8
        text = json.dumps(told)
    return text[1:-1]


@lru_cache(maxsize=1024)
def _quoted(text: str | None) -> str:
    return json.dumps(text)


@lru_cache(maxsize=1024)
def _iso(moment: int) -> str:
    """Write milliseconds since 1970; many notes share one."""
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")


def _readable(note: Note, started: float) -> str:
    facts = note.facts
    size = f" {facts.size} B" if facts.size is not None else ""
    reason = f" ({facts.reason})" if facts.reason else ""
    clock = time.strftime("%H:%M:%S", time.localtime(started + note.ended))
    elapsed = (note.ended - note.began) * 1000
    return f"{clock} {note.status} {facts.method} {facts.path}{reason}{size} {elapsed:.2f} ms\n"


def set_up_logging(style: str, stream: TextIO = sys.stderr) -> AccessLog:
    """Send logs to `stream`: `json`, `text`, or `auto` (text where a person reads). Returns the log of requests."""
    handler = logging.StreamHandler(stream)
    readable = style == "text" or (style == "auto" and stream.isatty())
    handler.setFormatter(ReadableLines() if readable else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    return AccessLog(stream, readable=readable)
