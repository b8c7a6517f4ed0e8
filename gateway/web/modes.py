"""Other ways than streaming to hand over the bytes that a grant opens: a redirect to the storage, or nginx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from aiohttp import web

from gateway.delivery.plan import Delivery, Fields
from gateway.settings import Delivery as DeliverySettings
from gateway.storage import Presigning, Storage
from gateway.web.callers import Callers
from policies.model import Grant, Reason
from policies.purposes import Purpose

STREAM: Final = "stream"
REDIRECT: Final = "redirect"
ACCEL: Final = "accel"
LONGEST_REDIRECT: Final = 3600.0  # seconds that a presigned URL lives at the most
OBJECTS: Final = "/_assetgate/objects/"  # these two are internal locations of the shipped nginx.conf
REMOTE: Final = "/_assetgate/remote/"


class Modes:
    """Chooses the delivery mode of a read by its purpose and the settings, and answers those that do not stream."""

    def __init__(
        self, settings: DeliverySettings, purposes: Mapping[str, Purpose], storage: Storage, callers: Callers
    ) -> None:
        self._settings = settings
        self._purposes = purposes
        self._storage = storage
        self._callers = callers

    def of(self, grant: Grant) -> str:
        purpose = self._purposes.get(grant.subject.purpose)
        return (purpose.delivery if purpose is not None else None) or self._settings.mode

    async def elsewhere(
        self, request: web.Request, delivery: Delivery, grant: Grant, now: float
    ) -> tuple[int, Fields] | None:
        """The status and fields of an answer whose bytes come from elsewhere; None: stream them."""
        if delivery.wanted is None:
            return None
        mode = self.of(grant)
        if mode == REDIRECT and isinstance(self._storage, Presigning) and self._may_redirect(grant):
            return await self._redirect(delivery, grant, now)
        # Only nginx may see where an object lies, and only nginx can do anything with it.
        if mode == ACCEL and self._callers.is_behind_trusted_proxy(request):
            return await self._accel(delivery, grant, now)
        return None

    def _may_redirect(self, grant: Grant) -> bool:
        """A URL of the storage outlives a revocation: a read that needs it at once is streamed, unless settled so."""
        return grant.reason in {Reason.TOKEN, Reason.PUBLIC} or self._settings.redirect_sessions

    async def _redirect(self, delivery: Delivery, grant: Grant, now: float) -> tuple[int, Fields] | None:
        url = await self._presigned(delivery, grant, now)
        if url is None:
            return None
        # Not kept by caches: the URL in it ends on its own.
        return 307, (("Location", url), ("Cache-Control", "no-store"), ("Content-Length", "0"))

    async def _accel(self, delivery: Delivery, grant: Grant, now: float) -> tuple[int, Fields] | None:
        if isinstance(self._storage, Presigning):
            url = await self._presigned(delivery, grant, now)
            if url is None:
                return None
            parts = urlsplit(url)
            target = f"{REMOTE}{parts.scheme}/{parts.netloc}{parts.path}?{parts.query}"
        elif self._settings.accel_files:
            target = OBJECTS + quote(grant.subject.locator)
        else:
            return None
        # nginx serves the ranges and conditions itself; what concerns the bytes' position is not ours to say.
        kept = tuple(field for field in delivery.headers if field[0] not in {"Content-Length", "Content-Range", "ETag"})
        return 200, (("X-Accel-Redirect", target), ("Content-Length", "0"), *kept)

    async def _presigned(self, delivery: Delivery, grant: Grant, now: float) -> str | None:
        """A URL of the storage that ends no later than the grant."""
        left = LONGEST_REDIRECT if grant.until is None else min(grant.until - now, LONGEST_REDIRECT)
        if left < 1 or not isinstance(self._storage, Presigning):
            return None
        fields = dict(delivery.headers)
        return await self._storage.presign(
            grant,
            expires_in=int(left),
            media_type=fields.get("Content-Type"),
            disposition=fields.get("Content-Disposition"),
            cache_control=fields.get("Cache-Control"),
        )
