"""A gateway with the slice cache before a storage far away, and assets of whose bytes nothing is here yet."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from gateway.app import build
from gateway.clock import milliseconds
from gateway.delivery.slice_files import object_of
from gateway.delivery.slices import cached
from gateway.ingest import Ingest
from gateway.metadata import Quota
from gateway.model import Asset
from gateway.storage import Stored
from gateway.sweeping import Sweeper
from policies.model import State, Visibility
from tests.delivery.remote import MIB, SLICE, Remote, cache_settings
from tests.storage.faulty import KEYS
from tests.support.engines import LANES, Overrides
from tests.support.gateway import MovableClock, Running, answering, running, settings_for, user_headers
from tests.support.raw import BODILESS, PATIENCE, Answer, Lines, connected
from tests.support.s3_faults import FaultyS3, etag_of, faulty_s3
from tests.support.storage import aws_environment

OWNER: Final = tuple(user_headers("u_1").items())
# As `cache_settings` has them. What is read once is kept, whatever the default says.
CACHE: Final = {
    "cache.max_bytes": 64 * MIB,
    "cache.slice_bytes": SLICE,
    "cache.read_ahead": 4 * SLICE,
    "cache.admit_after": 1,
}
_numbers = itertools.count(1)


@asynccontextmanager
async def before(
    remote: Remote, lane: str, folder: Path, settings: Overrides | None = None, /, **cache: int
) -> AsyncIterator[Running]:
    """Run a gateway whose objects, those that are uploaded as well, lie in `remote`, and their slices in `folder`.

    `cache` are settings of the cache, as `cache_settings` takes them.
    """
    clock = MovableClock()
    async with build(settings_for(None, {**LANES[lane], **(settings or {})}), clock) as parts:
        storage = await cached(remote, cache_settings(folder, **cache), clock)
        guests = parts.settings.guests
        quota = Quota(guests.max_files, guests.max_bytes)
        ingest = Ingest(parts.metadata, storage, parts.ingest.purposes, quota, guests.ttl, clock, parts.randomness)
        sweeper = Sweeper(parts.metadata, storage, parts.settings.sweep, clock)
        try:
            async with answering(replace(parts, storage=storage, ingest=ingest, sweeper=sweeper), clock) as gateway:
                yield gateway
        finally:
            await storage.close()


@dataclass(frozen=True)
class OnS3:
    """A gateway on a bucket of a server that does as it is told, and the folder of its slices."""

    server: FaultyS3
    gateway: Running
    folder: Path

    async def asset(self, data: bytes) -> Asset:
        """Make an asset of a new object on the server; the decision that its owner may read it is remembered."""
        key = f"ab/{next(_numbers)}"
        self.server.objects[key] = data
        asset = await record(self.gateway, Stored(key, len(data), etag_of(data), 0.0), data)
        assert (await download(self.gateway, asset.path, (*OWNER, ("If-None-Match", "*")))).status == 304
        return asset

    def torn(self, asset: Asset, data: bytes) -> list[str]:
        """Name what is in the folder of an asset's object, and is no whole slice of `data`."""
        found = {path.name: path.read_bytes() for path in self.folder.glob(f"*/{object_of(asset.object_key).hex()}*")}
        slices = {f"-{index:08x}": data[index * SLICE :][:SLICE] for index in range(-(-len(data) // SLICE))}
        return [name for name, kept in found.items() if not kept.startswith(slices.get(name[-9:], b"nothing"))]


@asynccontextmanager
async def on_s3(lane: str, folder: Path, *, admit_after: int = 1, **s3: Any) -> AsyncIterator[OnS3]:
    """Run both; between attempts at the server no time is lost. `s3` are settings of that table."""
    limits = {f"s3.{name}": value for name, value in {"retry_delay": 0.0, **s3}.items()}
    limits["cache.admit_after"] = admit_after
    async with faulty_s3() as server:
        settings = {"storage": server.url, "cache.path": str(folder), **CACHE, **LANES[lane], **limits}
        with aws_environment(KEYS):
            async with running(settings) as gateway:
                yield OnS3(server, gateway, folder)


async def record(gateway: Running, stored: Stored, data: bytes, asset_id: str | None = None) -> Asset:
    """Make an object that is stored already an asset of `u_1`, as if another process had taken it in."""
    now = milliseconds(gateway.clock())
    asset = Asset(
        id=asset_id or f"cached-{next(_numbers):06}",
        owner="user:u_1",
        visibility=Visibility.PRIVATE,
        purpose="reference_image",
        source="upload",
        state=State.READY,
        media_type="image/png",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        object_key=stored.key,
        object_version=stored.version,
        created_at=now,
        updated_at=now,
    )
    await gateway.parts.metadata.add(asset)
    return asset


async def asset_in(remote: Remote, gateway: Running, data: bytes) -> Asset:
    """Make an asset of a new object far away."""
    return await record(gateway, remote.keep(f"ab/{next(_numbers)}", data), data)


async def replaced(gateway: Running, asset: Asset, version: str, data: bytes) -> Asset:
    """Have the record tell of the object that is there now."""
    sha256 = hashlib.sha256(data).hexdigest()
    changed = await gateway.parts.metadata.change(
        asset.id, {"object_version": version, "sha256": sha256, "size": len(data)}, when=State.READY
    )
    assert changed is not None
    return changed


async def download(gateway: Running, path: str, lines: Lines = OWNER) -> Answer:
    """Ask on a connection of its own, and take the body as far as it comes."""
    async with connected(gateway.url) as connection, asyncio.timeout(PATIENCE):
        answer = await connection.head("GET", path, lines)
        if answer.status in BODILESS:
            return answer
        body = bytearray()
        while len(body) < promised(answer) and (data := await connection.reader.read(1024 * 1024)):
            body += data
    return replace(answer, body=bytes(body))


def promised(answer: Answer) -> int:
    """The bytes that a body should have."""
    return int(answer.headers["Content-Length"])


def is_broken(answer: Answer) -> bool:
    """Whether the connection ended before the body did."""
    return len(answer.body) < promised(answer)
