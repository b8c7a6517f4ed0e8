"""Gives every request an id, and every error one shape: problem+json."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, Final

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from gateway.clock import Randomness
from gateway.errors import AssetgateError, Gone, MethodNotAllowed, NotFound, SignInRequired, of_denied
from policies.model import Caller, Denied

log = logging.getLogger("assetgate.web")
REQUEST_ID: Final = web.RequestKey("request_id", str)
REASON: Final = web.RequestKey("reason", str)
CALLER: Final = web.RequestKey("caller", Caller)
HEADERS: Final = web.RequestKey("headers", dict[str, str])  # to go with whatever is answered
STARTED: Final = web.RequestKey("started", bool)  # the head of an object's answer is on its way
ID_BYTES: Final = 12
AT_ONCE: Final = 64  # ids that one system call for randomness is good for
_FOREIGN_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")


class RequestIds:
    """Ids of requests: a trusted proxy's own, or new ones that cannot be guessed from others."""

    def __init__(self, randomness: Randomness, trusts: Callable[[str | None], bool]) -> None:
        self._randomness = randomness
        self._trusts = trusts
        self._unused = ""

    def choose(self, given: str | None, peer: str | None) -> str:
        if given is not None and _FOREIGN_ID.match(given) and self._trusts(peer):
            return given
        if not self._unused:
            self._unused = self._randomness(ID_BYTES * AT_ONCE).hex()
        chosen, self._unused = self._unused[: ID_BYTES * 2], self._unused[ID_BYTES * 2 :]
        return chosen


class Problems:
    """The middleware."""

    def __init__(self, request_ids: RequestIds) -> None:
        self._request_ids = request_ids

    def middleware(self) -> Middleware:
        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            request[REQUEST_ID] = self._request_ids.choose(request.headers.get("X-Request-Id"), peer_of(request))
            try:
                response = await handler(request)
            except Exception as error:  # noqa: BLE001 - the one place that answers every error
                response = self._answered(request, error)
            if not response.prepared:
                response.headers["X-Request-Id"] = request[REQUEST_ID]
                response.headers.update(request.get(HEADERS, {}))
            return response

        return answer

    def _answered(self, request: web.Request, error: Exception) -> web.StreamResponse:
        known = as_assetgate_error(error)
        if known.status == AssetgateError.status:
            log.error("request %s failed", request[REQUEST_ID], exc_info=error)
        request[REASON] = error.cause.value if isinstance(error, Denied) else known.error
        if request.get(STARTED):
            # A second answer would be taken for the object's bytes.
            if request.transport is not None:
                request.transport.abort()
            raise error
        return problem(known, request[REQUEST_ID])


def as_assetgate_error(error: Exception) -> AssetgateError:
    """Translate what a handler or aiohttp's router raised."""
    if isinstance(error, AssetgateError):
        return error
    if isinstance(error, Denied):
        return of_denied(error)
    if isinstance(error, web.HTTPMethodNotAllowed):
        return MethodNotAllowed(headers={hdrs.ALLOW: ", ".join(sorted(error.allowed_methods))})
    if isinstance(error, web.HTTPNotFound):
        return NotFound()
    if isinstance(error, web.HTTPGone):
        return Gone(error="endpoint_gone")
    return AssetgateError()


def problem(error: AssetgateError, request_id: str) -> web.Response:
    """Write an error as RFC 9457 has it, with the fields that the contract adds."""
    body: dict[str, Any] = {
        "type": f"urn:assetgate:{error.error}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "error": error.error,
        "code": -1,
        "message": error.detail,
        "request_id": request_id,
    }
    if error.fields:
        body["fields"] = error.fields
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **error.headers}
    if error.status == SignInRequired.status:
        headers.setdefault(hdrs.WWW_AUTHENTICATE, "Bearer")  # RFC 9110, section 15.5.2: every 401 has a challenge
    return web.Response(
        body=orjson.dumps(body), status=error.status, headers=headers, content_type="application/problem+json"
    )


def peer_of(request: web.BaseRequest) -> str | None:
    """The address at the other end of the connection; None on a Unix socket."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return str(peer[0]) if isinstance(peer, tuple) else None
