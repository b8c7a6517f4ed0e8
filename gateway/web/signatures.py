"""The routes that mint tokens: sign a batch of references, resolve those inside a document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import FailFast, Field

from gateway.errors import SignInRequired, Unprocessable
from gateway.model import parse_ref
from gateway.sharing import DEFAULT_WINDOW, LARGEST_BATCH, Sharing
from gateway.web.bodies import Body, ok, read_body
from gateway.web.callers import Callers
from policies.model import Caller, CallerKind

Seconds = Annotated[int, Field(ge=1)]
# Failing fast: an answer that weighs each of a million wrong entries would take a minute.
Texts = Annotated[tuple[str, ...], FailFast(), Field(max_length=LARGEST_BATCH, strict=False)]


class SignBody(Body):
    asset_ids: Texts = ()
    asset_refs: Texts = ()
    expires_in_seconds: Seconds | None = None
    download: bool | Annotated[str, Field(min_length=1, max_length=255)] | None = None
    window: Annotated[int, Field(ge=0)] = DEFAULT_WINDOW
    absolute: bool = False


class ResolveBody(Body):
    document: Any
    expires_in_seconds: Seconds | None = None
    absolute: bool = False
    on_denied: Literal["error", "null", "keep"] = "error"


class SignatureRoutes:
    """`POST /api/storage/assets/sign` and `/resolve`."""

    def __init__(self, callers: Callers, sharing: Sharing) -> None:
        self._callers = callers
        self._sharing = sharing

    async def sign(self, request: web.Request) -> web.Response:
        caller = await self._signed_in(request)
        body = await read_body(request, SignBody)
        # What is no reference is answered as one that does not exist, in its place.
        wanted = [*body.asset_ids, *(parse_ref(ref) or "" for ref in body.asset_refs)]
        if not 1 <= len(wanted) <= LARGEST_BATCH:
            detail = f"Name 1 to {LARGEST_BATCH} assets in assetIds and assetRefs together"
            raise Unprocessable(detail, fields={"assetRefs": detail})
        results = await self._sharing.sign(
            caller,
            wanted,
            expires_in=body.expires_in_seconds,
            download=body.download,
            window=body.window,
            base=self._callers.base(request) if body.absolute else "",
        )
        return ok({"results": results})

    async def resolve(self, request: web.Request) -> web.Response:
        caller = await self._signed_in(request)
        body = await read_body(request, ResolveBody)
        document = await self._sharing.resolve(
            caller,
            body.document,
            expires_in=body.expires_in_seconds,
            base=self._callers.base(request) if body.absolute else "",
            on_denied=body.on_denied,
        )
        return ok({"document": document})

    async def _signed_in(self, request: web.Request) -> Caller:
        """Nobody in particular owns nothing: they are told to sign in, not that each asset is not there."""
        caller = await self._callers.identify(request)
        if caller.kind is CallerKind.ANONYMOUS:
            raise SignInRequired
        return caller
