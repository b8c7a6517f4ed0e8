"""Stores the bytes of an asset whose id was decided before they came, once however many try."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from gateway.clock import Clock, milliseconds
from gateway.ingest import Admission, Staged, check_type
from gateway.metadata import AssetExists, Changes, Metadata
from gateway.metadata.task_records import Copy
from gateway.model import Asset, object_key_of
from gateway.sniffing import UNKNOWN
from gateway.storage import Storage
from policies.model import State, Visibility

SOURCE: Final = "provider"


class Filling:
    """The asset of a copy: reserved as a pending record, filled by the attempt that is first, or given up.

    Every attempt writes under an object key of its own, and the record names the key of the one that won. So two
    workers that take each other for dead never write one object, and what was stored is adopted, not stored again.
    """

    def __init__(self, metadata: Metadata, storage: Storage, clock: Clock) -> None:
        self._metadata = metadata
        self._storage = storage
        self._clock = clock

    async def reserve(self, copy: Copy) -> Asset:
        """Return the record of the copy's asset: pending, and fresh for the sweeper; or what it has become."""
        try:
            await self._metadata.add(self._pending(copy))
        except AssetExists:
            touched = await self._metadata.change(copy.asset_id, {"updated_at": self._now()}, when=State.PENDING)
            if touched is not None:
                return touched
        found = (await self._metadata.get([copy.asset_id])).get(copy.asset_id)
        # One that was forgotten between the two look-ups is long deleted.
        return found or replace(self._pending(copy), state=State.DELETED)

    async def fill(self, copy: Copy, staged: Staged, admission: Admission) -> Asset | None:
        """Make the reserved asset the one of these bytes; None, and nothing kept, if another attempt was first."""
        check_type(admission.purpose, staged.media_type)
        filling = asyncio.ensure_future(self._fill(staged, admission))
        try:
            ready = await asyncio.shield(filling)
        finally:
            await asyncio.wait([filling])
        if ready is not None:
            await self.tidy(copy, ready)
        return ready

    async def tidy(self, copy: Copy, asset: Asset) -> None:
        """Remove what earlier attempts stored and could not record, now that none of them can win any more."""
        spare = [key for key in keys_of(copy) if key != asset.object_key]
        if spare:
            await self._storage.delete(spare)

    async def give_up(self, copy: Copy) -> Asset | None:
        """Take the reserved asset out of service, unless an attempt has filled it: then return that."""
        now = self._now()
        changes: Changes = {"state": State.DELETED, "deleted_at": now, "updated_at": now}
        await self._metadata.change(copy.asset_id, changes, when=State.PENDING)
        found = (await self._metadata.get([copy.asset_id])).get(copy.asset_id)
        if found is not None and found.state is State.READY:
            return found
        await self._storage.delete(keys_of(copy))
        return None

    async def _fill(self, staged: Staged, admission: Admission) -> Asset | None:
        stored = await staged.sink.commit()
        changes: Changes = {
            "state": State.READY,
            "purpose": admission.purpose.name,
            "object_key": staged.object_key,
            "object_version": stored.version,
            "media_type": staged.media_type,
            "size": staged.size,
            "sha256": staged.sha256,
            "updated_at": self._now(),
        }
        ready = await self._metadata.change(staged.asset_id, changes, when=State.PENDING)
        if ready is None:
            # An engine that lost the answer and asked again hears no as well, so look what has become of it.
            ready = (await self._metadata.get([staged.asset_id])).get(staged.asset_id)
        if ready is None or ready.state is not State.READY or ready.object_key != staged.object_key:
            await self._storage.delete([staged.object_key])
            return None
        return ready

    def _pending(self, copy: Copy) -> Asset:
        now = self._now()
        return Asset(
            id=copy.asset_id,
            owner=copy.owner,
            visibility=Visibility(copy.visibility),
            purpose=copy.purpose,
            source=SOURCE,
            state=State.PENDING,
            media_type=UNKNOWN,
            size=0,
            sha256="",
            object_key=key_of(copy),
            created_at=now,
            updated_at=now,
        )

    def _now(self) -> int:
        return milliseconds(self._clock())


def key_of(copy: Copy) -> str:
    """Name the object of the attempt that is under way."""
    return f"{object_key_of(copy.asset_id)}.{copy.attempts}"


def keys_of(copy: Copy) -> list[str]:
    """Name the objects of all attempts so far, the one under way included."""
    return [f"{object_key_of(copy.asset_id)}.{number}" for number in range(1, copy.attempts + 1)]
