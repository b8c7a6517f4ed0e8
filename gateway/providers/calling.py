"""Calls a provider's JSON API: one key, bounded answers, and every way of failing in our words."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from gateway.errors import CannotStart
from gateway.providers import JobNotFound, ProviderError, ProviderKeyRefused, ProviderRefused, ProviderUnavailable
from gateway.settings import Provider

LARGEST_ANSWER = 96 * 1024 * 1024  # bytes; inline images of Gemini and data: URIs are part of answers
PATIENCE = 60.0  # seconds for a whole call
_LONGEST_MESSAGE = 500  # characters
_LONGEST_RETRY_AFTER = 3600.0  # seconds
_KEY_REFUSED = {401, 402, 403}
_NOT_BEGUN = {429, 503}  # other 5xx may come from behind the place where the job was begun
_QUERY_OF_URL = re.compile(r"(https?://[^\s?#\"'<>]+)[?#][^\s\"'<>]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")

_log = logging.getLogger("assetgate.providers")


class Answer(NamedTuple):
    """What came back: the status, the JSON, and the headers by lower-case name."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def is_error(self) -> bool:
        return self.status >= 400  # noqa: PLR2004 - where RFC 9110's errors begin


class Api:
    """One provider's API. Redirects are not followed: the key would go along."""

    def __init__(self, session: ClientSession, name: str, base_url: str, headers: Mapping[str, str]) -> None:
        self._session = session
        self._name = name
        self._headers = dict(headers)
        self.base = base_url.rstrip("/")

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        user_id: str | None = None,
        patience: float = PATIENCE,
    ) -> Answer:
        """Send a request and return the answer, whatever its status. Raises `ProviderUnavailable` when none came.

        `path` is percent-encoded already; or it is a whole URL below our base.
        """
        target = URL(path if path.startswith(self.base + "/") else self.base + path, encoded=True)
        headers = self._headers | ({"Content-Type": "application/json"} if json is not None else {})
        try:
            async with self._session.request(
                method,
                target.update_query(params) if params else target,
                data=orjson.dumps(json) if json is not None else None,
                headers=headers,
                allow_redirects=False,
                timeout=ClientTimeout(total=patience, sock_connect=10),
            ) as response:
                body = await read_bounded(response, LARGEST_ANSWER)
                answer = Answer(response.status, parsed(body), {k.lower(): v for k, v in response.headers.items()})
        except ClientConnectorError as error:
            raise ProviderUnavailable("provider_unreachable", "The provider cannot be reached") from error
        except (ClientError, TimeoutError, ValueError) as error:
            raise ProviderUnavailable(
                "provider_no_answer", "The provider did not answer as it should", uncertain=True
            ) from error
        if answer.is_error:
            _log.warning(
                "%s answered %d to %s %s", self._name, answer.status, method, target.path, extra={"user_id": user_id}
            )
        return answer


def base_url(settings: Provider, default: str) -> str:
    """Return where the API is: https, or http where the operator says so."""
    return (settings.base_url or default).rstrip("/")


def api_key(settings: Provider, name: str) -> str:
    """Return the key. Raises `CannotStart` when there is none or it could not stand in a header."""
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    if not key or not key.isascii() or not key.isprintable():
        raise CannotStart(f"providers.{name}.api_key: is missing or holds characters that no key has")
    return key


def error_of(answer: Answer, message: str | None, *, code: str | None = None, creating: bool = False) -> ProviderError:
    """Turn an answer of 400 and above, or one as good as that, into the error to raise."""
    status = answer.status
    words = clean(message)
    if status == 429 or status >= 500 or status == 408:  # noqa: PLR2004 - RFC 9110 and 6585
        return ProviderUnavailable(
            code or ("provider_rate_limited" if status == 429 else "provider_unavailable"),  # noqa: PLR2004 - above
            words or "The provider asks to be called later",
            status=status,
            retry_after=retry_after(answer.headers),
            uncertain=creating and status not in _NOT_BEGUN,
        )
    if status in _KEY_REFUSED:
        return ProviderKeyRefused(
            "provider_key_refused", "The provider does not accept the gateway's key", status=status
        )
    if status == 404 and not creating:  # noqa: PLR2004 - RFC 9110
        return JobNotFound("provider_job_unknown", "The provider does not know this task", status=status)
    return ProviderRefused(code or "provider_refused", words or "The provider refused the request", status=status)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After` in seconds, or the `ratelimit-reset` that Replicate sends; a date counts as unknown."""
    for name in ("retry-after", "ratelimit-reset"):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"[0-9]{1,6}", value):
            return min(float(value), _LONGEST_RETRY_AFTER)
    return None


def clean(message: object) -> str:
    """Make a provider's words fit for a record: one line, bounded, and no query of a URL, where our tokens stand."""
    if not isinstance(message, str):
        return ""
    return _QUERY_OF_URL.sub(r"\1", _CONTROL.sub(" ", message)).strip()[:_LONGEST_MESSAGE]


def moment(text: object) -> float | None:
    """Read an ISO 8601 time, which may have nanoseconds, as seconds since 1970; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()
    except ValueError:
        return None


async def read_bounded(response: ClientResponse, limit: int) -> bytes:
    """Read a whole body. Raises ValueError when it is larger than any that makes sense."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise ValueError("the answer is larger than any that makes sense")
    return bytes(body)


def parsed(body: bytes) -> Any:
    """Parse JSON; anything else is None: gateways in front of providers answer HTML."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
