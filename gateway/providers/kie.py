"""Kie.ai: seven shapes of tasks behind one key; its callbacks are hints, since their signature leaves the body out.

Sources: docs.kie.ai, common-api/webhook-verification, common-api/download-url, market/common/get-task-detail, and the
pages named in `kie_shapes`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from aiohttp import ClientSession
from pydantic import SecretStr

from gateway.clock import Clock, milliseconds
from gateway.errors import CannotStart, CredentialInvalid
from gateway.providers import (
    GenerateRequest,
    Handle,
    Job,
    JobNotFound,
    MediaItem,
    Notification,
    ProviderError,
    ProviderKeyRefused,
    ProviderRefused,
    Relinked,
    Status,
    failed,
    running,
    succeeded,
)
from gateway.providers.calling import Answer, Api, api_key, base_url, clean, error_of, parsed
from gateway.providers.kie_shapes import JOB_STATES, Data, Shape, shape_of
from gateway.providers.standard_webhooks import check_timestamp, lower_case
from gateway.settings import Provider

BASE_URL: Final = "https://api.kie.ai"
RESULT_HOSTS: Final = ("*.aiquickdraw.com",)
# Anyone can rent a bucket there: good for an address that `download-url` gave just now, never for one of a result.
RELINKED_HOSTS: Final = ("*.aiquickdraw.com", "*.r2.cloudflarestorage.com")
RETENTION: Final = 24 * 3600  # seconds; one page says 14 days, another 24 hours: the shorter is planned for
RATE_LIMITED_FOR: Final = 10  # seconds: the limit is 20 new tasks in as many

CALLBACK_TYPES: Final[Mapping[str, Status]] = {
    "text": "processing",
    "first": "processing",
    "complete": "success",
    "error": "failed",
}
_NO_CREDIT_OR_KEY = {401, 402, 403, 433}
_LATER = {408, 429, 455, 500, 502, 503, 504}
_FAILED = {400, 422, 501, 531}  # of a record: the task ended badly
_SHORTEST_KEY = 8  # characters; the operator makes it up, or has Kie make it
_TASK_ID = re.compile(r"[\x21-\x7e]{1,256}\Z")


def open_provider(settings: Provider, clock: Clock, session: ClientSession) -> Kie:
    return Kie(settings, clock, session)


class Kie:
    def __init__(self, settings: Provider, clock: Clock, session: ClientSession) -> None:
        key = api_key(settings, "kie")
        self._api = Api(session, "kie", base_url(settings, BASE_URL), {"Authorization": f"Bearer {key}"})
        self._keys = _parse_keys(settings.webhook_secrets)
        self._clock = clock
        self._relinked_hosts = settings.result_hosts or RELINKED_HOSTS
        self.result_hosts = settings.result_hosts or RESULT_HOSTS

    @property
    def accepts_notifications(self) -> bool:
        return bool(self._keys)

    async def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> Notification:
        """Judge the task id and the time; the id stands in the body, so this alone is read before."""
        named = lower_case(headers)
        timestamp, signature = named.get("x-webhook-timestamp", ""), named.get("x-webhook-signature", "")
        check_timestamp(timestamp, now)
        event = _parse(body)
        task_id = _task_id(event)
        offered = signature.encode("utf-8", "replace")
        good = False
        for key in self._keys:
            digest = hmac.new(key, f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
            good |= hmac.compare_digest(base64.b64encode(digest), offered)
        if not good:
            raise CredentialInvalid
        # Exactly what is signed: whoever holds one signature cannot make two events, nor use up a later one's name.
        return Notification(f"{task_id}.{timestamp}", task_id, _hint(event))

    async def create(self, request: GenerateRequest) -> Job:
        shape = shape_of(request.model)
        answer = await self._api.call("POST", shape.create, json=self._creation(shape, request))
        _raise_for(answer, creating=True)
        task_id = _data(answer).get("taskId")
        if not isinstance(task_id, str) or not task_id:
            raise error_of(answer._replace(status=502), None, creating=True)
        return running(task_id, "pending")

    def _creation(self, shape: Shape, request: GenerateRequest) -> dict[str, Any]:
        prompt = {"prompt": request.prompt} if request.prompt else {}
        ours: dict[str, Any] = {"model": request.model} if shape.names_model else {}
        if request.callback_url and self.accepts_notifications:
            ours["callBackUrl"] = request.callback_url
        if shape.nested:
            return {**ours, "input": {**request.options, **prompt}}
        theirs = {name: value for name, value in request.options.items() if name not in {"callBackUrl", "model"}}
        return {**theirs, **prompt, **ours}

    async def query(self, handle: Handle) -> Job:
        shape = shape_of(handle.model)
        answer = await self._api.call(
            "GET", shape.query, params={"taskId": handle.provider_task_id}, user_id=handle.user_id
        )
        data, code = _data(answer), _code(answer)
        if not data:
            if code in _FAILED and _message(answer) != "recordInfo is null":
                return failed(handle.provider_task_id, f"kie_{code}", clean(_message(answer)))
            _raise_for(answer)
            return running(handle.provider_task_id, "processing")
        return self._job(shape, handle, data)

    def _job(self, shape: Shape, handle: Handle, data: Data) -> Job:
        task_id, status = handle.provider_task_id, shape.status(data)
        if status == "failed":
            code, words = _first(data, "failCode", "errorCode"), _first(data, "failMsg", "errorMessage")
            return failed(task_id, f"kie_{clean(code) or 'failed'}"[:64], clean(words))
        if status != "success":
            return running(task_id, status, _progress(data))
        media = [self._secured(item) for item in shape.media(data, handle.media_type)]
        completed = data.get("completeTime")
        known = isinstance(completed, int) and completed > 0
        ended = completed if known and isinstance(completed, int) else milliseconds(self._clock())
        return succeeded(task_id, media, ended + RETENTION * 1000)

    def _secured(self, item: MediaItem) -> MediaItem:
        """Ask for https where their samples say http; an API that is itself plain http is one made for tests."""
        if item.url and item.url.startswith("http://") and self._api.base.startswith("https://"):
            return replace(item, url="https://" + item.url.removeprefix("http://"))
        return item

    async def cancel(self, handle: Handle) -> bool:  # noqa: ARG002 - the port's
        """Kie has no such ability."""
        return False

    def fetch_headers(self, url: str, *, refused: bool = False) -> Mapping[str, str]:  # noqa: ARG002 - the port's
        return {}

    async def relink(self, url: str) -> Relinked:
        """Ask for an address of 20 minutes; Kie refuses to make one for a URL that is not its own."""
        answer = await self._api.call("POST", "/api/v1/common/download-url", json={"url": url})
        _raise_for(answer)
        fresh = answer.body.get("data") if isinstance(answer.body, dict) else None
        if not isinstance(fresh, str):
            raise error_of(answer._replace(status=502), None)
        return Relinked(fresh, self._relinked_hosts)


def _parse_keys(secrets: Sequence[SecretStr]) -> tuple[bytes, ...]:
    keys = tuple(secret.get_secret_value().encode() for secret in secrets)
    if any(len(key) < _SHORTEST_KEY for key in keys):
        raise CannotStart(f"providers.kie.webhook_secrets: holds a secret shorter than {_SHORTEST_KEY} characters")
    return keys


def _parse(body: bytes) -> Mapping[str, Any]:
    event = parsed(body)
    if not isinstance(event, dict):
        raise CredentialInvalid
    return event


def _task_id(event: Mapping[str, Any]) -> str:
    """Find the id wherever a shape puts it. Two that differ are refused: one of them would go unsigned."""
    data = event.get("data")
    places = [data if isinstance(data, dict) else {}, event]
    ids: set[str] = {
        place[name] for place in places for name in ("task_id", "taskId") if isinstance(place.get(name), str)
    }
    task_id = ids.pop() if len(ids) == 1 else ""
    if not _TASK_ID.match(task_id):
        raise CredentialInvalid
    return task_id


def _hint(event: Mapping[str, Any]) -> Status | None:
    data = event.get("data") if isinstance(event.get("data"), dict) else {}
    if isinstance(data, dict) and isinstance(data.get("callbackType"), str):
        return CALLBACK_TYPES.get(data["callbackType"])
    if isinstance(data, dict) and isinstance(data.get("state"), str):
        return JOB_STATES.get(data["state"])
    return "success" if event.get("code") == 200 else "failed"  # noqa: PLR2004 - Kie's "ok"


def _code(answer: Answer) -> int:
    """Return what counts: the status, or the `code` inside a 200, which their samples check as well."""
    code = answer.body.get("code") if isinstance(answer.body, dict) else None
    return code if answer.status == 200 and isinstance(code, int) else answer.status  # noqa: PLR2004 - RFC 9110


def _message(answer: Answer) -> str | None:
    words = answer.body.get("msg") if isinstance(answer.body, dict) else None
    return words if isinstance(words, str) else None


def _data(answer: Answer) -> Data:
    data = answer.body.get("data") if isinstance(answer.body, dict) else None
    return data if isinstance(data, dict) else {}


def _raise_for(answer: Answer, *, creating: bool = False) -> None:
    code, words = _code(answer), _message(answer)
    if code == 200 and isinstance(answer.body, dict):  # noqa: PLR2004 - Kie's "ok"
        return
    raise _error(answer, code, words, creating=creating)


def _error(answer: Answer, code: int, words: str | None, *, creating: bool) -> ProviderError:
    if code in _NO_CREDIT_OR_KEY:
        return ProviderKeyRefused("provider_key_refused", "The provider does not accept the gateway's key", status=code)
    if not creating and (code == 404 or words == "recordInfo is null"):  # noqa: PLR2004 - RFC 9110
        return JobNotFound("provider_job_unknown", "The provider does not know this task", status=code)
    if code in _LATER or not isinstance(answer.body, dict):
        status = 503 if code == 455 else code if code >= 400 else 502  # noqa: PLR2004 - 455 is their maintenance
        headers = {"retry-after": str(RATE_LIMITED_FOR)} | dict(answer.headers)
        return error_of(Answer(status, None, headers), words, creating=creating)
    return ProviderRefused(f"kie_{code}", clean(words) or "The provider refused the request", status=code)


def _first(data: Data, *names: str) -> str | None:
    """Return the first of these fields that says anything; codes come as numbers or as text."""
    return next((str(data[name]) for name in names if data.get(name) not in (None, "", 0)), None)


def _progress(data: Data) -> float | None:
    """Read 0-100 of the jobs, or the "0.00"-"1.00" of 4o."""
    value = data.get("progress")
    try:
        number = float(value) if isinstance(value, int | float | str) else None
    except ValueError:
        return None
    if number is None or not 0 <= number <= 100:  # noqa: PLR2004 - percent
        return None
    return number / 100 if isinstance(value, int) or number > 1 else number
