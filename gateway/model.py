"""The record of an asset, as every room of the gateway hands it on."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from gateway.clock import Randomness
from policies.model import State, Subject, Visibility

ASSET_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{7,63}\Z")
REF_PREFIX: Final = "asset://"
PATH_PREFIX: Final = "/api/storage/assets/"
SYSTEM_OWNER: Final = "system"


@dataclass(frozen=True)
class Asset:
    """One stored media object. Times in milliseconds since 1970, except `revoked_at`: whole seconds, as tokens count.

    `object_key` and `object_version` name the bytes to the storage and never leave the gateway; `stored` is False
    once the sweeper has removed them. `sha256` is lower-case hex, empty while the asset is pending.
    """

    id: str
    owner: str
    visibility: Visibility
    purpose: str
    source: str
    state: State
    media_type: str
    size: int
    sha256: str
    object_key: str
    created_at: int
    updated_at: int
    filename: str | None = None
    object_version: str = ""
    stored: bool = True
    expires_at: int | None = None
    deleted_at: int | None = None
    revoked_at: int | None = None

    @cached_property
    def subject(self) -> Subject:
        """The facts that a decision may read."""
        return Subject(
            self.id,
            self.owner,
            self.visibility,
            self.state,
            self.expires_at,
            self.revoked_at,
            self.purpose,
            self.object_key,
            self.object_version,
            self.size,
        )

    @cached_property
    def etag(self) -> str:
        """The strong validator, quotes included: the checksum of the bytes (RFC 9110, section 8.8.3)."""
        return f'"{self.sha256}"'

    @property
    def ref(self) -> str:
        return REF_PREFIX + self.id

    @property
    def path(self) -> str:
        return PATH_PREFIX + self.id


def new_asset_id(randomness: Randomness) -> str:
    """Make an asset id: a random UUID (RFC 9562, version 4)."""
    return str(uuid.UUID(bytes=randomness(16), version=4))


def object_key_of(asset_id: str) -> str:
    """Name a new object: spread over 256 folders, so that no folder or prefix grows without bound."""
    return f"{asset_id[:2]}/{asset_id}"


def is_asset_id(text: str) -> bool:
    """Tell whether `text` can be an asset's id (contract, section 1)."""
    return ASSET_ID.match(text) is not None


def parse_ref(text: str) -> str | None:
    """Return the id inside `asset://<id>`, or None when it is not a reference."""
    asset_id = text.removeprefix(REF_PREFIX)
    return asset_id if asset_id != text and is_asset_id(asset_id) else None
