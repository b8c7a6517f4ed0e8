"""What a client asks to list, and where its next page begins."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import orjson
from aiohttp import web

from gateway.errors import Forbidden, InvalidRequest, SignInRequired, Unprocessable
from gateway.metadata import Listing
from gateway.model import Asset
from policies.model import Caller, CallerKind

DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 1000


def encode_cursor(asset: Asset) -> str:
    return encode_position(asset.created_at, asset.id)


def encode_position(created_at: int, name: str) -> str:
    """Write where a page ended as text that means nothing to clients."""
    return base64.urlsafe_b64encode(orjson.dumps([created_at, name])).rstrip(b"=").decode()


def decode_position(cursor: str) -> tuple[int, str]:
    """Read what `encode_position` wrote. Raises `InvalidRequest`."""
    try:
        created_at, asset_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, TypeError):
        raise InvalidRequest("The cursor is none of ours", fields={"cursor": "is malformed"}) from None
    # No other integers are moments of records, and true is one of Python's integers.
    if type(created_at) is not int or not 0 <= created_at < 2**53 or not isinstance(asset_id, str):
        raise InvalidRequest("The cursor is none of ours", fields={"cursor": "is malformed"})
    return created_at, asset_id


def listing_of(request: web.Request, caller: Caller) -> Listing:
    """Read the query. Raises `SignInRequired`, `Forbidden`, `InvalidRequest` and `Unprocessable`."""
    query = request.query
    owner = _listed_owner(caller, query.get("owner"))
    limit = limit_of(request, LARGEST_PAGE)
    cursor = query.get("cursor")
    return Listing(
        limit=limit,
        owner=owner,
        purpose=query.get("purpose"),
        media_type=query.get("mediaType"),
        after=decode_position(cursor) if cursor else None,
    )


def limit_of(request: web.Request, largest: int) -> int:
    """Read how many are asked for. Raises `Unprocessable`."""
    limit = request.query.get("limit", str(DEFAULT_PAGE))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= len(str(largest))) or not 1 <= int(limit) <= largest:
        raise Unprocessable(f"limit is a number from 1 to {largest}", fields={"limit": "is out of range"})
    return int(limit)


def _listed_owner(caller: Caller, asked: str | None) -> str | None:
    """Whose assets are listed: the caller's own, or for a service those it asks for."""
    if caller.kind is CallerKind.SERVICE:
        if "read" not in caller.scopes:
            raise Forbidden("The service's key does not have the scope read", error="scope_missing")
        return asked
    if caller.owner is None:
        raise SignInRequired
    return caller.owner
