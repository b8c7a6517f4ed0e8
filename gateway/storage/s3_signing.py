"""Presigned URLs for reading, by Signature Version 4; kept, because one serves every range until it nears its end.

Only the host is signed, and the payload is not: `Range` and `If-Match` may be added to a request that uses the URL.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol
from urllib.parse import quote

from gateway.clock import Clock
from gateway.storage.s3_place import UNRESERVED, Endpoint

LONGEST: Final = 7 * 24 * 3600  # seconds; the most that the signature allows
KEPT: Final = 4096  # targets, about a kilobyte each
_LIFE: Final = 3600  # seconds of a URL for ourselves
_REUSE: Final = 2700  # seconds for which it is used again: a read and its repetitions still fit behind


class Credentials(Protocol):
    """Keys of one moment. `token` is that of temporary ones."""

    @property
    def access_key(self) -> str: ...

    @property
    def secret_key(self) -> str: ...

    @property
    def token(self) -> str | None: ...


class Signer:
    """Signs for one bucket. All calls bring the credentials of the moment; a change of them forgets what was signed."""

    def __init__(self, endpoint: Endpoint, region: str, clock: Clock) -> None:
        self._endpoint = endpoint
        self._region = region
        self._clock = clock
        self._credentials: Credentials | None = None
        self._key = ("", b"")
        self._lately: dict[tuple[int, int], tuple[str, str, str]] = {}
        self._kept: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def target(self, key: str, credentials: Credentials) -> str:
        """Return the path and query that GET the object, from memory when it was just asked for."""
        self._use(credentials)
        now = self._clock()
        made, target = self._kept.get(key, (0.0, ""))
        if not made <= now < made + _REUSE:
            target = self._signed(self._endpoint.path_of(key), {}, _LIFE, now)
            self._kept[key] = now, target
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return target

    def forget(self, key: str) -> None:
        """Forget a target that was refused: a clock may have stepped since it was signed."""
        self._kept.pop(key, None)

    def url(self, key: str, credentials: Credentials, expires_in: float, headers: Mapping[str, str]) -> str:
        """Make a URL for somebody else. `headers` are those that the answer shall have, in lower case."""
        self._use(credentials)
        overrides = {f"response-{name}": value for name, value in headers.items()}
        life = min(max(int(expires_in), 1), LONGEST)
        return self._endpoint.url + self._signed(self._endpoint.path_of(key), overrides, life, self._clock())

    def _use(self, credentials: Credentials) -> None:
        if credentials != self._credentials:
            self._credentials = credentials
            self._key = ("", b"")
            self._lately = {}
            self._kept.clear()

    def _signed(self, path: str, overrides: Mapping[str, str], life: int, now: float) -> str:
        moment, scope, query = self._terms(int(now), life, overrides)
        request = f"GET\n{path}\n{query}\nhost:{self._endpoint.host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = _mac(self._key_of(moment[:8]), f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}").hex()
        return f"{path}?{query}&X-Amz-Signature={signature}"

    def _terms(self, second: int, life: int, overrides: Mapping[str, str]) -> tuple[str, str, str]:
        """The moment, the scope and the query, which are the same for all objects that are read in one second."""
        if not overrides and (found := self._lately.get((second, life))):
            return found
        assert self._credentials is not None  # noqa: S101 - every caller has set them
        moment = datetime.fromtimestamp(second, UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        asked = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self._credentials.access_key}/{scope}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(life),
            "X-Amz-SignedHeaders": "host",
            **overrides,
        }
        if self._credentials.token:
            asked["X-Amz-Security-Token"] = self._credentials.token
        query = "&".join(f"{name}={quote(value, safe=UNRESERVED)}" for name, value in sorted(asked.items()))
        if not overrides:
            self._lately = {(second, life): (moment, scope, query)}
        return moment, scope, query

    def _key_of(self, day: str) -> bytes:
        if self._key[0] != day:
            assert self._credentials is not None  # noqa: S101 - every caller has set them
            key = f"AWS4{self._credentials.secret_key}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = _mac(key, part)
            self._key = day, key
        return self._key[1]


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
