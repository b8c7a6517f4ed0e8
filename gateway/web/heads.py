"""The head of an asset's answer, the same from whichever lane it is sent."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from gateway.delivery.dates import format_http_date
from gateway.delivery.plan import Delivery, Fields
from gateway.settings import Cors

SERVER: Final = "assetgate"
EXPOSED: Final = (
    "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, Last-Modified, Retry-After, X-Request-Id"
)


class Shared(NamedTuple):
    """What CORS adds to an answer: `Vary: Origin` where origins are configured, and leave to read for those."""

    origins: frozenset[str]

    @classmethod
    def of(cls, settings: Cors) -> Shared:
        return cls(frozenset(settings.origins))

    def vary(self, fields: Fields) -> Fields:
        """Add `Origin` to the `Vary` of an answer that depends on it (Fetch standard, CORS and caches)."""
        if not self.origins:
            return fields
        varies = [value for name, value in fields if name == "Vary"]
        return (*(field for field in fields if field[0] != "Vary"), ("Vary", ", ".join([*varies, "Origin"])))

    def allowed(self, origin: str | None) -> Fields:
        if origin is None or origin not in self.origins:
            return ()
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Expose-Headers", EXPOSED),
        )


def varying(delivery: Delivery, origin: str | None, shared: Shared) -> Fields:
    """The fields behind `delivery.fixed` and before the request's id: those of this request, CORS, and the time."""
    return (
        *shared.vary(delivery.varying),
        *shared.allowed(origin),
        ("Date", http_now()),
        ("Server", SERVER),
    )


def http_now() -> str:
    """The `Date` of an answer, formatted once a second."""
    global _second, _date
    second = int(time.time())
    if second != _second:
        _second, _date = second, format_http_date(second)
    return _date


_second = 0
_date = ""
