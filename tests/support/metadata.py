"""A fresh store of every member of the metadata family, and records to put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.families import member
from gateway.metadata import Metadata
from gateway.model import Asset
from gateway.settings import Settings
from gateway.settings.reading import load
from policies.model import State, Visibility

NOW = 1_700_000_000_000  # milliseconds
LATER = NOW + 1
LAST_MOMENT = 2**53  # the greatest whole number that JSON carries safely
OWNER = "user:ada"
GUEST = "guest:5f0c"

Sandbox = Callable[[Path], AbstractAsyncContextManager[Metadata]]


def clock() -> float:
    """Stand still at `NOW`."""
    return NOW / 1000


def settings_for(url: str) -> Settings:
    """Make settings whose records live at `url`."""
    return load(None, {"ASSETGATE_METADATA": url}).settings


@asynccontextmanager
async def opened(name: str, url: str) -> AsyncIterator[Metadata]:
    """Open the member `name` at `url`, of the newest shape, and close it afterwards."""
    metadata: Metadata = await member("metadata", name).open_metadata(settings_for(url), clock)
    try:
        await metadata.upgrade()
        yield metadata
    finally:
        await metadata.close()


SANDBOXES: dict[str, Sandbox] = {
    "memory": lambda folder: opened("memory", "memory://"),
    "sqlite": lambda folder: opened("sqlite", f"sqlite:///{folder}/assets.db"),
}


def an_asset(asset_id: str = "asset-00000001", **facts: Any) -> Asset:
    """Make a ready image of ten bytes; `facts` say what is different."""
    usual: dict[str, Any] = {
        "id": asset_id,
        "owner": OWNER,
        "visibility": Visibility.PRIVATE,
        "purpose": "post_image",
        "source": "upload",
        "state": State.READY,
        "media_type": "image/png",
        "size": 10,
        "sha256": "ab" * 32,
        "object_key": f"{asset_id[:2]}/{asset_id}",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Asset(**(usual | facts))


def numbered(count: int, **facts: Any) -> list[Asset]:
    """Make assets that differ by their number, each created one millisecond after the one before."""
    return [an_asset(f"asset-{n:08}", created_at=NOW + n, **facts) for n in range(count)]


async def add_all(store: Metadata, *assets: Asset) -> None:
    for asset in assets:
        await store.add(asset)


async def read(store: Metadata, asset_id: str) -> Asset | None:
    return (await store.get([asset_id])).get(asset_id)
