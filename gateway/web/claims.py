"""The route by which a guest who signed in takes their uploads along."""

from __future__ import annotations

from aiohttp import web

from gateway.clock import Clock, milliseconds
from gateway.errors import SignInRequired
from gateway.identity.guest import GuestSessions
from gateway.metadata import Metadata
from gateway.web.bodies import ok
from gateway.web.callers import Callers
from policies.model import CallerKind


class ClaimRoutes:
    """`POST /api/storage/assets/claim`."""

    def __init__(self, callers: Callers, metadata: Metadata, guests: GuestSessions, clock: Clock) -> None:
        self._callers = callers
        self._metadata = metadata
        self._guests = guests
        self._clock = clock

    async def claim(self, request: web.Request) -> web.Response:
        caller = await self._callers.identify(request)
        if caller.kind is not CallerKind.USER or caller.owner is None:
            raise SignInRequired
        claimed: list[str] = []
        if caller.guest is not None:
            now = milliseconds(self._clock())
            claimed = await self._metadata.claim(f"{CallerKind.GUEST}:{caller.guest}", caller.owner, now)
        refs = [f"asset://{asset_id}" for asset_id in claimed]
        return ok({"claimed": len(claimed), "assetIds": claimed, "assetRefs": refs})
