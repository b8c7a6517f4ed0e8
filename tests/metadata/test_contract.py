"""What every member of the metadata family promises about the records of assets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.metadata import AssetExists, Changes, Listing, Metadata, Quota
from gateway.model import Asset
from policies.model import State, Visibility
from tests.support.metadata import GUEST, LAST_MOMENT, LATER, NOW, OWNER, add_all, an_asset, numbered, read

EVERY_FACT = an_asset(
    visibility=Visibility.PUBLIC,
    state=State.DELETED,
    filename="it's “ä” 𝄞\\%_;--.png",
    object_version='"etag"',
    stored=False,
    size=LAST_MOMENT,
    expires_at=LAST_MOMENT,
    deleted_at=0,
    revoked_at=LAST_MOMENT,
)


@pytest.mark.parametrize(
    "asset", [an_asset(), EVERY_FACT, an_asset(state=State.PENDING, sha256="", size=0, filename="")]
)
async def test_a_record_comes_back_as_it_was_added(store: Metadata, asset: Asset) -> None:
    await store.add(asset)
    assert await store.get([asset.id]) == {asset.id: asset}


async def test_ids_that_are_not_there_are_left_out(store: Metadata) -> None:
    await store.add(an_asset())
    assert list(await store.get(["asset-none-1", an_asset().id, "asset-none-2", an_asset().id])) == [an_asset().id]
    assert await store.get(["asset-none-1"]) == {}
    assert await store.get([]) == {}


async def test_a_thousand_ids_are_answered_at_once(store: Metadata) -> None:
    assets = numbered(60)
    await add_all(store, *assets)
    absent = [f"asset-none-{n}" for n in range(940)]
    assert await store.get([*absent, *(asset.id for asset in assets)]) == {asset.id: asset for asset in assets}


async def test_an_id_is_given_once(store: Metadata) -> None:
    await store.add(an_asset())
    with pytest.raises(AssetExists):
        await store.add(an_asset(owner="user:eve"))
    with pytest.raises(AssetExists):
        await store.add(an_asset(owner="user:eve"), Quota(5, 500), NOW)
    assert await read(store, an_asset().id) == an_asset()


async def test_two_assets_may_share_an_object(store: Metadata) -> None:
    await add_all(store, an_asset("asset-one", object_key="k"), an_asset("asset-two", object_key="k"))
    assert [key async for key in store.stored_keys()] == [
        ("k", "asset-one", State.READY),
        ("k", "asset-two", State.READY),
    ]


CHANGES: list[Changes] = [
    {"visibility": Visibility.PUBLIC, "updated_at": LATER},
    {"filename": "a'b\"c𝄞.png"},
    {"filename": None},
    {"state": State.DELETED, "deleted_at": LATER, "stored": False},
    {"state": State.READY, "media_type": "video/mp4", "size": LAST_MOMENT, "sha256": "cd" * 32, "object_version": "v"},
    {"expires_at": LAST_MOMENT},
    {"expires_at": None},
]


@pytest.mark.parametrize("changes", CHANGES)
async def test_a_change_is_returned_and_kept(store: Metadata, changes: Changes) -> None:
    before = an_asset(filename="old", expires_at=LATER, state=State.PENDING)
    await add_all(store, before, an_asset("asset-other"))
    after = replace(before, **changes)
    assert await store.change(before.id, changes, when=State.PENDING) == after
    assert await read(store, before.id) == after
    assert await read(store, "asset-other") == an_asset("asset-other")


@pytest.mark.parametrize("quota", [None, Quota(5, 500)])
async def test_a_record_in_another_state_or_none_is_not_changed(store: Metadata, quota: Quota | None) -> None:
    await store.add(an_asset())
    assert await store.change(an_asset().id, {"size": 1}, State.PENDING, quota, NOW) is None
    assert await store.change("asset-none", {"size": 1}, State.READY, quota, NOW) is None
    assert await read(store, an_asset().id) == an_asset()


async def test_what_never_changes_is_refused(store: Metadata) -> None:
    wrong: Any = {"owner": "user:eve"}
    with pytest.raises(ValueError, match="owner"):
        await store.change(an_asset().id, wrong, State.READY)


async def test_of_two_changes_out_of_one_state_one_wins(store: Metadata) -> None:
    await store.add(an_asset())
    deleted: Changes = {"state": State.DELETED, "deleted_at": NOW}
    answers = await asyncio.gather(*(store.change(an_asset().id, deleted, State.READY) for _ in range(8)))
    assert sum(answer is not None for answer in answers) == 1


async def test_a_revocation_never_moves_backwards(store: Metadata) -> None:
    await store.add(an_asset())
    for at, noted in ((100, 100), (50, 100), (100, 100), (101, 101)):
        assert await store.revoke(an_asset().id, at) == replace(an_asset(), revoked_at=noted)


@pytest.mark.parametrize("state", [State.PENDING, State.EXPIRED, State.DELETED])
async def test_only_ready_assets_are_revoked(store: Metadata, state: State) -> None:
    await store.add(an_asset(state=state))
    assert await store.revoke(an_asset().id, 1) is None
    assert await store.revoke("asset-none", 1) is None
    assert await read(store, an_asset().id) == an_asset(state=state)


async def test_a_caller_that_goes_away_leaves_the_store_usable(store: Metadata) -> None:
    quota = Quota(1000, 100_000)
    for n, asset in enumerate(numbered(40, owner=GUEST)):
        adding = asyncio.create_task(store.add(asset, quota, NOW))
        for _ in range(n % 4):
            await asyncio.sleep(0)
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
    held = await store.add(an_asset("asset-last", owner=GUEST), quota, NOW)
    listed = await store.list(Listing(100, owner=GUEST))
    assert held == (len(listed) - 1) * 10
    assert await store.claim(GUEST, OWNER, NOW) == sorted(asset.id for asset in listed)


async def test_a_store_that_is_there_answers_a_ping(store: Metadata) -> None:
    await store.ping()


async def test_a_store_of_the_newest_shape_has_nothing_to_upgrade(store: Metadata) -> None:
    status = await store.status()
    assert status
    assert all(migration.applied_at == NOW for migration in status)
    assert await store.upgrade() == []


async def test_closing_twice_is_no_error(store: Metadata) -> None:
    await store.close()
    await store.close()
