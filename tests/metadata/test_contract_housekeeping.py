"""What every member of the metadata family promises to the sweeper."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.metadata import Metadata, queries
from policies.model import State
from tests.support.metadata import LATER, NOW, add_all, an_asset, numbered, read

EXPIRY: list[tuple[dict[str, Any], State | None]] = [
    ({"expires_at": NOW}, State.EXPIRED),
    ({"expires_at": 0}, State.EXPIRED),
    ({"expires_at": LATER}, None),
    ({"expires_at": None}, None),
    ({"state": State.PENDING, "updated_at": NOW - 1001}, State.DELETED),
    ({"state": State.PENDING, "updated_at": NOW - 1000}, None),
    ({"state": State.PENDING, "updated_at": NOW, "expires_at": NOW}, State.DELETED),
    ({"state": State.PENDING, "updated_at": NOW, "expires_at": LATER}, None),
    ({"state": State.EXPIRED, "expires_at": 0}, None),
    ({"state": State.DELETED, "expires_at": 0, "updated_at": 0}, None),
]


@pytest.mark.parametrize(("facts", "becomes"), EXPIRY)
async def test_what_is_overdue_goes_out_of_service(
    store: Metadata, facts: dict[str, Any], becomes: State | None
) -> None:
    asset = an_asset(**facts)
    await store.add(asset)
    gone = (
        None
        if becomes is None
        else replace(asset, state=becomes, updated_at=NOW, deleted_at=NOW if becomes is State.DELETED else None)
    )
    assert await store.expire(NOW, NOW - 1000, 10) == ([gone] if gone else [])
    assert await read(store, asset.id) == (gone or asset)
    assert await store.expire(NOW, NOW - 1000, 10) == []


async def test_assets_expire_by_steps_and_each_once(store: Metadata) -> None:
    await add_all(store, *numbered(10, expires_at=NOW))
    await add_all(store, *(an_asset(f"asset-p{n}", state=State.PENDING, updated_at=0, expires_at=0) for n in range(5)))
    steps = [await store.expire(NOW, NOW, 4) for _ in range(5)]
    assert [len(step) for step in steps] == [4, 4, 4, 3, 0]
    assert len({asset.id for step in steps for asset in step}) == 15


async def test_sweepers_at_once_take_each_asset_once(store: Metadata) -> None:
    await add_all(store, *numbered(30, expires_at=NOW))
    steps = await asyncio.gather(*(store.expire(NOW, 0, 100) for _ in range(4)))
    assert sorted(asset.id for step in steps for asset in step) == [asset.id for asset in numbered(30)]


async def test_bytes_are_swept_of_what_is_out_of_service(store: Metadata) -> None:
    deleted, expired = an_asset("asset-b", state=State.DELETED), an_asset("asset-a", state=State.EXPIRED)
    await add_all(
        store,
        deleted,
        expired,
        an_asset("asset-c", state=State.DELETED, stored=False),
        an_asset("asset-d"),
        an_asset("asset-e", state=State.PENDING),
    )
    assert await store.unswept(10) == [expired, deleted]
    assert await store.unswept(1) == [expired]
    assert await store.unswept(10, after="asset-a") == [deleted]
    await store.swept(["asset-a", "asset-d", "asset-none"])
    await store.swept([])
    assert await store.unswept(10) == [deleted]
    assert await read(store, "asset-a") == replace(expired, stored=False)
    assert await read(store, "asset-d") == an_asset("asset-d")  # in service: its bytes are not gone


async def test_bytes_that_another_asset_shares_are_kept_until_it_goes_too(store: Metadata) -> None:
    await add_all(store, an_asset("asset-a", object_key="k", state=State.DELETED), an_asset("asset-b", object_key="k"))
    assert await store.unswept(10) == []
    await store.change("asset-b", {"state": State.DELETED}, when=State.READY)
    assert [asset.id for asset in await store.unswept(10)] == ["asset-a", "asset-b"]


FORGOTTEN: list[tuple[dict[str, Any], bool]] = [
    ({"state": State.DELETED, "deleted_at": NOW - 1}, True),
    ({"state": State.EXPIRED, "updated_at": NOW - 1}, True),
    ({"state": State.DELETED, "deleted_at": NOW, "updated_at": 0}, False),
    ({"state": State.EXPIRED, "updated_at": NOW, "expires_at": 0}, False),
    ({"state": State.DELETED, "deleted_at": 0, "stored": True}, False),
    ({"state": State.READY, "updated_at": 0}, False),
]


@pytest.mark.parametrize(("facts", "goes"), FORGOTTEN)
async def test_records_long_out_of_service_without_bytes_are_forgotten(
    store: Metadata, facts: dict[str, Any], goes: bool
) -> None:
    await store.add(an_asset(**({"stored": False} | facts)))
    assert await store.forget(NOW, 10) == int(goes)
    assert (await read(store, an_asset().id) is None) is goes


async def test_records_are_forgotten_by_steps(store: Metadata) -> None:
    await add_all(store, *numbered(5, state=State.DELETED, deleted_at=0, stored=False))
    assert [await store.forget(NOW, 2) for _ in range(4)] == [2, 2, 1, 0]


ODD_KEYS = [
    "",
    " ",
    "!",
    "A",
    "Z/é",
    "_",
    "a",
    "a/",
    "a/b",
    "ab",
    "a\N{COMBINING ACUTE ACCENT}",
    "ä",
    "é",
    "~",
    "ﬀ",
    "𝄞",
    "\U0010ffff",
]


async def test_keys_come_by_their_utf_8_bytes(store: Metadata) -> None:
    for n, key in enumerate(reversed(ODD_KEYS)):
        await store.add(an_asset(f"asset-{n:04}", object_key=key))
    ordered = sorted(ODD_KEYS, key=str.encode)
    assert [key async for key, _, _ in store.stored_keys()] == ordered[1:]  # the empty key is not after ""
    for n, after in enumerate(ordered):
        assert [key async for key, _, _ in store.stored_keys(after)] == ordered[n + 1 :]


async def test_keys_are_those_that_may_have_bytes(store: Metadata) -> None:
    for state in State:
        await store.add(an_asset(f"asset-{state}", object_key=state, state=state))
        await store.add(an_asset(f"asset-gone-{state}", object_key=f"gone-{state}", state=state, stored=False))
    assert [key async for key in store.stored_keys()] == sorted((state, f"asset-{state}", state) for state in State)


async def test_keys_are_read_page_by_page_and_each_once(store: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "PAGE", 10)
    assets = [replace(asset, object_key=f"k{n // 7}") for n, asset in enumerate(numbered(21))]
    await add_all(store, *assets)
    assert [asset_id async for _, asset_id, _ in store.stored_keys()] == [asset.id for asset in assets]
