"""The routes of AI tasks for applications: generate, query, list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field

from gateway.clock import iso
from gateway.errors import Forbidden, InvalidRequest, SignInRequired, Unprocessable
from gateway.metadata.task_records import Task, TaskListing
from gateway.providers import MediaType
from gateway.sharing import LARGEST_BATCH, Sharing
from gateway.tasks import TaskService, Wanted
from gateway.web.bodies import NO_NUL, Body, ok, read_body
from gateway.web.callers import Callers
from gateway.web.listing import decode_position, encode_position, limit_of
from gateway.web.references import referenced
from policies.model import Caller, CallerKind

LARGEST_PAGE: Final = 100
LONGEST_PROMPT: Final = 100_000  # characters
SCOPE: Final = "tasks"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}\Z")

Name = Annotated[str, Field(min_length=1, max_length=255, pattern=NO_NUL)]


class GenerateBody(Body):
    provider: Name
    model: Name
    media_type: MediaType
    prompt: Annotated[str, Field(max_length=LONGEST_PROMPT, pattern=NO_NUL)] = ""
    scene: Annotated[str, Field(max_length=255, pattern=NO_NUL)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    user_id: Name | None = None


class QueryBody(Body):
    task_id: Name
    user_id: Name | None = None


class TaskRoutes:
    """`POST /api/ai/generate`, `POST /api/ai/query`, `GET /api/ai/tasks`.

    A user acts for themselves; a service with the scope `tasks` for the user that it names in `userId`, whose rights
    decide which references are good.
    """

    def __init__(self, callers: Callers, tasks: TaskService, sharing: Sharing) -> None:
        self._callers = callers
        self._tasks = tasks
        self._sharing = sharing

    async def generate(self, request: web.Request) -> web.Response:
        caller = admitted(await self._callers.identify(request))
        body = await read_body(request, GenerateBody)
        user = acting(caller, body.user_id)
        base = self._callers.base(request)
        wanted = Wanted(
            provider=body.provider,
            model=body.model,
            media_type=body.media_type,
            prompt=body.prompt,
            scene=body.scene,
            options=referenced(body.options, base),
            base=base,
            idempotency_key=_idempotency_key(request),
        )
        return ok((await self.shown(user, [await self._tasks.generate(user, user.id, wanted)]))[0])

    async def query(self, request: web.Request) -> web.Response:
        caller = admitted(await self._callers.identify(request))
        body = await read_body(request, QueryBody)
        user = acting(caller, body.user_id)
        return ok((await self.shown(user, [await self._tasks.query(user.id, body.task_id)]))[0])

    async def list(self, request: web.Request) -> web.Response:
        caller = admitted(await self._callers.identify(request))
        user = acting(caller, request.query.get("userId"))
        cursor = request.query.get("cursor")
        listing = TaskListing(user.id, limit_of(request, LARGEST_PAGE), decode_position(cursor) if cursor else None)
        tasks = await self._tasks.list(listing)
        more = len(tasks) == listing.limit
        last = encode_position(tasks[-1].created_at, tasks[-1].id) if more else None
        return ok({"tasks": await self.shown(user, tasks), "cursor": last})

    # Behind the others, for in a class `list` is from here on no longer the built-in.
    async def shown(self, user: Caller, tasks: Sequence[Task]) -> Sequence[dict[str, Any]]:
        """Describe tasks, with signed URLs in the place of what was made; `options` keep their references."""
        shown = [described(task) for task in tasks]
        for batch in _batches(shown):
            made = [{name: entry[name] for name in _SIGNED} for entry in batch]
            signed = await self._sharing.resolve(user, made, on_denied="keep")
            for entry, fields in zip(batch, signed, strict=True):
                entry.update(fields)
        return shown


_SIGNED: Final = ("taskInfo", "taskResult")


def admitted(caller: Caller) -> Caller:
    """Return a caller that may have to do with tasks at all. Raises `SignInRequired`, `Forbidden`."""
    if caller.kind is CallerKind.SERVICE:
        if SCOPE not in caller.scopes:
            raise Forbidden(f"The service's key does not have the scope {SCOPE}", error="scope_missing")
    elif caller.kind is not CallerKind.USER:
        raise SignInRequired
    return caller


def acting(caller: Caller, user_id: str | None) -> Caller:
    """Return the user for whom is acted. Raises `Forbidden`, `Unprocessable`."""
    if caller.kind is CallerKind.SERVICE:
        if not user_id:
            raise Unprocessable("A service names the user in userId", fields={"userId": "is missing"})
        return Caller(CallerKind.USER, user_id, address=caller.address)
    if user_id not in (None, caller.id):
        raise Forbidden("Only a service may act for another user", error="scope_missing")
    return caller


def described(task: Task) -> dict[str, Any]:
    """A task as its owner sees it. How it stands inside, and what providers call by URL, stay here."""
    return {
        "id": task.id,
        "userId": task.user_id,
        "provider": task.provider,
        "providerTaskId": task.provider_task_id,
        "mediaType": task.media_type,
        "model": task.model,
        "prompt": task.prompt,
        "scene": task.scene,
        "options": task.options,
        "status": task.status,
        "taskInfo": task.task_info,
        "taskResult": task.task_result,
        "errorCode": task.error_code,
        "errorMessage": task.error_message,
        "createdAt": iso(task.created_at),
        "updatedAt": iso(task.updated_at),
    }


def _batches(shown: Sequence[dict[str, Any]]) -> Sequence[Sequence[dict[str, Any]]]:
    """Split a page where its media would be more than are signed at once."""
    batches: list[list[dict[str, Any]]] = [[]]
    held = 0
    for entry in shown:
        count = len((entry["taskResult"] or {}).get("media", ()))
        if held + count > LARGEST_BATCH and batches[-1]:
            batches.append([])
            held = 0
        batches[-1].append(entry)
        held += count
    return batches


def _idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.match(key):
        raise InvalidRequest("Idempotency-Key has 1 to 255 visible ASCII characters")
    return key
