"""Answers nginx's `auth_request`: may this request for an asset go on? The bytes come from elsewhere."""

from __future__ import annotations

from urllib.parse import parse_qs

from aiohttp import web

from gateway.errors import AssetgateError, Forbidden, InvalidRequest, NotFound, of_denied
from gateway.model import PATH_PREFIX, is_asset_id
from gateway.web.assets import AssetRoutes
from gateway.web.middleware import REASON
from policies.model import Denied


class AuthorizeRoutes:
    """`GET /api/storage/authorize` with the request's target in `X-Original-URI`.

    204 lets it go on, with the reason in `X-Assetgate-Reason`; 401 and 403 do not (ngx_http_auth_request_module takes
    no others: what would be 404 or 410 is 403 here).
    """

    def __init__(self, assets: AssetRoutes) -> None:
        self._assets = assets

    async def authorize(self, request: web.Request) -> web.Response:
        target = request.headers.get("X-Original-URI")
        if target is None:
            raise InvalidRequest("Send the target of the request in X-Original-URI")
        try:
            asset_id, tokens = _asset_of(target)
            grant, _ = await self._assets.judge(request, asset_id, tokens)
        except (Denied, AssetgateError) as error:
            known = of_denied(error) if isinstance(error, Denied) else error
            if known.status in {NotFound.status, 410}:
                raise Forbidden(known.detail, error=known.error) from error
            raise
        request[REASON] = grant.reason.value
        return web.Response(status=204, headers={"X-Assetgate-Reason": grant.reason.value, "Cache-Control": "no-store"})


def _asset_of(target: str) -> tuple[str, list[str]]:
    path, _, query = target.partition("?")
    asset_id = path.removeprefix(PATH_PREFIX)
    if not path.startswith(PATH_PREFIX) or not is_asset_id(asset_id):
        raise NotFound
    return asset_id, parse_qs(query, keep_blank_values=True).get("token", [])
