"""Turns what a client may call an asset into references: asset paths, and URLs of this gateway, tokens dropped."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from gateway.model import PATH_PREFIX, REF_PREFIX, is_asset_id


def referenced(document: Any, base: str) -> Any:
    """Copy a JSON value with a reference in the place of every asset path and asset URL of `base`. No recursion."""
    root = [document]
    pending: list[tuple[Any, Any]] = [(root, 0)]
    while pending:
        holder, key = pending.pop()
        value = holder[key]
        if isinstance(value, str):
            holder[key] = reference(value, base) or value
        elif isinstance(value, dict | list):
            copy = holder[key] = value.copy()
            pending += [(copy, name) for name in (copy if isinstance(copy, dict) else range(len(copy)))]
    return root[0]


def reference(text: str, base: str) -> str | None:
    """Return the reference that an asset path or an asset URL of `base` stands for, None for any other text."""
    prefix = base + PATH_PREFIX if text.startswith(base) else PATH_PREFIX
    if not text.startswith(prefix):
        return None
    asset_id = urlsplit(text.removeprefix(prefix)).path
    return REF_PREFIX + asset_id if is_asset_id(asset_id) else None
