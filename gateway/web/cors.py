"""Lets the pages of the origins in the settings call the gateway (Fetch standard, CORS protocol)."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from gateway.settings import Cors
from gateway.web.heads import SERVER, Shared
from gateway.web.middleware import STARTED

METHODS: Final = "GET, HEAD, POST, PATCH, DELETE"
HEADERS: Final = "Authorization, Content-Type, Range, If-Range, If-Match, If-None-Match"


class CrossOrigin:
    """The headers of CORS."""

    def __init__(self, settings: Cors) -> None:
        self._shared = Shared.of(settings)
        self._max_age = str(int(settings.max_age))

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """A signal for `on_response_prepare`: whatever is answered carries them, errors too."""
        if request.get(STARTED):
            return  # the head of an asset has them already
        response.headers[hdrs.SERVER] = SERVER  # aiohttp has named itself by now
        varies = response.headers.popall(hdrs.VARY, ())
        response.headers.extend(self._shared.vary(tuple((hdrs.VARY, value) for value in varies)))
        response.headers.extend(self._shared.allowed(request.headers.get(hdrs.ORIGIN)))

    def middleware(self) -> Middleware:
        @web.middleware
        async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
            """Answer a preflight; which origin may go on is said by `add_headers`."""
            if request.method != hdrs.METH_OPTIONS or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
                return await handler(request)
            headers = {
                hdrs.ACCESS_CONTROL_ALLOW_METHODS: METHODS,
                hdrs.ACCESS_CONTROL_ALLOW_HEADERS: HEADERS,
                hdrs.ACCESS_CONTROL_MAX_AGE: self._max_age,
            }
            return web.Response(status=204, headers=headers)

        return preflight
