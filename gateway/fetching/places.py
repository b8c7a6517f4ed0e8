"""Judges a URL before anything is resolved: scheme, host, port, and that nothing is hidden in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from yarl import URL

from gateway.fetching.failures import FetchFailed, Reason

LONGEST_URL: Final = 8192  # characters
_SUSPICIOUS: Final = re.compile(r"[\x00-\x20\x7f\\]")
_FIRST_USER_PORT: Final = 1024


def judged(url: str | URL, hosts: Sequence[str], *, allow_http: bool) -> URL:
    """Return the URL to fetch, as signed by its maker: percent-encoding untouched. Raises `FetchFailed`."""
    text = str(url)
    if len(text) > LONGEST_URL or _SUSPICIOUS.search(text):
        raise FetchFailed(Reason.URL_INVALID, "The URL is too long or holds characters that no URL has")
    try:
        parsed = URL(text, encoded=text.isascii()).with_fragment(None)
        port, host = parsed.port, (parsed.raw_host or "").lower()
    except ValueError:
        raise FetchFailed(Reason.URL_INVALID, "The URL cannot be read") from None
    if parsed.scheme not in ("https", "http") or (parsed.scheme == "http" and not allow_http):
        raise FetchFailed(Reason.SCHEME_NOT_ALLOWED, "Only https is fetched")
    if parsed.raw_user is not None or parsed.raw_password is not None:
        raise FetchFailed(Reason.URL_INVALID, "The URL carries a user name or a password")
    if not host or host.endswith(".") or port is None:
        raise FetchFailed(Reason.URL_INVALID, "The URL names no host")
    if not _allowed(host, port, hosts, allow_http=allow_http):
        raise FetchFailed(Reason.HOST_NOT_ALLOWED, "The host is not one that results are fetched from")
    return parsed


def _allowed(host: str, port: int, hosts: Sequence[str], *, allow_http: bool) -> bool:
    """Match exact hosts, `*.suffix` on a label's boundary, and `*`; an entry may name a port, else it is 443.

    Where the operator allows plain http, ports from 80 and 1024 up are good as well.
    """
    usual = port == 443 or (allow_http and (port == 80 or port >= _FIRST_USER_PORT))  # noqa: PLR2004 - RFC 9110
    for entry in hosts:
        name, colon, number = entry.lower().rpartition(":")
        if not colon or not number.isdigit() or (":" in name and not name.endswith("]")):
            name, number = entry.lower(), ""
        good_port = port == int(number) if number else usual
        if good_port and _matches(host, name):
            return True
    return False


def _matches(host: str, entry: str) -> bool:
    if entry == "*":
        return True
    if entry.startswith("*."):
        return host.endswith(entry[1:]) and len(host) > len(entry) - 1
    return host == entry.strip("[]")
