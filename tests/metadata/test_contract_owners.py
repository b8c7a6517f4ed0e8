"""What every member of the metadata family promises about quotas and claims."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest

from gateway.metadata import Listing, Metadata, Quota, QuotaExceeded
from gateway.model import Asset
from policies.model import State
from tests.support.metadata import GUEST, LATER, NOW, OWNER, add_all, an_asset, numbered, read

# What an owner holds, and whether it counts towards the quota at NOW.
COUNTED: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"state": State.PENDING}, True),
    ({"expires_at": LATER}, True),
    ({"expires_at": NOW}, False),
    ({"state": State.EXPIRED}, False),
    ({"state": State.DELETED}, False),
    ({"owner": "user:eve"}, False),
]


@pytest.mark.parametrize(("facts", "counts"), COUNTED)
async def test_the_quota_counts_what_is_pending_or_ready_and_unexpired(
    store: Metadata, facts: dict[str, Any], counts: bool
) -> None:
    await store.add(an_asset("asset-held", **facts))
    assert await store.add(an_asset("asset-new1"), Quota(2, 20), NOW) == (10 if counts else 0)


QUOTAS = [(Quota(1, 1000), "max_files"), (Quota(100, 19), "max_bytes"), (Quota(0, 0), "max_files")]


@pytest.mark.parametrize(("quota", "limit"), QUOTAS)
async def test_what_exceeds_the_quota_is_not_added(store: Metadata, quota: Quota, limit: str) -> None:
    await store.add(an_asset())
    with pytest.raises(QuotaExceeded) as exceeded:
        await store.add(an_asset("asset-new1"), quota, NOW)
    assert exceeded.value.limit == limit
    assert await read(store, "asset-new1") is None


async def test_fifty_adds_at_once_never_exceed_the_quota(store: Metadata) -> None:
    answers = await asyncio.gather(
        *(store.add(asset, Quota(20, 10_000), NOW) for asset in numbered(50)), return_exceptions=True
    )
    assert sorted(answer for answer in answers if isinstance(answer, int)) == [n * 10 for n in range(20)]
    assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 30
    assert len(await store.list(Listing(100, owner=OWNER))) == 20


@pytest.mark.parametrize(
    ("size", "quota", "limit"),
    [(90, Quota(2, 100), None), (91, Quota(2, 100), "max_bytes"), (1, Quota(1, 100), "max_files")],
)
async def test_a_change_counts_the_new_size_instead_of_the_old(
    store: Metadata, size: int, quota: Quota, limit: str | None
) -> None:
    pending = an_asset(state=State.PENDING, size=50)
    await add_all(store, pending, an_asset("asset-held"), an_asset("asset-gone", state=State.DELETED))
    changing = store.change(pending.id, {"size": size, "state": State.READY}, State.PENDING, quota, NOW)
    if limit is None:
        assert await changing == replace(pending, size=size, state=State.READY)
        return
    with pytest.raises(QuotaExceeded) as exceeded:
        await changing
    assert exceeded.value.limit == limit
    assert await read(store, pending.id) == pending


async def test_changes_at_once_never_exceed_the_quota(store: Metadata) -> None:
    assets = numbered(10, state=State.PENDING, size=0)
    await add_all(store, *assets)
    answers = await asyncio.gather(
        *(store.change(asset.id, {"size": 30}, State.PENDING, Quota(10, 100), NOW) for asset in assets),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Asset) for answer in answers) == 3
    assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 7


@pytest.mark.parametrize(
    ("facts", "claimed"),
    [
        ({"expires_at": LATER}, True),
        ({"expires_at": None}, True),
        ({"state": State.PENDING, "expires_at": LATER}, True),
        ({"expires_at": NOW}, False),
        ({"state": State.EXPIRED, "expires_at": LATER}, False),
        ({"state": State.DELETED}, False),
        ({"owner": "guest:other"}, False),
    ],
)
async def test_a_claim_takes_what_is_pending_or_ready_and_unexpired(
    store: Metadata, facts: dict[str, Any], claimed: bool
) -> None:
    asset = an_asset(**({"owner": GUEST} | facts))
    await store.add(asset)
    assert await store.claim(GUEST, OWNER, NOW) == ([asset.id] if claimed else [])
    after = replace(asset, owner=OWNER, expires_at=None, updated_at=NOW) if claimed else asset
    assert await read(store, asset.id) == after
    assert await store.claim(GUEST, OWNER, NOW) == []


async def test_claims_at_once_give_each_asset_to_one(store: Metadata) -> None:
    assets = numbered(30, owner=GUEST)
    await add_all(store, *assets)
    claims = await asyncio.gather(*(store.claim(GUEST, f"user:{n}", NOW) for n in range(5)))
    assert sorted(itertools.chain(*claims)) == [asset.id for asset in assets]
    owners = {asset_id: f"user:{n}" for n, ids in enumerate(claims) for asset_id in ids}
    assert {asset.id: asset.owner for asset in (await store.get(list(owners))).values()} == owners


async def test_an_asset_is_claimed_or_expires_and_never_both(store: Metadata) -> None:
    assets = numbered(40, owner=GUEST, expires_at=NOW)
    await add_all(store, *assets)
    # The claimer's clock is behind the sweeper's: to one they live, to the other they do not.
    claimed, expired = await asyncio.gather(store.claim(GUEST, OWNER, NOW - 1), store.expire(NOW, 0, 40))
    assert sorted(claimed + [asset.id for asset in expired]) == [asset.id for asset in assets]
    records = (await store.get([asset.id for asset in assets])).values()
    assert {asset.state for asset in records if asset.owner == OWNER} <= {State.READY}
    assert {asset.state for asset in records if asset.owner == GUEST} <= {State.EXPIRED}
