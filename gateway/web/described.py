"""An asset as its owner sees it in JSON."""

from __future__ import annotations

from typing import Any

from gateway.clock import iso
from gateway.model import Asset


def described(asset: Asset) -> dict[str, Any]:
    """The fields that may be told. Object keys and guest ids stay here."""
    return {
        "assetId": asset.id,
        "assetRef": asset.ref,
        "previewUrl": asset.path,
        "ownerType": owner_type(asset),
        "visibility": asset.visibility.value,
        "purpose": asset.purpose,
        "source": asset.source,
        "mimeType": asset.media_type,
        "sizeBytes": asset.size,
        "sha256": asset.sha256,
        "filename": asset.filename,
        "createdAt": iso(asset.created_at),
        "updatedAt": iso(asset.updated_at),
        "expiresAt": None if asset.expires_at is None else iso(asset.expires_at),
        "revokedAt": asset.revoked_at,
    }


def owner_type(asset: Asset) -> str:
    return asset.owner.partition(":")[0]
