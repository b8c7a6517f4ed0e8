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
    rb"((?:[A-Za-z0-9!#$%&'*+.^_`|~-]+:[\t\x20-\x7e]*\r\n)+)\r\n"
)
# A body, a change of protocol or of the connection: aiohttp's work.
_NOT_PLAIN: Final = frozenset(
    {
        "content-length",
        "transfer-encoding",
        "expect",
        "upgrade",
        "connection",
        "te",
        "trailer",
        "forwarded",
        "proxy-connection",
    }
)
_BODY: Final = re.compile(
    rb"\r\n(?:content-length[ \t]*:[ \t]*([0-9]{1,15})[ \t]*|(transfer-encoding|upgrade|expect)[ \t]*:.*)(?=\r\n)", re.I
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
    if len(data) > LONGEST:
        return None
    found = _REQUEST.fullmatch(data)
    if found is None:
        return None
    method, target, asset_id, lines = found.groups()
    fields: dict[str, str] = {}
    for line in lines.decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name = name.lower()
        if name in fields or (
            name in _NOT_PLAIN and not (name == "connection" and value.strip().lower() == "keep-alive")
        ):
            return None
        fields[name] = value.strip(" \t")
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
