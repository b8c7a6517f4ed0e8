"""Conditional requests (RFC 9110, section 13), judged in the precedence of section 13.2.2."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from gateway.delivery.dates import parse_http_date
from gateway.errors import PreconditionFailed

# A tag has neither space nor escape inside its quotes, but commas it may have (section 8.8.3). The members of a list
# may be empty (section 5.6.1.2).
_MEMBER: Final = re.compile(r"[ \t,]*(?P<weak>W/)?(?P<tag>\"[!\x23-\x7e\x80-\U0010ffff]*\")[ \t]*(?=,|\Z)")


class Conditionals(NamedTuple):
    """The values of the request's header fields that decide which bytes it gets; None: there is no such field."""

    range: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None
    if_range: str | None = None


UNCONDITIONAL: Final = Conditionals()


class Validators(NamedTuple):
    """What a representation is recognised by: its strong entity tag, and its Last-Modified in seconds since 1970."""

    etag: str
    modified: int


def joined(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Combine header lines by lower-case name; repeated ones become one list (section 5.3)."""
    fields: dict[str, str] = {}
    for name, value in lines:
        key = name.lower()
        fields[key] = f"{fields[key]}, {value}" if key in fields else value
    return fields


def conditionals_of(fields: Mapping[str, str]) -> Conditionals:
    """Take the conditionals out of `fields`: as `joined` makes them, so that no repeated line gets lost."""
    get = fields.get
    return Conditionals(
        get("range"),
        get("if-match"),
        get("if-none-match"),
        get("if-modified-since"),
        get("if-unmodified-since"),
        get("if-range"),
    )


def is_unchanged(asked: Conditionals, has: Validators, now: float) -> bool:
    """Tell whether a GET or HEAD is answered 304: the client has what it would get.

    Raises `PreconditionFailed` when the client wants the representation only as it is not.
    """
    if asked.if_match is not None:
        if not _lists(asked.if_match, has.etag, weakly=False):
            raise PreconditionFailed
    elif asked.if_unmodified_since is not None:
        since = _date(asked.if_unmodified_since, now)
        if since is not None and has.modified > since:
            raise PreconditionFailed
    if asked.if_none_match is not None:
        return _lists(asked.if_none_match, has.etag, weakly=True)
    if asked.if_modified_since is not None:
        since = _date(asked.if_modified_since, now)
        return since is not None and has.modified <= since
    return False


def is_range_wanted(if_range: str | None, has: Validators, now: float) -> bool:
    """Tell whether Range is heeded: there is no If-Range, or it names this very representation (section 13.1.5).

    A weak tag never does. A date must be the Last-Modified exactly; that is a strong validator here, for the bytes of
    an asset never change (section 8.8.2.2).
    """
    if if_range is None:
        return True
    validator = if_range.strip(" \t")
    return validator == has.etag or _date(validator, now) == has.modified


def _date(text: str, now: float) -> int | None:
    """Read a date; one that is none is ignored, and so is a list of them (sections 13.1.3 and 13.1.4)."""
    return parse_http_date(text.strip(" \t"), now)


def _lists(header: str, etag: str, *, weakly: bool) -> bool:
    """Tell whether `*` or a list of tags names `etag`, a strong one, by weak or strong comparison (section 8.8.3.2)."""
    if header == etag or header.strip(" \t") == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _tags(header))


def _tags(header: str) -> Iterator[tuple[bool, str]]:
    """Read the tags one by one, up to where the list is malformed: what stands behind cannot be told apart."""
    at = 0
    while found := _MEMBER.match(header, at):
        yield found["weak"] is not None, found["tag"]
        at = found.end()
