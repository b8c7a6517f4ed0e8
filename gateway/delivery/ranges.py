"""The one byte range that a Range header asks for (RFC 9110, section 14).

One range is served. What the header may not or need not be heeded for is ignored, and the whole is sent (section 14.2):
a unit that is not `bytes`, a list of several ranges, anything malformed, a last position before the first.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import RangeNotSatisfiable

# Units are case-insensitive (section 14.1). A list may have empty members (section 5.6.1.2): `bytes=0-1,` is one range.
_ONE_RANGE: Final = re.compile(
    r"bytes=[ \t,]*(?:(?P<first>[0-9]+)-(?P<last>[0-9]*)|-(?P<suffix>[0-9]+))[ \t,]*", re.ASCII | re.IGNORECASE
)
_LONGEST = 18  # digits of a position that are read as a number; no object is as large as what has more


def parse_range(header: str | None, size: int) -> range | None:
    """Return the bytes asked for, or None where the whole is to be sent: no header, or one that is ignored.

    Raises `RangeNotSatisfiable` when the range is a good one and lies outside an object of `size` bytes.
    """
    if header is None or not (found := _ONE_RANGE.fullmatch(header.strip(" \t"))):
        return None
    first, last, suffix = found.group("first", "last", "suffix")
    if suffix is not None:
        return _suffix(suffix, size)
    if last and _is_greater(first, last):
        return None
    start = _position(first, size)
    if start >= size:
        raise not_satisfiable(size)
    return range(start, _position(last, size - 1) + 1 if last else size)


def not_satisfiable(size: int) -> RangeNotSatisfiable:
    """Make the 416 that tells how large the object is (section 15.5.17)."""
    return RangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})


def _suffix(digits: str, size: int) -> range | None:
    if not digits.strip("0"):
        raise not_satisfiable(size)
    # The last bytes of an empty object are satisfiable, but no Content-Range can name them: the whole is sent.
    return range(size - _position(digits, size), size) if size else None


def _position(digits: str, limit: int) -> int:
    """Read a position no greater than `limit`. Python refuses to read thousands of digits, and we need not."""
    significant = digits.lstrip("0") or "0"
    return min(int(significant), limit) if len(significant) <= _LONGEST else limit


def _is_greater(first: str, last: str) -> bool:
    first, last = first.lstrip("0"), last.lstrip("0")
    return (len(first), first) > (len(last), last)
