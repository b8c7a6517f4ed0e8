"""The page of a user's AI tasks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from aiohttp import web

from gateway.clock import iso
from gateway.errors import SignInRequired
from gateway.metadata.task_records import Stage, Task, TaskListing
from gateway.model import PATH_PREFIX, parse_ref
from gateway.tasks import TaskService
from gateway.web.callers import Callers
from policies.model import Caller, CallerKind

SHOWN: Final = 50  # tasks on the page
PATH: Final = "/activity/ai-tasks"
STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222 }
article { border-top: 1px solid #ccc; padding: 1rem 0 }
article p { margin: .25rem 0; overflow-wrap: anywhere }
.status { font-weight: 600 }
.facts, .error { color: #666; font-size: .875rem }
.error { color: #a00 }
.media { display: flex; flex-wrap: wrap; gap: .5rem; margin-top: .5rem }
img, video { max-width: 18rem; max-height: 18rem }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        f"default-src 'none'; img-src 'self'; media-src 'self'; style-src 'sha256-{_STYLE_HASH}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_TAGS: Final = (  # by the name of the reference: how it is shown
    ("imageUrl", '<img src="{}" alt="" loading="lazy">'),
    ("videoUrl", '<video src="{}" controls preload="metadata"></video>'),
    ("audioUrl", '<audio src="{}" controls preload="none"></audio>'),
)


class ActivityPages:
    """`GET /activity/ai-tasks` and `/activity/ai-tasks/{id}/refresh`. Media are shown by asset path, so by cookie."""

    def __init__(self, callers: Callers, tasks: TaskService) -> None:
        self._callers = callers
        self._tasks = tasks

    async def index(self, request: web.Request) -> web.Response:
        user = await self._user(request)
        tasks = await self._tasks.list(TaskListing(user.id, SHOWN))
        return web.Response(text=_page(tasks), content_type="text/html", headers=HEADERS)

    async def refresh(self, request: web.Request) -> web.Response:
        """Ask the provider how the task stands, and go back to the page, where it stands."""
        user = await self._user(request)
        task = await self._tasks.query(user.id, request.match_info["id"])
        return web.Response(status=303, headers={**HEADERS, "Location": f"{PATH}#task-{task.id}"})

    async def _user(self, request: web.Request) -> Caller:
        caller = await self._callers.identify(request)
        if caller.kind is not CallerKind.USER:
            raise SignInRequired
        return caller


def _page(tasks: Sequence[Task]) -> str:
    body = "\n".join(map(_article, tasks)) or "<p>No tasks yet.</p>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>AI tasks</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><h1>AI tasks</h1>\n{body}\n</body></html>\n"
    )


def _article(task: Task) -> str:
    media = "".join(_media(task.task_info))
    stage = task.task_info.get("status")
    also = f" ({escape(str(stage))})" if stage not in (None, task.status) else ""
    error = f'<p class="error">{escape(task.error_message or task.error_code)}</p>' if task.error_code else ""
    refresh = "" if task.stage is Stage.DONE else f'<p><a href="{PATH}/{escape(task.id)}/refresh">Refresh</a></p>'
    facts = f"{task.media_type} · {task.provider} · {task.model} · {iso(task.created_at)}"
    return (
        f'<article id="task-{escape(task.id)}"><p class="status">{escape(task.status)}{also}</p>'
        f'<p>{escape(task.prompt)}</p><p class="facts">{escape(facts)}</p>{error}'
        f'<div class="media">{media}</div>{refresh}</article>'
    )


def _media(info: Mapping[str, Any]) -> Iterable[str]:
    for entry in (*info.get("images", ()), *info.get("videos", ()), *info.get("songs", ())):
        for name, tag in _TAGS:
            asset_id = parse_ref(str(entry.get(name, "")))
            if asset_id is not None:
                yield tag.format(escape(PATH_PREFIX + asset_id))
