"""Services, by the secret key that they send."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Mapping

from gateway.errors import CannotStart
from gateway.identity import Identified, refused
from gateway.settings import Service


class ServiceKeys:
    """The services of the settings; of their keys only the SHA-256 is known here."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = [
            (service.key_sha256.encode(), Identified(name, math.inf, scopes=frozenset(service.scopes)))
            for name, service in services.items()
        ]
        if len({digest for digest, _ in self._services}) < len(self._services):
            raise CannotStart("identity.services: two services have the same key_sha256")

    def identify(self, key: str) -> Identified:
        """Return whose key it is. Raises `CredentialInvalid`."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest().encode()
        found: Identified | None = None
        for known, service in self._services:  # all of them, so that the time tells nothing
            if hmac.compare_digest(known, digest):
                found = service
        if found is None:
            raise refused("The service key is not valid")
        return found
