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
    return base64.urlsafe_b64encode(orjson.dumps([asset.created_at, asset.id])).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> tuple[int, str]:
    try:
        created_at, asset_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, TypeError):
        raise InvalidRequest("The cursor is none of ours", fields={"cursor": "is malformed"}) from None
    if not isinstance(created_at, int) or not isinstance(asset_id, str):
        raise InvalidRequest("The cursor is none of ours", fields={"cursor": "is malformed"})
    return created_at, asset_id


def listing_of(request: web.Request, caller: Caller) -> Listing:
    """Read the query. Raises `SignInRequired`, `Forbidden`, `InvalidRequest` and `Unprocessable`."""
    query = request.query
    owner = _listed_owner(caller, query.get("owner"))
    limit = query.get("limit", str(DEFAULT_PAGE))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= len(str(LARGEST_PAGE))) or not (
        1 <= int(limit) <= LARGEST_PAGE
    ):
        raise Unprocessable(f"limit is a number from 1 to {LARGEST_PAGE}", fields={"limit": "is out of range"})
    cursor = query.get("cursor")
    return Listing(
        limit=int(limit),
        owner=owner,
        purpose=query.get("purpose"),
        media_type=query.get("mediaType"),
        after=decode_cursor(cursor) if cursor else None,
    )


def _listed_owner(caller: Caller, asked: str | None) -> str | None:
    """Whose assets are listed: the caller's own, or for a service those it asks for."""
    if caller.kind is CallerKind.SERVICE:
        if "read" not in caller.scopes:
            raise Forbidden("The service's key does not have the scope read", error="scope_missing")
        return asked
    if caller.owner is None:
        raise SignInRequired
    return caller.owner
