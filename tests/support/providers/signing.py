"""Signs as Standard Webhooks does, for the simulated providers and for tests."""

from __future__ import annotations

import base64
import hashlib
import hmac

SECRET = "whsec_" + base64.b64encode(b"a key of a simulated provider").decode()


def standard_headers(event_id: str, now: float, body: bytes, secret: str = SECRET) -> dict[str, str]:
    timestamp = str(int(now))
    encoded = secret.removeprefix("whsec_").rstrip("=")
    key = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    digest = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
        "content-type": "application/json",
    }
