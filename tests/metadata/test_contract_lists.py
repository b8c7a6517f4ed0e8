"""What every member of the metadata family promises about lists of assets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.metadata import Listing, Metadata
from gateway.model import Asset
from policies.model import State
from tests.support.metadata import LAST_MOMENT, LATER, NOW, OWNER, add_all, an_asset, numbered


async def test_a_list_shows_ready_assets_newest_first(store: Metadata) -> None:
    hidden = [an_asset(f"asset-{state}", state=state) for state in State if state is not State.READY]
    await add_all(store, an_asset("asset-b"), an_asset("asset-a"), an_asset("asset-new", created_at=LATER), *hidden)
    assert [asset.id for asset in await store.list(Listing(10))] == ["asset-new", "asset-b", "asset-a"]


SHOWN = [
    (Listing(10, owner=OWNER), ["4", "2", "1"]),
    (Listing(10, owner="user:none"), []),
    (Listing(10, purpose="avatar"), ["3", "2"]),
    (Listing(10, owner=OWNER, purpose="avatar"), ["2"]),
    (Listing(10, media_type="image"), ["2", "1"]),
    (Listing(10, media_type="image/webp"), ["2"]),
    (Listing(10, media_type="video", owner="user:eve"), ["3"]),
    (Listing(10, media_type="imag"), []),
    (Listing(10, media_type="%"), []),
    (Listing(10, media_type="image/%"), []),
    (Listing(2), ["4", "3"]),
    (Listing(2, owner=OWNER, after=(NOW + 4, "asset-4")), ["2", "1"]),
    (Listing(10, media_type="image", purpose="avatar", owner=OWNER, after=(LAST_MOMENT, "")), ["2"]),
]


@pytest.mark.parametrize(("listing", "shown"), SHOWN)
async def test_a_list_shows_what_was_asked_for(store: Metadata, listing: Listing, shown: list[str]) -> None:
    await add_all(
        store,
        an_asset("asset-1", created_at=NOW + 1),
        an_asset("asset-2", created_at=NOW + 2, media_type="image/webp", purpose="avatar"),
        an_asset("asset-3", created_at=NOW + 3, media_type="video/mp4", purpose="avatar", owner="user:eve"),
        an_asset("asset-4", created_at=NOW + 4, media_type="imagery/x"),
    )
    assert [asset.id.removeprefix("asset-") for asset in await store.list(listing)] == shown


async def test_pages_of_a_list_show_everything_once(store: Metadata) -> None:
    # Three of them are made in every millisecond: the id decides among those.
    await add_all(store, *(replace(asset, created_at=NOW + n // 3) for n, asset in enumerate(numbered(20))))
    shown: list[Asset] = []
    while page := await store.list(
        Listing(7, owner=OWNER, after=(shown[-1].created_at, shown[-1].id) if shown else None)
    ):
        shown += page
    assert [asset.id for asset in shown] == [asset.id for asset in reversed(numbered(20))]
