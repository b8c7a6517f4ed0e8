"""Bytes in: limit, sniff, hash, store, record."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from gateway.clock import Clock, Randomness, milliseconds
from gateway.errors import AssetgateError, FileTooLarge, TooManyRequests, TypeNotAllowed, Unprocessable
from gateway.metadata import Changes, Metadata, Quota, QuotaExceeded
from gateway.model import Asset, new_asset_id, object_key_of
from gateway.sniffing import again, head_of, media_type_of
from gateway.storage import Sink, Storage, Stored
from policies.model import Caller, CallerKind, State, Visibility
from policies.purposes import Purpose, allows_type, open_to

GUEST_RETRY_AFTER = 3600  # seconds; a guest's quota frees itself as the uploads expire


@dataclass(frozen=True, slots=True)
class Admission:
    """What the policies decided about an upload: for which purpose, whose it will be, and who will see it."""

    purpose: Purpose
    owner: str
    visibility: Visibility
    source: str = "upload"

    @property
    def by_guest(self) -> bool:
        return self.owner.startswith("guest:")


@dataclass(frozen=True, slots=True)
class Staged:
    """A file whose bytes were received whole and are not readable by anyone yet."""

    asset_id: str
    sink: Sink
    media_type: str
    size: int
    sha256: str
    filename: str | None
    object_key: str


class Ingest:
    """Takes files in, so that every object has a record at every moment and an abandoned one leaves nothing.

    A file is staged first and admitted after: the record is added just before the object appears, and made ready just
    after it. Killed in between, the pending record leads the sweeper to the object.
    """

    def __init__(
        self,
        metadata: Metadata,
        storage: Storage,
        purposes: Mapping[str, Purpose],
        guest_quota: Quota,
        guest_ttl: float,
        clock: Clock,
        randomness: Randomness,
    ) -> None:
        self._metadata = metadata
        self._storage = storage
        self.purposes = purposes
        self._guest_quota = guest_quota
        self._guest_ttl = guest_ttl
        self._clock = clock
        self._randomness = randomness

    @asynccontextmanager
    async def stage(
        self,
        chunks: AsyncIterator[bytes],
        filename: str | None,
        known: Admission | Caller,
        *,
        reserved: tuple[str, str] | None = None,
    ) -> AsyncIterator[Staged]:
        """Receive a file's bytes; leaving without `admit` leaves nothing. `reserved` are an asset id and an object key.

        While nothing is known but the caller, it is judged by all purposes open to them, until `admit` knows better.
        Raises `Unprocessable` for an empty file, `TypeNotAllowed`, `FileTooLarge`, `Denied`, and what `chunks` raises.
        """
        head = await head_of(chunks)
        media_type = media_type_of(head)
        if not head:
            raise Unprocessable("The file is empty", fields={"files": "is empty"})
        if isinstance(known, Admission):
            check_type(known.purpose, media_type)
        limit = self._limit(known)
        asset_id, object_key = reserved or self._new_names()
        digest = hashlib.sha256()
        size = 0
        async with self._storage.create(object_key, media_type) as sink:
            async for chunk in again(head, chunks):
                size += len(chunk)
                if size > limit:
                    raise too_large(limit)
                digest.update(chunk)
                await sink.write(chunk)
            yield Staged(asset_id, sink, media_type, size, digest.hexdigest(), filename, object_key)

    async def admit(self, staged: Staged, admission: Admission) -> Asset:
        """Make a staged file an asset. Raises `TypeNotAllowed`, `FileTooLarge` or `TooManyRequests` and keeps nothing.

        The bytes are all here: a client that leaves now does not stop it half-way.
        """
        admitting = asyncio.ensure_future(self._admit(staged, admission))
        try:
            return await asyncio.shield(admitting)
        finally:
            await asyncio.wait([admitting])

    async def _admit(self, staged: Staged, admission: Admission) -> Asset:
        check_type(admission.purpose, staged.media_type)
        if staged.size > self._limit(admission):
            raise too_large(self._limit(admission))
        asset = await self._recorded(staged, admission)
        try:
            stored = await staged.sink.commit()
        except BaseException:
            with suppress(AssetgateError):  # then the sweeper finds the record, and by it what was stored
                await self._metadata.discard(asset.id)
            raise
        ready = await self._make_ready(asset, stored)
        if ready is None:
            # An engine that lost the answer and asked again hears no as well, so look what has become of it.
            ready = (await self._metadata.get([asset.id])).get(asset.id)
        if ready is None or ready.state is not State.READY:
            # The sweeper took it for abandoned, as a clock that jumps by a day has it: no record leads to the bytes.
            await self._storage.delete([asset.object_key])
            raise TooManyRequests("The upload took too long; send it again", headers={"Retry-After": "1"})
        return ready

    async def _recorded(self, staged: Staged, admission: Admission) -> Asset:
        """Add the record, not ready yet. Raises `TooManyRequests` for a guest who would hold too much."""
        now = milliseconds(self._clock())
        asset = self._new_asset(staged, admission, now)
        try:
            await self._metadata.add(asset, self._guest_quota if admission.by_guest else None, now)
        except QuotaExceeded as exceeded:
            raise TooManyRequests(
                f"Guests may keep no more: {exceeded.limit} is reached",
                error="guest_quota_exceeded",
                headers={"Retry-After": str(GUEST_RETRY_AFTER)},
            ) from exceeded
        return asset

    def _new_names(self) -> tuple[str, str]:
        asset_id = new_asset_id(self._randomness)
        return asset_id, object_key_of(asset_id)

    async def _make_ready(self, asset: Asset, stored: Stored) -> Asset | None:
        changes: Changes = {"state": State.READY, "object_version": stored.version}
        try:
            return await self._metadata.change(asset.id, changes, when=State.PENDING)
        except AssetgateError:
            # Perhaps it is ready and only the answer was lost: then this does nothing. Else the sweeper takes the bytes
            # soon, and not as late as those of abandoned uploads.
            now = milliseconds(self._clock())
            lost: Changes = {"state": State.DELETED, "deleted_at": now, "updated_at": now}
            with suppress(AssetgateError):
                await self._metadata.change(asset.id, lost, when=State.PENDING)
            raise

    def _limit(self, known: Admission | Caller) -> int:
        """How large a file may be: nobody fills the disk before naming a purpose."""
        if isinstance(known, Admission):
            purposes, by_guest = [known.purpose], known.by_guest
        else:
            purposes = open_to(known, self.purposes.values())
            by_guest = known.kind in {CallerKind.ANONYMOUS, CallerKind.GUEST}
        largest = max(purpose.max_bytes for purpose in purposes)
        return min(largest, self._guest_quota.max_bytes) if by_guest else largest

    def _new_asset(self, staged: Staged, admission: Admission, now: int) -> Asset:
        asset = Asset(
            id=staged.asset_id,
            owner=admission.owner,
            visibility=admission.visibility,
            purpose=admission.purpose.name,
            source=admission.source,
            state=State.PENDING,
            media_type=staged.media_type,
            size=staged.size,
            sha256=staged.sha256,
            object_key=staged.object_key,
            created_at=now,
            updated_at=now,
            filename=staged.filename,
        )
        if admission.by_guest:
            return replace(asset, expires_at=now + milliseconds(self._guest_ttl))
        return asset


def check_type(purpose: Purpose, media_type: str) -> None:
    """Raise `TypeNotAllowed`, with the type found, unless the purpose allows it."""
    if not allows_type(purpose, media_type):
        raise TypeNotAllowed(
            f"The file is {media_type}, which {purpose.name} does not allow", fields={"files": media_type}
        )


def too_large(limit: int) -> FileTooLarge:
    return FileTooLarge(f"The file is larger than the {limit} bytes that are allowed", fields={"files": str(limit)})
