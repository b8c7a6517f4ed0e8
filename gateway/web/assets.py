"""The routes of one asset: its bytes, its record, and what its owner may change."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Literal

from aiohttp import hdrs, web
from multidict import CIMultiDict
from pydantic import Field

from gateway.clock import Clock, milliseconds
from gateway.delivery.conditions import conditionals_of, joined
from gateway.delivery.plan import DeliveryRules, Method, download_of, plan, represent
from gateway.errors import Forbidden, NotFound, Unprocessable
from gateway.metadata import Changes, Metadata
from gateway.metrics import Metrics
from gateway.model import Asset, is_asset_id
from gateway.sharing import Sharing
from gateway.storage import Storage
from gateway.tokens import verify
from gateway.web.bodies import Body, ok, read_body
from gateway.web.callers import Callers
from gateway.web.described import described
from gateway.web.express.memory import Asked, Decided, Decisions
from gateway.web.filenames import clean_filename
from gateway.web.heads import Shared
from gateway.web.listing import encode_cursor, listing_of
from gateway.web.middleware import CALLER, REASON
from gateway.web.modes import STREAM, Modes
from gateway.web.respond import respond
from policies.engine import decide
from policies.model import Action, Caller, Grant, Question, Rule, State, Token, Visibility


class Update(Body):
    visibility: Literal["private", "public"] | None = None
    filename: str | None = Field(default=None, max_length=1000)


class AssetRoutes:
    """Handlers under `/api/storage/assets`."""

    def __init__(
        self,
        callers: Callers,
        metadata: Metadata,
        storage: Storage,
        sharing: Sharing,
        rules: Sequence[Rule],
        keys: Mapping[str, bytes],
        delivery: DeliveryRules,
        modes: Modes,
        shared: Shared,
        decisions: Decisions,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._callers = callers
        self._metadata = metadata
        self._storage = storage
        self._sharing = sharing
        self._rules = rules
        self._keys = keys
        self._delivery = delivery
        self._modes = modes
        self._shared = shared
        self._decisions = decisions
        self._metrics = metrics
        self._clock = clock

    async def read(self, request: web.Request) -> web.StreamResponse:
        """GET and HEAD: the straight line from who asks to the bytes."""
        began = time.perf_counter()
        asset_id = asset_id_of(request)
        grant, asset = await self.judge(request, asset_id, request.query.getall("token", []))
        self._metrics.decision.observe(time.perf_counter() - began)
        request[REASON] = grant.reason.value
        shown = represent(asset, self._delivery, download_of(grant))
        asked = conditionals_of(joined(request.headers.items()))
        method: Method = "HEAD" if request.method == "HEAD" else "GET"
        delivery = plan(shown, method, asked, grant, now=self._clock(), rules=self._delivery)
        elsewhere = await self._modes.elsewhere(request, delivery, grant, self._clock())
        if elsewhere is not None:
            status, fields = elsewhere
            return web.Response(status=status, headers=CIMultiDict(fields))
        if self._modes.of(grant) == STREAM:
            self._decisions.keep(asked_of(request), Decided(asset, grant, request[CALLER], shown))
        return await respond(request, delivery, grant, self._storage, self._metrics, self._shared)

    async def judge(self, request: web.Request, asset_id: str, tokens: Sequence[str]) -> tuple[Grant, Asset]:
        """Decide about reading an asset. Raises `Denied`, and what is wrong with the token or the credential."""
        token = token_of(tokens, asset_id, self._keys, self._clock())
        caller = await self._callers.identify(request)
        asset = await self._asset(asset_id)
        return self._decide(caller, Action.READ, asset, token), _existing(asset)

    async def info(self, request: web.Request) -> web.Response:
        asset, _ = await self._granted(request, Action.INFO)
        return ok(described(asset))

    async def list(self, request: web.Request) -> web.Response:
        caller = await self._callers.identify(request)
        listing = listing_of(request, caller)
        assets = await self._metadata.list(listing)
        more = len(assets) == listing.limit
        cursor = encode_cursor(assets[-1]) if more else None
        return ok({"assets": [described(asset) for asset in assets], "cursor": cursor})

    async def update(self, request: web.Request) -> web.Response:
        asset_id = asset_id_of(request)
        caller = await self._callers.identify(request)
        asset = await self._asset(asset_id)
        grant = self._decide(caller, Action.UPDATE, asset)
        request[REASON] = grant.reason.value
        update = await read_body(request, Update)
        changes: Changes = {"updated_at": milliseconds(self._clock())}
        if "visibility" in update.model_fields_set:
            if update.visibility is None:
                raise Unprocessable("visibility is private or public", fields={"visibility": "is null"})
            if update.visibility == "public":
                self._decide(caller, Action.PUBLISH, asset)
            changes["visibility"] = Visibility(update.visibility)
        if "filename" in update.model_fields_set:
            changes["filename"] = clean_filename(update.filename)
        changed = await self._metadata.change(grant.subject.asset_id, changes, when=State.READY)
        return ok(described(_existing(changed)))

    async def delete(self, request: web.Request) -> web.Response:
        _, grant = await self._granted(request, Action.DELETE)
        now = milliseconds(self._clock())
        changes: Changes = {"state": State.DELETED, "deleted_at": now, "updated_at": now}
        _existing(await self._metadata.change(grant.subject.asset_id, changes, when=State.READY))
        return ok({"assetId": grant.subject.asset_id, "deleted": True})

    async def revoke(self, request: web.Request) -> web.Response:
        asset_id = asset_id_of(request)
        caller = await self._callers.identify(request)
        revoked_at = await self._sharing.revoke(caller, asset_id)
        return ok({"assetId": asset_id, "revokedAt": revoked_at})

    async def _granted(self, request: web.Request, action: Action) -> tuple[Asset, Grant]:
        asset_id = asset_id_of(request)
        caller = await self._callers.identify(request)
        asset = await self._asset(asset_id)
        # Decided before anything is said of its being there: who must sign in first is told so of every id.
        grant = self._decide(caller, action, asset)
        request[REASON] = grant.reason.value
        return _existing(asset), grant

    async def _asset(self, asset_id: str) -> Asset | None:
        return (await self._metadata.get([asset_id])).get(asset_id)

    def _decide(self, caller: Caller, action: Action, asset: Asset | None, token: Token | None = None) -> Grant:
        return decide(Question(caller, action, asset.subject if asset else None, token, self._clock()), self._rules)


def asset_id_of(request: web.Request) -> str:
    """The id in the path. Raises `NotFound` before any look-up when it cannot be one."""
    asset_id = request.match_info["id"]
    if not is_asset_id(asset_id):
        raise NotFound
    return asset_id


def asked_of(request: web.Request) -> Asked:
    """What the decision on this read depends on; two lines of one field are none that could be asked again."""
    headers, line = request.headers, f"{request.method} {request.raw_path} HTTP/1.1"
    return line.encode("utf-8", "surrogateescape"), headers.get(hdrs.AUTHORIZATION), headers.get(hdrs.COOKIE)


def token_of(tokens: Sequence[str], asset_id: str, keys: Mapping[str, bytes], now: float) -> Token | None:
    """The verified token of a query, or None without one. Raises `Forbidden` (token_invalid)."""
    if not tokens:
        return None
    if len(tokens) > 1:
        raise Forbidden("The token is not valid", error="token_invalid")
    return verify(tokens[0], asset_id, keys, now)


def _existing(asset: Asset | None) -> Asset:
    if asset is None:
        raise NotFound
    return asset
