"""Verifies Standard Webhooks: HMAC-SHA256 over id, timestamp and raw body, as Replicate and Gemini sign.

Source: standard-webhooks/standard-webhooks, spec/standard-webhooks.md. `v1` items alone count; those of other versions
are passed over, as the specification wants. Everything is judged as bytes, and every malformed value is
`CredentialInvalid`: the project's own Python library raises ValueError, binascii.Error or UnicodeDecodeError for some.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from pydantic import SecretStr

from gateway.errors import CannotStart, CredentialInvalid

TOLERANCE = 300  # seconds either way; what all libraries of the project use
LONGEST_HEADER = 4096  # characters; a header of 1 MB is no signature
_SHORTEST_KEY = 16  # bytes; the specification makes them 24 to 64
_TIMESTAMP = re.compile(r"[0-9]{1,12}\Z")
_ID = re.compile(r"[\x21-\x7e]{1,256}\Z")


def parse_secrets(secrets: Sequence[SecretStr], setting: str) -> tuple[bytes, ...]:
    """Decode `whsec_…` secrets. Raises `CannotStart` naming the setting, never the secret."""
    return tuple(_parse_secret(secret.get_secret_value(), setting) for secret in secrets)


def _parse_secret(secret: str, setting: str) -> bytes:
    encoded = secret.removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise CannotStart(f"{setting}: is not of the form whsec_<base64>") from None
    # An empty key would let anyone sign.
    if len(key) < _SHORTEST_KEY:
        raise CannotStart(f"{setting}: holds a secret shorter than {_SHORTEST_KEY} bytes")
    return key


def lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers by lower-case name, from whatever kind of mapping they came in."""
    return {name.lower(): value for name, value in headers.items()}


def check_timestamp(text: str, now: float) -> None:
    """Raise `CredentialInvalid` unless `text` is whole seconds within the tolerance of `now`."""
    if not _TIMESTAMP.match(text) or abs(now - int(text)) > TOLERANCE:
        raise CredentialInvalid


def verify(keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now: float) -> str:
    """Return the id of the event, which every repetition carries too. Raises `CredentialInvalid`."""
    named = lower_case(headers)
    event_id, timestamp, signatures = (named.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature"))
    if not _ID.match(event_id) or len(signatures) > LONGEST_HEADER:
        raise CredentialInvalid
    check_timestamp(timestamp, now)
    signed = f"{event_id}.{timestamp}.".encode() + body
    offered = [item[3:].encode("utf-8", "replace") for item in signatures.split(" ") if item.startswith("v1,")]
    good = False
    for key in keys:
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
        for candidate in offered:
            good |= hmac.compare_digest(candidate, expected)  # no early way out: the time tells nothing
    if not good:
        raise CredentialInvalid
    return event_id
