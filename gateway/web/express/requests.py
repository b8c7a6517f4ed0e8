"""Recognises the requests that the express lane takes: one whole, plain GET or HEAD of an asset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.delivery.conditions import UNCONDITIONAL, Conditionals, conditionals_of
from gateway.generations import Generations
from gateway.model import PATH_PREFIX
from gateway.web.addresses import is_host

LONGEST: Final = 8000  # bytes; aiohttp judges longer ones
MOST_LINES: Final = 100  # of the head; aiohttp refuses more than 128 fields

_REQUEST_LINE: Final = re.compile(
    rb"(?:GET|HEAD) " + PATH_PREFIX.encode() + rb"[A-Za-z0-9][A-Za-z0-9_-]{7,63}(?:\?token=[A-Za-z0-9._-]+)? HTTP/1\.1"
)
# Only what both lanes read alike: RFC 9112's grammar without bytes that are not ASCII, folding or bare line ends.
_PLAIN_BYTES: Final = bytes(range(0x20, 0x7F)) + b"\t\r\n"
_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LOOKED_AT: Final = frozenset(
    {
        *("host", "connection", "authorization", "cookie", "origin", "user-agent", "x-request-id", "x-forwarded-for"),
        *("range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"),
        # aiohttp refuses a request that has one of these twice.
        *("content-type", "content-location", "content-range", "etag", "max-forwards", "server"),
    }
)
# A body, the end of the connection, or a change of the protocol: aiohttp's work.
_NOT_PLAIN: Final = frozenset(
    {
        *("content-length", "transfer-encoding", "trailer", "te", "expect", "upgrade"),
        *("proxy-connection", "sec-websocket-key1"),
    }
)
_CONDITIONAL: Final = frozenset(
    {"range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}
)
_MOST_KEPT: Final = 16 * 1024 * 1024  # bytes, nearly, of the fields that were read
_HEAD_SIZE: Final = 600
_IGNORED: Final = ""
_MOST_NAMES: Final = 1000
_names: dict[bytes, str | None] = {}  # as they were sent: the lower-case name, `_IGNORED`, or None for aiohttp's work
_BODY: Final = re.compile(
    rb"\r\n(?:content-length[ \t]*:[ \t]*([0-9]{1,15})[ \t]*|(transfer-encoding|upgrade|expect)[ \t]*:.*)(?=\r\n)",
    re.IGNORECASE,
)


@dataclass(eq=False, slots=True)
class Head:
    """The fields of a request that anybody looks at; None: there is no such field. It is equal to itself alone."""

    authorization: str | None
    cookie: str | None
    origin: str | None
    agent: str | None
    request_id: str | None
    forwarded: str | None
    asked: Conditionals


# A client sends the same fields again and again: what they say is kept by the bytes they were sent as.
_heads: Final = Generations[bytes, Head](_MOST_KEPT, lambda sent, _: _HEAD_SIZE + 2 * len(sent))


def plain(data: bytes) -> tuple[bytes, Head] | None:
    """Split a request into its first line and what its fields say; None when it is more or less than one plain request.

    The line is anything: only one for which `is_read` holds is ours.
    """
    if len(data) > LONGEST:
        return None
    end = data.find(b"\r\n")
    lines = data[end:]
    head = _heads.get(lines)
    if head is None:
        head = _read(lines)
        if head is None:
            return None
        _heads.keep(lines, head)
    return data[:end], head


def is_read(line: bytes) -> bool:
    """Tell whether a request's first line asks for an asset in the plainest way."""
    return _REQUEST_LINE.fullmatch(line) is not None


def _read(data: bytes) -> Head | None:
    """Read all behind the first line, its end included."""
    if not data.endswith(b"\r\n\r\n") or data.translate(None, _PLAIN_BYTES):
        return None
    lines = data[:-4].split(b"\r\n")
    ends = len(lines) + 1
    if ends > MOST_LINES or data.count(b"\n") != ends or data.count(b"\r") != ends:
        return None
    fields: dict[str, str] = {}
    for line in lines[1:]:
        sent, colon, value = line.partition(b":")
        name = _names[sent] if sent in _names else _named(sent)
        if name is None or not colon or name in fields:
            return None
        if name:
            fields[name] = value.strip(b" \t").decode()
    get = fields.get
    if not is_host(get("host", "")) or get("connection", "keep-alive").lower() != "keep-alive":
        return None
    return Head(
        get("authorization"),
        get("cookie"),
        get("origin"),
        get("user-agent"),
        get("x-request-id"),
        get("x-forwarded-for"),
        UNCONDITIONAL if _CONDITIONAL.isdisjoint(fields) else conditionals_of(fields),
    )


def _named(sent: bytes) -> str | None:
    """Judge a name that was not seen before, and remember it; None: this request is not ours."""
    lower = sent.lower().decode()
    ours = _NAME.fullmatch(sent) is not None and lower not in _NOT_PLAIN
    name = (lower if lower in _LOOKED_AT else _IGNORED) if ours else None
    if len(_names) < _MOST_NAMES:
        _names[sent] = name
    return name


def body_owed(data: bytes) -> int | None:
    """How many bytes of its body are still to come after `data`, which begins with a request; None: nobody can tell."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    announced = 0
    for number, (length, other) in enumerate(_BODY.findall(data, 0, end + 2)):
        if other or number:
            return None
        announced = int(length)
    owed = announced - (len(data) - end - 4)
    return owed if owed >= 0 else None
