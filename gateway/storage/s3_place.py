"""Where a bucket is: what the `storage` setting says, and the names that its objects have on the wire."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

ADDRESSINGS: Final = ("path", "virtual", "auto")
UNRESERVED: Final = "-_.~"  # RFC 3986, section 2.3; what SigV4 leaves unescaped
# Wider than what AWS allows today: old buckets of theirs have capitals and underscores.
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}\Z")
_PORTS: Final = {"http": 80, "https": 443}
_FORM: Final = "s3://<bucket>/<prefix>?endpoint_url=…&region=…&addressing=path|virtual|auto"


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket, the prefix of all our keys in it (empty, or ending with a slash), and how to reach it."""

    bucket: str
    prefix: str
    endpoint_url: str | None = None
    region: str | None = None
    addressing: str = "auto"

    @property
    def style(self) -> str:
        """`path` or `virtual`. By itself it is `path` everywhere but at AWS, where new regions know `virtual` alone.

        A dot in the bucket's name fits no wildcard certificate, so that goes by `path` as well.
        """
        if self.addressing != "auto":
            return self.addressing
        return "path" if self.endpoint_url is not None or "." in self.bucket else "virtual"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests for one bucket are sent: `root` is the path before the key, `host` the header's value."""

    secure: bool
    address: str
    port: int
    host: str
    root: str

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}"

    def path_of(self, key: str) -> str:
        """Return the path of the object with this whole key (prefix included), escaped once as S3's SigV4 wants."""
        return self.root + quote(key, safe=f"/{UNRESERVED}")


def parse_place(url: str) -> Place:
    """Read the setting. Raises ValueError that says what is wrong, without repeating what may be a secret."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else [])
    except ValueError:
        raise ValueError(f"is not of the form {_FORM}") from None
    if parts.scheme != "s3" or parts.fragment:
        raise ValueError(f"is not of the form {_FORM}")
    if "@" in parts.netloc:
        raise ValueError("keys do not belong into the URL; they come from the AWS environment or profile")
    if not _BUCKET.match(parts.netloc):
        raise ValueError("has no bucket, or one of an impossible name")
    if unknown := set(options) - {"endpoint_url", "region", "addressing"}:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}; there are endpoint_url, region, addressing")
    if options.get("addressing", "auto") not in ADDRESSINGS:
        raise ValueError(f"addressing is one of {', '.join(ADDRESSINGS)}")
    if "endpoint_url" in options:
        _check_endpoint(options["endpoint_url"])
    prefix = parts.path.strip("/")
    return Place(parts.netloc, f"{prefix}/" if prefix else "", **options)


def endpoint_of(place: Place, endpoint_url: str) -> Endpoint:
    """Say where the bucket is at the service's `endpoint_url`, which may have a path of its own."""
    parts = urlsplit(endpoint_url)
    secure, name = parts.scheme == "https", parts.hostname or ""
    port = parts.port or _PORTS[parts.scheme]
    root = f"{parts.path.rstrip('/')}/"
    if place.style == "virtual":
        name = f"{place.bucket}.{name}"
    else:
        root += f"{place.bucket}/"
    shown = f"[{name}]" if ":" in name else name
    host = shown if port == _PORTS[parts.scheme] else f"{shown}:{port}"
    return Endpoint(secure, name, port, host, root)


def _check_endpoint(url: str) -> None:
    parts = urlsplit(url)
    try:
        usable = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.username:
        raise ValueError("endpoint_url is not an http or https URL of a host")
