"""fal: the queue, notifications signed with Ed25519, results of any shape.

Sources: https://fal.ai/docs/documentation/model-apis/inference/queue and …/inference/webhooks.md; fal-ai/fal
`fal_client/client.py` for the addresses of a request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from aiohttp import ClientSession
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.clock import Clock, milliseconds
from gateway.errors import CredentialInvalid
from gateway.providers import (
    GenerateRequest,
    Handle,
    Job,
    Notification,
    ProviderRefused,
    Status,
    canceled,
    failed,
    running,
    succeeded,
)
from gateway.providers.calling import Answer, Api, api_key, base_url, clean, error_of, parsed
from gateway.providers.jwks import Ed25519Keys
from gateway.providers.standard_webhooks import check_timestamp, lower_case
from gateway.providers.walking import items, walk
from gateway.settings import Provider

BASE_URL: Final = "https://queue.fal.run"
JWKS_URL: Final = "https://rest.fal.ai/.well-known/jwks.json"
RESULT_HOSTS: Final = ("fal.media", "*.fal.media")
RETENTION: Final = 7 * 24 * 3600  # seconds that their FAQ guarantees at least

# COMPLETED is no success yet: what failed is COMPLETED too, with `error`, or with an error at the result's address.
STATUSES: Final[Mapping[str, Status]] = {"IN_QUEUE": "pending", "IN_PROGRESS": "processing", "COMPLETED": "success"}
NOTIFIED: Final[Mapping[str, Status]] = {"OK": "success", "ERROR": "failed"}
CANCELED: Final = "client_cancelled"

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)+\Z")
_NAMESPACES = ("workflows", "comfy")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,256}\Z")
# Either case is hex; a repetition in the other one has the same request id and is dropped by that.
_SIGNATURE = re.compile(r"[0-9a-fA-F]{128}\Z")


def open_provider(settings: Provider, clock: Clock, session: ClientSession) -> Fal:
    return Fal(settings, clock, session)


class Fal:
    def __init__(self, settings: Provider, clock: Clock, session: ClientSession) -> None:
        key = api_key(settings, "fal")
        self._api = Api(session, "fal", base_url(settings, BASE_URL), {"Authorization": f"Key {key}"})
        self._keys = Ed25519Keys(session, settings.jwks_url or JWKS_URL, clock)
        self._user_id = settings.user_id
        self._clock = clock
        self.result_hosts = settings.result_hosts or RESULT_HOSTS

    @property
    def accepts_notifications(self) -> bool:
        # The keys are the same for all customers of fal: without our user id anyone of them could sign for us.
        return bool(self._user_id)

    async def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> Notification:
        named = lower_case(headers)
        request_id, user_id, timestamp, signature = (
            named.get(f"x-fal-webhook-{part}", "") for part in ("request-id", "user-id", "timestamp", "signature")
        )
        # What costs nothing comes first: a stranger makes us fetch no keys.
        if not self._user_id or user_id != self._user_id:
            raise CredentialInvalid
        if not _REQUEST_ID.match(request_id) or not _SIGNATURE.match(signature):
            raise CredentialInvalid
        check_timestamp(timestamp, now)
        digest = hashlib.sha256(body).hexdigest()
        message = f"{request_id}\n{user_id}\n{timestamp}\n{digest}".encode()
        await self._check(bytes.fromhex(signature), message)
        return _notification(request_id, body)

    async def _check(self, signature: bytes, message: bytes) -> None:
        if _signed(await self._keys.known(), signature, message):
            return
        if await self._keys.renewed() and _signed(await self._keys.known(), signature, message):
            return
        raise CredentialInvalid

    async def create(self, request: GenerateRequest) -> Job:
        if not _MODEL.match(request.model):
            raise ProviderRefused("model_invalid", "A model of fal is owner/alias, with a path behind it or without")
        prompt = {"prompt": request.prompt} if request.prompt else {}
        params = {}
        if request.callback_url and self.accepts_notifications:
            params["fal_webhook"] = request.callback_url
        answer = await self._api.call("POST", f"/{request.model}", json={**request.options, **prompt}, params=params)
        request_id = _checked(answer, creating=True).get("request_id")
        if not isinstance(request_id, str) or not request_id:
            raise error_of(answer._replace(status=502), None, creating=True)
        return running(request_id, "pending")

    async def query(self, handle: Handle) -> Job:
        answer = await self._api.call("GET", _path(handle) + "/status", user_id=handle.user_id)
        body = _checked(answer)
        task_id, status = handle.provider_task_id, STATUSES.get(str(body.get("status")), "processing")
        if status != "success":
            return running(task_id, status)
        if body.get("error") or body.get("error_type"):
            return _failure(task_id, body)
        return await self._result(handle, body.get("response_url"))

    async def _result(self, handle: Handle, address: object) -> Job:
        # The key goes to our base alone, whatever the answer says.
        known = isinstance(address, str) and address.startswith(self._api.base + "/")
        path = str(address) if known else _path(handle)
        answer = await self._api.call("GET", path, user_id=handle.user_id)
        task_id = handle.provider_task_id
        if answer.is_error:
            return _failed_result(task_id, answer)
        media = items(list(walk(answer.body)), handle.media_type, self.result_hosts)
        return succeeded(task_id, media, milliseconds(self._clock() + RETENTION))

    async def cancel(self, handle: Handle) -> bool:
        """Ask to stop; a job that is over already is no error, and one that runs may still finish."""
        answer = await self._api.call("PUT", _path(handle) + "/cancel", user_id=handle.user_id)
        over = isinstance(answer.body, dict) and answer.body.get("status") == "ALREADY_COMPLETED"
        if not over:
            _checked(answer)
        return True

    def fetch_headers(self, url: str, *, refused: bool = False) -> Mapping[str, str]:  # noqa: ARG002 - the port's
        return {}


def _notification(request_id: str, body: bytes) -> Notification:
    event = parsed(body)
    if not isinstance(event, dict):
        return Notification(request_id, None)
    # Signed header and signed body name two requests: a header taken from elsewhere does not pass.
    if event.get("request_id") != request_id:
        raise CredentialInvalid
    status = event.get("status")
    hint = NOTIFIED.get(status) if isinstance(status, str) else None
    return Notification(f"{request_id}:{clean(status)[:32]}", request_id, hint)


def _signed(keys: tuple[Ed25519PublicKey, ...], signature: bytes, message: bytes) -> bool:
    """Try every key: the message does not say which one signed."""
    for key in keys:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            continue
        return True
    return False


def _path(handle: Handle) -> str:
    """Address a request: all that follows `owner/alias` is dropped, namespaces stay before it."""
    parts = handle.model.split("/")
    kept = parts[: 3 if parts[0] in _NAMESPACES else 2]
    name = "/".join(quote(part, safe="") for part in kept)
    return f"/{name}/requests/{quote(handle.provider_task_id, safe='')}"


def _checked(answer: Answer, *, creating: bool = False) -> Mapping[str, Any]:
    body = answer.body if isinstance(answer.body, dict) else {}
    if answer.is_error:
        raise error_of(answer, _words(body), creating=creating)
    return body


def _failed_result(task_id: str, answer: Answer) -> Job:
    """Tell a job that failed, which names its type or lists details, from a queue that is in trouble."""
    body = answer.body if isinstance(answer.body, dict) else {}
    kind = body.get("error_type") or answer.headers.get("x-fal-error-type")
    if kind or isinstance(body.get("detail"), list):
        return _failure(task_id, {**body, "error_type": kind})
    raise error_of(answer, _words(body))


def _failure(task_id: str, body: Mapping[str, Any]) -> Job:
    kind = body.get("error_type")
    if kind == CANCELED:
        return canceled(task_id)
    return failed(task_id, f"fal_{clean(kind) or 'failed'}"[:64], clean(_words(body)))


def _words(body: Mapping[str, Any]) -> str | None:
    """Find the words for people: `error`, a `detail` text, or the first of the list that models answer."""
    detail = body.get("detail")
    if isinstance(detail, list):
        found = [entry.get("msg") for entry in detail if isinstance(entry, dict)]
        detail = "; ".join(str(words) for words in found[:3] if words)
    words = detail or body.get("error")
    return words if isinstance(words, str) else None
