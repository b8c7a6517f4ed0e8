"""Gemini: images by generateContent, video, audio and music by interactions in the background, files by API key.

Sources: https://ai.google.dev/gemini-api/docs/image-generation, …/interactions-overview, …/background-execution,
…/webhooks, …/file-input-methods; googleapis/python-genai `files.py`. Imagen's `predict` and Veo's
`predictLongRunning` are shut down on this API and not spoken. Only static hooks count as authentic: what the token of a
per-request hook binds is documented nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from aiohttp import ClientSession
from yarl import URL

from gateway.clock import Clock, milliseconds
from gateway.providers import (
    GenerateRequest,
    Handle,
    Job,
    JobNotFound,
    MediaItem,
    MediaType,
    Notification,
    ProviderRefused,
    Status,
    canceled,
    failed,
    running,
    standard_webhooks,
    succeeded,
)
from gateway.providers.calling import Answer, Api, api_key, base_url, clean, error_of, moment, parsed
from gateway.providers.gemini_shapes import creation, generated_media, generation, interaction_media, refusal
from gateway.settings import Provider

BASE_URL: Final = "https://generativelanguage.googleapis.com/v1beta"
# Where a download of a file may lead; the key is dropped on the way.
RESULT_HOSTS: Final = ("generativelanguage.googleapis.com", "*.googleusercontent.com")
FILE_RETENTION: Final = 48 * 3600  # seconds, where a file does not tell its `expirationTime`
PATIENCE: Final = 600.0  # seconds for a call that may do all the work before it answers
SYNCHRONOUS: Final = "generateContent/"  # begins the ids of what was answered at once and cannot be asked again

STATUSES: Final[Mapping[str, Status]] = {
    "queued": "pending",
    "in_progress": "processing",
    "completed": "success",
    "failed": "failed",
    "incomplete": "failed",
    "budget_exceeded": "failed",
    "requires_action": "failed",  # these two stop until a follow-up that media need not and we do not send
    "requires_continuation": "failed",
    "cancelled": "canceled",
}
EVENTS: Final[Mapping[str, Status]] = {
    "interaction.completed": "success",
    "interaction.failed": "failed",
    "interaction.cancelled": "canceled",
    "interaction.requires_action": "failed",
}

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_FILE_PATH = re.compile(r"/(?:download/)?v1(?:beta)?/files/([A-Za-z0-9_-]+)(?::download)?\Z")


def open_provider(settings: Provider, clock: Clock, session: ClientSession) -> Gemini:
    return Gemini(settings, clock, session)


class Gemini:
    def __init__(self, settings: Provider, clock: Clock, session: ClientSession) -> None:
        self._key = {"x-goog-api-key": api_key(settings, "gemini")}
        self._keys = standard_webhooks.parse_secrets(settings.webhook_secrets, "providers.gemini.webhook_secrets")
        self._api = Api(session, "gemini", base_url(settings, BASE_URL), self._key)
        self._clock = clock
        self.result_hosts = settings.result_hosts or RESULT_HOSTS

    @property
    def accepts_notifications(self) -> bool:
        return bool(self._keys)

    async def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> Notification:
        event_id = standard_webhooks.verify(self._keys, headers, body, now)
        event = parsed(body)
        kind = event.get("type") if isinstance(event, dict) else None
        data = event.get("data") if isinstance(event, dict) else None
        task_id = data.get("id") if isinstance(data, dict) else None
        # Pings, batches and the events of products that are gone concern no task of ours.
        if not isinstance(kind, str) or kind not in EVENTS or not isinstance(task_id, str) or not task_id:
            return Notification(event_id, None)
        return Notification(event_id, task_id, EVENTS[kind])

    async def create(self, request: GenerateRequest) -> Job:
        """Begin a job. Hooks are the project's, so the callback URL is not sent; it is never the client's to name."""
        if not _MODEL.match(request.model):
            raise ProviderRefused("model_invalid", "That is not the name of a model of Gemini")
        if request.media_type == "image" and request.options.get("api") != "interactions":
            return await self._generate(request)
        answer = await self._api.call("POST", "/interactions", json=creation(request), patience=PATIENCE)
        return await self._job(_interaction(answer, creating=True), request.media_type, None)

    async def _generate(self, request: GenerateRequest) -> Job:
        path = f"/models/{request.model}:generateContent"
        answer = await self._api.call("POST", path, json=generation(request), patience=PATIENCE)
        body = _checked(answer, creating=True)
        named = body.get("responseId")
        task_id = SYNCHRONOUS + (named if isinstance(named, str) and named else request.idempotency_key)
        media = generated_media(body)
        if not media:
            return failed(task_id, *refusal(body))
        return succeeded(task_id, media, None)

    async def query(self, handle: Handle) -> Job:
        if handle.provider_task_id.startswith(SYNCHRONOUS):
            raise JobNotFound("provider_job_unknown", "The result came with the answer to the request and is not kept")
        answer = await self._api.call("GET", _path(handle), user_id=handle.user_id, patience=PATIENCE)
        return await self._job(_interaction(answer), handle.media_type, handle.user_id)

    async def cancel(self, handle: Handle) -> bool:
        if handle.provider_task_id.startswith(SYNCHRONOUS):
            return False
        _interaction(await self._api.call("POST", _path(handle) + "/cancel", user_id=handle.user_id))
        return True

    def fetch_headers(self, url: str, *, refused: bool = False) -> Mapping[str, str]:  # noqa: ARG002 - the port's
        """Give the key to their files at their own address, and to nothing else."""
        return self._key if self._file_name(url) else {}

    async def _job(self, interaction: Mapping[str, Any], media_type: MediaType, user_id: str | None) -> Job:
        task_id, word = interaction["id"], interaction.get("status")
        status = STATUSES.get(word, "processing") if isinstance(word, str) else "processing"
        if status == "canceled":
            return canceled(task_id)
        if status == "failed":
            errors = interaction.get("errors")
            first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
            return failed(task_id, f"gemini_{word}", clean(first.get("message")))
        if status != "success":
            return running(task_id, status)
        return await self._finished(task_id, interaction_media(interaction, media_type), user_id)

    async def _finished(self, task_id: str, media: list[MediaItem], user_id: str | None) -> Job:
        """Look at each file before it is called finished: it may still be processed, and it tells when it ends."""
        ends: int | None = None
        for item in media:
            name = self._file_name(item.url or "")
            if name is None:
                continue
            file = await self._file(name, user_id)
            if file.get("state") == "PROCESSING":
                return running(task_id, "processing")
            if file.get("state") == "FAILED":
                return failed(task_id, "gemini_file_failed", "Gemini could not make the file")
            ending = moment(file.get("expirationTime")) or self._clock() + FILE_RETENTION
            ends = min(ends or milliseconds(ending), milliseconds(ending))
        return succeeded(task_id, media, ends)

    async def _file(self, name: str, user_id: str | None) -> Mapping[str, Any]:
        """Ask for a file's record; one that is unknown is left to the download to find out."""
        try:
            return _checked(await self._api.call("GET", f"/files/{name}", user_id=user_id))
        except ProviderRefused:
            return {}

    def _file_name(self, url: str) -> str | None:
        """Return the file's name if `url` is a file below our own base: the same scheme, host and port."""
        try:
            parts = URL(url)
            same = parts.origin() == URL(self._api.base).origin()
        except ValueError:
            return None
        found = _FILE_PATH.search(parts.raw_path) if same and parts.user is None else None
        return found[1] if found else None


def _path(handle: Handle) -> str:
    return f"/interactions/{quote(handle.provider_task_id, safe='')}"


def _checked(answer: Answer, *, creating: bool = False) -> Mapping[str, Any]:
    body = answer.body if isinstance(answer.body, dict) else {}
    if answer.is_error:
        error = body.get("error")
        raise error_of(answer, error.get("message") if isinstance(error, dict) else None, creating=creating)
    if not body:
        raise error_of(answer._replace(status=502), None, creating=creating)
    return body


def _interaction(answer: Answer, *, creating: bool = False) -> Mapping[str, Any]:
    body = _checked(answer, creating=creating)
    if not isinstance(body.get("id"), str) or not body["id"]:
        raise error_of(answer._replace(status=502), None, creating=creating)
    return body
