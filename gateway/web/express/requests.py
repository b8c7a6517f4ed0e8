"""Recognises the requests that the express lane takes: one whole, plain GET or HEAD of an asset."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gateway.delivery.conditions import Conditionals, conditionals_of
from gateway.model import PATH_PREFIX

LONGEST: Final = 8000  # bytes; aiohttp judges longer ones

# Only what both lanes read alike: RFC 9112's grammar without folding, bare line ends or bytes that are not ASCII.
_REQUEST: Final = re.compile(
    rb"(GET|HEAD) ("
    + PATH_PREFIX.encode()
    + rb"([A-Za-z0-9][A-Za-z0-9_-]{7,63})(?:\?token=[A-Za-z0-9._-]+)?) HTTP/1\.1\r\n"
    rb"(?:[A-Za-z0-9!#$%&'*+.^_`|~-]+:[\t\x20-\x7e]*\r\n)+\r\n"
)
# What is looked at. The last row is aiohttp's work: a body, a change of the protocol or of the connection.
_LOOKED_AT: Final = re.compile(
    rb"\n(host|range|if-(?:none-)?match|if-(?:un)?modified-since|if-range|authorization|cookie|origin|user-agent"
    rb"|x-request-id|x-forwarded-for"
    rb"|connection|content-length|transfer-encoding|expect|upgrade|te|trailer)[ \t]*:[ \t]*([^\r]*)",
    re.IGNORECASE,
)
_NOT_PLAIN: Final = frozenset(
    {b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer"}
)
_BODY: Final = re.compile(
    rb"\r\n(?:content-length[ \t]*:[ \t]*([0-9]{1,15})[ \t]*|(transfer-encoding|upgrade|expect)[ \t]*:.*)(?=\r\n)",
    re.IGNORECASE,
)


class Plain(NamedTuple):
    """A plain request: the target as it was sent, and its fields by lower-case name."""

    method: str
    target: str
    asset_id: str
    fields: dict[str, str]

    @property
    def conditionals(self) -> Conditionals:
        return conditionals_of(self.fields)


def plain(data: bytes) -> Plain | None:
    """Read a request; None when it is not one whole plain request and nothing else."""
    found = _REQUEST.fullmatch(data) if len(data) <= LONGEST else None
    if found is None:
        return None
    method, target, asset_id = found.groups()
    fields: dict[str, str] = {}
    for name, value in _LOOKED_AT.findall(data, found.end(2)):
        lower = name.lower()
        if lower in _NOT_PLAIN and not (lower == b"connection" and value.strip().lower() == b"keep-alive"):
            return None
        key = lower.decode()
        if key in fields:
            return None
        fields[key] = value.rstrip(b" \t").decode()
    if "host" not in fields:
        return None
    return Plain(method.decode(), target.decode(), asset_id.decode(), fields)


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
