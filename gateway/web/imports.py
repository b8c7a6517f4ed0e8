"""The route by which an application hands over a file that lies elsewhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field

from gateway.errors import Forbidden, SignInRequired, Unprocessable, of_denied
from gateway.imports import Import, Imports
from gateway.ingest import Ingest
from gateway.metadata.task_records import Copy
from gateway.model import PATH_PREFIX, REF_PREFIX
from gateway.web.bodies import NO_NUL, Body, ok, read_body
from gateway.web.callers import Callers
from gateway.web.uploads import named_owner
from policies.model import CallerKind, Denied, Visibility
from policies.purposes import default_visibility, may_upload


class ImportBody(Body):
    url: Annotated[str, Field(min_length=1, max_length=8192)]
    purpose: str
    owner: Annotated[str, Field(max_length=300, pattern=NO_NUL)]
    visibility: Literal["private", "public"] | None = None
    task: Annotated[str, Field(min_length=1, max_length=255, pattern=NO_NUL)] | None = None


class ImportRoutes:
    """`POST /api/storage/assets/import`, for services with the scope `upload`."""

    def __init__(self, callers: Callers, imports: Imports, ingest: Ingest) -> None:
        self._callers = callers
        self._imports = imports
        self._ingest = ingest

    async def take(self, request: web.Request) -> web.Response:
        """Answer 202 with the reference that the file will have; the same task and URL again tell how it went."""
        caller = await self._callers.identify(request)
        if caller.kind is CallerKind.ANONYMOUS:
            raise SignInRequired
        if caller.kind is not CallerKind.SERVICE:
            raise Forbidden("Only a service may import", error="scope_missing")
        body = await read_body(request, ImportBody)
        purpose = self._ingest.purposes.get(body.purpose)
        if purpose is None:
            known = ", ".join(sorted(self._ingest.purposes))
            raise Unprocessable(f"purpose is one of {known}", fields={"purpose": "is unknown"})
        visibility = Visibility(body.visibility) if body.visibility else default_visibility(caller, purpose)
        try:
            owner = may_upload(caller, purpose, visibility)
        except Denied as denied:
            raise of_denied(denied) from denied
        owner = named_owner(caller, body.owner, owner)
        wanted = Import(caller.id, body.url, purpose.name, owner, visibility.value, body.task)
        return ok(_told(await self._imports.note(wanted)), status=202)


def _told(copy: Copy) -> dict[str, Any]:
    return {
        "assetId": copy.asset_id,
        "assetRef": REF_PREFIX + copy.asset_id,
        "previewUrl": PATH_PREFIX + copy.asset_id,
        "state": copy.state.value,
        "reason": copy.reason,
    }
