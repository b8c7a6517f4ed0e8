"""The two routes of before, kept until their sunset: every answer says that they go, and every use is counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import web

from gateway.errors import Gone, InvalidRequest
from gateway.metrics import Metrics
from gateway.model import PATH_PREFIX, Asset, is_asset_id, parse_ref
from gateway.settings import Legacy
from gateway.web.callers import Callers
from gateway.web.middleware import CALLER, HEADERS
from gateway.web.uploads import UploadRoutes, results_of
from policies.model import ANONYMOUS

# RFC 9745, section 2: an RFC 9651 date; 2026-11-22, the day that these routes were replaced.
DEPRECATED_SINCE: Final = "@1795305600"
UPLOAD_SUCCESSOR: Final = "/api/storage/upload-media"
PURPOSE: Final = "reference_image"


class LegacyRoutes:
    """`POST /api/storage/upload-image` and `GET /api/proxy/file?url=`."""

    def __init__(self, callers: Callers, uploads: UploadRoutes, settings: Legacy, metrics: Metrics) -> None:
        self._callers = callers
        self._uploads = uploads
        self._settings = settings
        self._metrics = metrics
        sunset = datetime.combine(settings.sunset, time(), UTC)
        self._headers = {"Deprecation": DEPRECATED_SINCE, "Sunset": format_datetime(sunset, usegmt=True)}  # RFC 8594

    async def upload_image(self, request: web.Request) -> web.StreamResponse:
        with self._retired(request, "upload_image", UPLOAD_SUCCESSOR, self._settings.upload_image):
            upload = await self._uploads.receive(request, {"purpose": PURPOSE})
        kept = [result for _, result in upload.results if isinstance(result, Asset)]
        data: dict[str, Any] = {
            "urls": [asset.path for asset in kept],
            "assetRefs": [asset.ref for asset in kept],
            "results": results_of(upload.results)["results"],
        }
        return self._uploads.answer(request, upload, data)

    async def proxy_file(self, request: web.Request) -> web.StreamResponse:
        with self._retired(request, "proxy_file", PATH_PREFIX.rstrip("/"), self._settings.proxy_file):
            await self._callers.identify(request)
            url = request.query.get("url", "")
            if not url:
                raise InvalidRequest("Name the file in ?url=", fields={"url": "is missing"})
            path = self._asset_path(request, url)
            if path is None:
                raise Gone("Files of other places are not fetched here any more", error="endpoint_gone")
        request[HEADERS]["Link"] = f'<{path.partition("?")[0]}>; rel="successor-version"'
        return web.Response(status=307, headers={"Location": path, "Cache-Control": "no-store"})

    def _asset_path(self, request: web.Request, url: str) -> str | None:
        """The path of this gateway that `url` means: an assetRef, an asset path, or an asset URL of our own."""
        asset_id = parse_ref(url)
        if asset_id is not None:
            return PATH_PREFIX + asset_id
        try:
            parts = urlsplit(url)
            own = urlsplit(self._callers.base(request))
        except ValueError:
            return None
        if (parts.scheme or parts.netloc) and (parts.scheme, parts.netloc) != (own.scheme, own.netloc):
            return None
        asset_id = parts.path.removeprefix(own.path if parts.netloc else "").removeprefix(PATH_PREFIX)
        if PATH_PREFIX + asset_id not in parts.path or not is_asset_id(asset_id):
            return None
        token = [(name, value) for name, value in parse_qsl(parts.query) if name == "token"]
        return PATH_PREFIX + asset_id + ("?" + urlencode(token) if token else "")

    @contextmanager
    def _retired(self, request: web.Request, route: str, successor: str, switch: str) -> Iterator[None]:
        """Say with whatever is answered that the route goes, count its use, and refuse when it is gone."""
        request[HEADERS] = {**self._headers, "Link": f'<{successor}>; rel="successor-version"'}
        try:
            if switch == "gone":
                raise Gone(f"Use {successor}", error="endpoint_gone")
            yield
        finally:
            self._metrics.legacy.labels(route, request.get(CALLER, ANONYMOUS).kind.value).inc()
