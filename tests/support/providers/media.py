"""A local host of result files: well-behaved ones, and each kind of misbehaviour that downloads must survive."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from gateway.clock import Clock

Behaviour = Literal[
    "ok", "redirect", "html", "not_found", "forbidden", "rate_limited", "broken", "endless", "truncated", "gzip", "drip"
]
REFUSALS: dict[str, int] = {"not_found": 404, "forbidden": 403, "rate_limited": 429, "broken": 500}
PNG = base64.b64decode(  # one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@dataclass
class File:
    """A file and how it is served. `expires_at` in seconds; `key` is the header that opens it."""

    body: bytes = PNG
    media_type: str = "image/png"
    behaviour: Behaviour = "ok"
    expires_at: float | None = None
    key: tuple[str, str] | None = None
    served: int = 0
    fresh_only: bool = False  # refused at its first address, good at the one that the provider makes anew
    padded_to: int = 0  # with zeros, not all of them in memory at once
    pause: float = 0.0  # seconds between two pieces of the padding


class MediaHost:
    """Serves files by name below a prefix. Counts what it served, so that tests can see what was fetched how often."""

    def __init__(self, clock: Clock) -> None:
        self.files: dict[str, File] = {}
        self.clock = clock

    async def handle(self, request: web.Request) -> web.StreamResponse:
        file = self.files.get(request.match_info["name"])
        if file is None or (file.expires_at is not None and self.clock() >= file.expires_at):
            return web.Response(status=404, text="gone")
        if file.key is not None and request.headers.get(file.key[0]) != file.key[1]:
            return web.Response(status=403, text="no key")
        if file.fresh_only and "fresh" not in request.query:
            return web.Response(status=403, text="expired")
        file.served += 1
        return await self._serve(request, file)

    async def _serve(self, request: web.Request, file: File) -> web.StreamResponse:
        if file.behaviour in REFUSALS:
            return web.Response(status=REFUSALS[file.behaviour], headers={"Retry-After": "7"})
        if file.behaviour in ("endless", "truncated", "drip"):
            return await self._misbehave(request, file)
        if file.behaviour == "redirect":
            file.behaviour = "ok"
            return web.Response(status=302, headers={"Location": str(request.rel_url)})
        if file.behaviour == "html":
            return web.Response(text="<!doctype html><title>Sign in</title>", content_type="text/html")
        if file.padded_to:
            return await self._pad(request, file)
        response = web.Response(body=file.body, content_type=file.media_type)
        if file.behaviour == "gzip":
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async def _pad(self, request: web.Request, file: File) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": file.media_type})
        response.content_length = file.padded_to
        await response.prepare(request)
        await response.write(file.body)
        left = file.padded_to - len(file.body)
        while left > 0:
            await response.write(bytes(min(left, 65536)))
            await asyncio.sleep(file.pause)
            left -= 65536
        return response

    async def _misbehave(self, request: web.Request, file: File) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": file.media_type})
        if file.behaviour == "truncated":
            response.content_length = len(file.body) * 2
        await response.prepare(request)
        await response.write(file.body)
        if file.behaviour == "truncated":
            assert request.transport is not None
            request.transport.close()
            return response
        # Until the client leaves: an endless body comes as fast as it is taken, a dripping one hardly at all.
        while request.transport is not None and not request.transport.is_closing():
            try:
                await response.write(b"\0" * (65536 if file.behaviour == "endless" else 1))
            except ConnectionError:
                break
            await asyncio.sleep(0 if file.behaviour == "endless" else 0.01)
        return response
