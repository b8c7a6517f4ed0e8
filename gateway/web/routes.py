"""The whole API on one screen: method, path, handler."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from gateway.web.assets import AssetRoutes
from gateway.web.authorizing import AuthorizeRoutes
from gateway.web.bodies import go_ahead
from gateway.web.claims import ClaimRoutes
from gateway.web.explaining import ExplainRoutes
from gateway.web.health import HealthRoutes
from gateway.web.imports import ImportRoutes
from gateway.web.legacy import LegacyRoutes
from gateway.web.notify import NotifyRoutes
from gateway.web.pages.activity import ActivityPages
from gateway.web.signatures import SignatureRoutes
from gateway.web.tasks import TaskRoutes
from gateway.web.uploads import UploadRoutes


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers, joined to their parts by `gateway.app`."""

    assets: AssetRoutes
    uploads: UploadRoutes
    signatures: SignatureRoutes
    claims: ClaimRoutes
    explaining: ExplainRoutes
    authorizing: AuthorizeRoutes
    tasks: TaskRoutes
    notify: NotifyRoutes
    imports: ImportRoutes
    activity: ActivityPages
    legacy: LegacyRoutes
    health: HealthRoutes


def table(to: Handlers) -> list[web.RouteDef]:
    """Every route. `GET` answers `HEAD` as well."""
    routes = [
        web.post("/api/storage/upload-media", to.uploads.upload_media),
        web.get("/api/storage/assets", to.assets.list),
        web.post("/api/storage/assets/sign", to.signatures.sign),
        web.post("/api/storage/assets/resolve", to.signatures.resolve),
        web.post("/api/storage/assets/claim", to.claims.claim),
        web.get("/api/storage/assets/{id}", to.assets.read),
        web.patch("/api/storage/assets/{id}", to.assets.update),
        web.delete("/api/storage/assets/{id}", to.assets.delete),
        web.get("/api/storage/assets/{id}/info", to.assets.info),
        web.post("/api/storage/assets/{id}/revoke", to.assets.revoke),
        web.get("/api/storage/assets/{id}/explain", to.explaining.explain),
        web.get("/api/storage/authorize", to.authorizing.authorize),
        web.post("/api/storage/assets/import", to.imports.take),
        web.post("/api/ai/generate", to.tasks.generate),
        web.post("/api/ai/query", to.tasks.query),
        web.get("/api/ai/tasks", to.tasks.list),
        web.post("/api/ai/notify/{provider}", to.notify.notify),
        web.get("/activity/ai-tasks", to.activity.index),
        web.get("/activity/ai-tasks/{id}/refresh", to.activity.refresh),
        web.post("/api/storage/upload-image", to.legacy.upload_image),
        web.get("/api/proxy/file", to.legacy.proxy_file),
        web.get("/healthz", to.health.alive),
        web.get("/readyz", to.health.ready),
        web.get("/metrics", to.health.metrics),
        web.get("/openapi.json", to.health.openapi),
    ]
    for route in routes:
        route.kwargs["expect_handler"] = go_ahead
    return routes
