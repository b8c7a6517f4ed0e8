"""Which bytes of an asset answer a request, with which status and headers (contract, section 7).

The caller makes the `Representation` once and keeps it with the record; `plan` is what is done for each request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from gateway.delivery.conditions import Conditionals, Validators, is_range_wanted, is_unchanged
from gateway.delivery.dates import format_http_date
from gateway.delivery.disposition import content_disposition
from gateway.delivery.ranges import parse_range
from gateway.model import Asset
from policies.model import Grant, Reason

Method = Literal["GET", "HEAD"]
Fields = tuple[tuple[str, str], ...]

_MILLISECONDS = 1000  # in a second
_NO_SNIFFING: Final = ("X-Content-Type-Options", "nosniff")
# Opened by itself, even a file that can run script runs none, and loads nothing.
_NO_SCRIPT: Final = ("Content-Security-Policy", "default-src 'none'; sandbox")
_REVALIDATED: Final = ("Cache-Control", "private, no-cache")


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """What the operator settles: Cross-Origin-Resource-Policy, and the seconds that caches may keep public assets."""

    resource_policy: str
    public_max_age: float
    public_stale_while_revalidate: float


@dataclass(frozen=True, slots=True)
class Representation:
    """What an asset shows to whoever may read it. It depends on the record, the operator's rules and `dl` alone."""

    size: int
    validators: Validators
    whole: Fields  # of a 200
    partial: Fields  # of a 206
    unchanged: Fields  # of a 304


class Delivery(NamedTuple):
    """The answer. `wanted` are the bytes to send (perhaps none of an empty object); None: there is no body.

    `fixed` is one of the representation's own tuples, so that its rendered form can be remembered beside it;
    `varying` are the fields of this request alone.
    """

    status: int
    fixed: Fields
    varying: Fields
    wanted: range | None

    @property
    def headers(self) -> Fields:
        return self.fixed + self.varying


def represent(asset: Asset, rules: DeliveryRules, dl: str | int | None = None) -> Representation:
    """Write the headers that do not depend on the request. `dl` is that of the grant's token: see `download_of`."""
    modified = asset.created_at // _MILLISECONDS
    etag = ("ETag", asset.etag)
    partial: Fields = (
        ("Content-Type", asset.media_type),
        etag,
        ("Last-Modified", format_http_date(modified)),
        ("Accept-Ranges", "bytes"),
        ("Content-Disposition", content_disposition(asset.media_type, asset.filename, dl)),
        _NO_SNIFFING,
        _NO_SCRIPT,
        ("Cross-Origin-Resource-Policy", rules.resource_policy),
    )
    return Representation(
        size=asset.size,
        validators=Validators(asset.etag, modified),
        whole=(*partial, ("Content-Length", str(asset.size))),
        partial=partial,
        # With Cache-Control and Vary, all that a 304 has to say (RFC 9110, section 15.4.5).
        unchanged=(etag,),
    )


def download_of(grant: Grant) -> str | int | None:
    """Tell how the URL wants the asset saved. It says so by its token, even where something else let the caller in."""
    return grant.token.dl if grant.token is not None else None


def plan(
    representation: Representation,
    method: Method,
    asked: Conditionals,
    grant: Grant,
    *,
    now: float,
    rules: DeliveryRules,
) -> Delivery:
    """Decide the answer to a GET or HEAD. Raises `PreconditionFailed` and `RangeNotSatisfiable`.

    HEAD is answered as GET is, without the body and as if there were no Range: ranges are defined for GET alone
    (RFC 9110, section 14.2), so its Content-Length is always that of the whole.
    """
    varying = _varying(grant, now, rules)
    if is_unchanged(asked, representation.validators, now):
        return Delivery(304, representation.unchanged, varying, None)
    if method == "HEAD":
        return Delivery(200, representation.whole, varying, None)
    size = representation.size
    if asked.range is not None and is_range_wanted(asked.if_range, representation.validators, now):
        part = parse_range(asked.range, size)
        if part is not None:
            return Delivery(206, representation.partial, (*_position(part, size), *varying), part)
    return Delivery(200, representation.whole, varying, range(size))


def _position(part: range, size: int) -> Fields:
    return (
        ("Content-Length", str(len(part))),
        # A range that covers the whole object is a range all the same: Safari plays nothing that answers 200.
        ("Content-Range", f"bytes {part.start}-{part.stop - 1}/{size}"),
    )


def _varying(grant: Grant, now: float, rules: DeliveryRules) -> Fields:
    caching = _cache_control(grant, now, rules)
    return (caching, ("Vary", ", ".join(grant.read))) if grant.read else (caching,)


def _cache_control(grant: Grant, now: float, rules: DeliveryRules) -> tuple[str, str]:
    """Say how long the answer may be kept: what the grant rests on decides, not what else the request carried."""
    left = None if grant.until is None else max(int(grant.until - now), 0)
    if grant.reason is Reason.TOKEN and left is not None:
        return "Cache-Control", f"private, max-age={left}"
    if grant.reason is not Reason.PUBLIC:
        return _REVALIDATED
    fresh, stale = int(rules.public_max_age), int(rules.public_stale_while_revalidate)
    if left is not None:
        # Nothing is shown past the end of the grant, fresh or stale.
        fresh = min(fresh, left)
        stale = min(stale, left - fresh)
    return "Cache-Control", f"public, max-age={fresh}, stale-while-revalidate={stale}"
