"""Replicate: predictions, notifications by Standard Webhooks, files that live for one hour.

Sources: https://replicate.com/docs/topics/webhooks, …/predictions/lifecycle, …/predictions/data-retention;
replicate/replicate-python-beta `resources/predictions.py` (the hosts to allow are in its docstring).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from aiohttp import ClientSession

from gateway.clock import Clock, milliseconds
from gateway.providers import (
    GenerateRequest,
    Handle,
    Job,
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
from gateway.providers.walking import items, on_hosts, walk
from gateway.settings import Provider

BASE_URL: Final = "https://api.replicate.com/v1"
RESULT_HOSTS: Final = ("replicate.delivery", "*.replicate.delivery")
RETENTION: Final = 3600  # seconds after completion, for input, output and files alike

STATUSES: Final[Mapping[str, Status]] = {
    "starting": "pending",
    "processing": "processing",
    "succeeded": "success",
    "failed": "failed",
    "aborted": "failed",  # the deadline came before it started; the SDKs do not know it yet
    "canceled": "canceled",
}

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_OFFICIAL = re.compile(rf"({_NAME})/({_NAME})\Z")
_DEPLOYMENT = re.compile(rf"deployments/({_NAME})/({_NAME})\Z")
_VERSION = re.compile(rf"({_NAME}/{_NAME}:)?[0-9a-f]{{64}}\Z")


def open_provider(settings: Provider, clock: Clock, session: ClientSession) -> Replicate:
    return Replicate(settings, clock, session)


class Replicate:
    def __init__(self, settings: Provider, clock: Clock, session: ClientSession) -> None:
        self._token = api_key(settings, "replicate")
        self._keys = standard_webhooks.parse_secrets(settings.webhook_secrets, "providers.replicate.webhook_secrets")
        self._api = Api(session, "replicate", base_url(settings, BASE_URL), {"Authorization": f"Bearer {self._token}"})
        self._clock = clock
        self.result_hosts = settings.result_hosts or RESULT_HOSTS

    @property
    def accepts_notifications(self) -> bool:
        return bool(self._keys)

    async def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> Notification:
        event_id = standard_webhooks.verify(self._keys, headers, body, now)
        prediction = parsed(body)
        task_id = prediction.get("id") if isinstance(prediction, dict) else None
        if not isinstance(task_id, str) or not task_id:
            return Notification(event_id, None)
        return Notification(event_id, task_id, status_of(prediction))

    async def create(self, request: GenerateRequest) -> Job:
        path, version = _endpoint(request.model)
        prompt = {"prompt": request.prompt} if request.prompt else {}
        body: dict[str, Any] = {**version, "input": {**request.options, **prompt}}
        if request.callback_url and self.accepts_notifications:
            body |= {"webhook": request.callback_url, "webhook_events_filter": ["completed"]}
        answer = await self._api.call("POST", path, json=body)
        return self._job(_prediction(answer, creating=True), request.media_type)

    async def query(self, handle: Handle) -> Job:
        answer = await self._api.call("GET", _path(handle), user_id=handle.user_id)
        return self._job(_prediction(answer), handle.media_type)

    async def cancel(self, handle: Handle) -> bool:
        answer = await self._api.call("POST", _path(handle) + "/cancel", user_id=handle.user_id)
        _prediction(answer)
        return True

    def fetch_headers(self, url: str, *, refused: bool = False) -> Mapping[str, str]:
        """Give the token only to a host of theirs that refused without: a model can print any URL."""
        if refused and on_hosts(url, self.result_hosts):
            return {"Authorization": f"Bearer {self._token}"}
        return {}

    def _job(self, prediction: Mapping[str, Any], media_type: MediaType) -> Job:
        task_id, status = prediction["id"], status_of(prediction)
        if status == "canceled":
            return canceled(task_id)
        if status == "failed":
            return failed(task_id, f"replicate_{prediction.get('status')}", clean(prediction.get("error")))
        if status != "success":
            return running(task_id, status)
        if prediction.get("data_removed"):
            return failed(task_id, "retention_ended", "Replicate has removed the result")
        media = items(list(walk(prediction.get("output"))), media_type, self.result_hosts)
        completed = moment(prediction.get("completed_at"))
        return succeeded(task_id, media, milliseconds((completed or self._clock()) + RETENTION))


def status_of(prediction: Mapping[str, Any]) -> Status:
    status = prediction.get("status")
    return STATUSES.get(status, "processing") if isinstance(status, str) else "processing"


def _prediction(answer: Answer, *, creating: bool = False) -> Mapping[str, Any]:
    """Return the prediction in an answer, or raise what the answer says instead."""
    body = answer.body if isinstance(answer.body, dict) else {}
    if answer.is_error:
        raise error_of(answer, body.get("detail") or body.get("title"), creating=creating)
    if not isinstance(body.get("id"), str):
        broken = answer._replace(status=502)  # what RFC 9110 calls an invalid answer of an inbound server
        raise error_of(broken, None, creating=creating)
    return body


def _endpoint(model: str) -> tuple[str, dict[str, str]]:
    """Return where a model's predictions are made, and what the body must say of the version."""
    if found := _DEPLOYMENT.match(model):
        return f"/deployments/{found[1]}/{found[2]}/predictions", {}
    if found := _OFFICIAL.match(model):
        return f"/models/{found[1]}/{found[2]}/predictions", {}
    if _VERSION.match(model):
        return "/predictions", {"version": model}
    raise ProviderRefused("model_invalid", "A model of Replicate is owner/name, owner/name:version or a version")


def _path(handle: Handle) -> str:
    return f"/predictions/{quote(handle.provider_task_id, safe='')}"
