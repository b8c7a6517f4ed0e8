from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import AssetgateError, FileTooLarge, TooManyRequests, Unprocessable
from gateway.ingest import Admission, Staged
from policies.model import ANONYMOUS, Caller, CallerKind, Denied, State, Visibility
from tests.support.gateway import PNG, Running, running

MIB = 1024 * 1024
USER = Caller(CallerKind.USER, "u_1")


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(folder=tmp_path) as started:
        yield started


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def admission(gateway: Running, purpose: str = "reference_image", owner: str = "user:u_1") -> Admission:
    return Admission(gateway.parts.ingest.purposes[purpose], owner, Visibility.PRIVATE)


async def nothing_is_left(gateway: Running, folder: Path) -> bool:
    drafts = list((folder / "objects/.tmp").iterdir())
    return (await gateway.objects(), await gateway.records(), drafts) == ([], [], [])


@pytest.mark.parametrize("sizes", [(len(PNG),), (1, 2, 3, 5000, 1), (3 * MIB, 7), (1,) * 100])
async def test_what_was_sent_in_any_pieces_is_stored_whole(gateway: Running, sizes: tuple[int, ...]) -> None:
    data = (PNG + bytes(range(256)) * 13_000)[: sum(sizes)]
    cuts = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    pieces = [data[start:end] for start, end in itertools.pairwise(cuts)]
    ingest, admitted = gateway.parts.ingest, admission(gateway)
    async with ingest.stage(chunks(*pieces), "a.png", admitted) as staged:
        asset = await ingest.admit(staged, admitted)
    assert (asset.state, asset.size, asset.sha256) == (State.READY, len(data), hashlib.sha256(data).hexdigest())
    stored = await gateway.parts.storage.stat(asset.object_key)
    assert stored is not None
    assert (stored.size, stored.version) == (len(data), asset.object_version)


async def test_a_file_that_is_not_admitted_leaves_nothing(gateway: Running, tmp_path: Path) -> None:
    async with gateway.parts.ingest.stage(chunks(PNG, bytes(3 * MIB)), None, USER):
        assert await gateway.objects() == []
    assert await nothing_is_left(gateway, tmp_path)


async def test_trouble_with_what_comes_leaves_nothing(gateway: Running, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield PNG + bytes(3 * MIB)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        async with gateway.parts.ingest.stage(broken(), None, USER):
            pass
    assert await nothing_is_left(gateway, tmp_path)


@pytest.mark.parametrize(
    ("purpose", "data", "error"),
    [
        ("avatar", b"", Unprocessable),
        ("avatar", PNG + bytes(5 * MIB), FileTooLarge),
        (None, b"", Unprocessable),
    ],
)
async def test_what_is_refused_leaves_nothing(
    gateway: Running, tmp_path: Path, purpose: str | None, data: bytes, error: type[AssetgateError]
) -> None:
    known = admission(gateway, purpose) if purpose else USER
    with pytest.raises(error):
        async with gateway.parts.ingest.stage(chunks(data), None, known):
            pass
    assert await nothing_is_left(gateway, tmp_path)


async def test_where_no_purpose_is_open_nothing_is_taken_in(tmp_path: Path) -> None:
    async with running({"purposes.reference_image.guests": False}, folder=tmp_path) as gateway:
        with pytest.raises(Denied):
            async with gateway.parts.ingest.stage(chunks(PNG), None, ANONYMOUS):
                pass
        assert await nothing_is_left(gateway, tmp_path)


async def test_a_client_that_leaves_while_its_file_is_admitted_leaves_nothing_half_done(gateway: Running) -> None:
    ingest, admitted = gateway.parts.ingest, admission(gateway)

    async def receive() -> None:
        async with ingest.stage(chunks(PNG), None, admitted) as staged:
            begun.set()
            await ingest.admit(staged, admitted)

    for turns in range(12):
        begun = asyncio.Event()
        receiving = asyncio.create_task(receive())
        await begun.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    found = await gateway.parts.metadata.get(await gateway.records())
    assert {asset.state for asset in found.values()} <= {State.READY}
    assert sorted(asset.object_key for asset in found.values()) == await gateway.objects()


async def test_an_upload_that_the_sweeper_gave_up_is_told_to_come_again(gateway: Running, tmp_path: Path) -> None:
    """The sweeper comes between the record and its object: only a clock that jumps by a day makes it so."""
    ingest, admitted, parts = gateway.parts.ingest, admission(gateway), gateway.parts

    class Sweeping:
        """A sink that lets the sweeper in before it commits."""

        def __init__(self, staged: Staged) -> None:
            self.write = staged.sink.write
            self._sink = staged.sink

        async def commit(self) -> object:
            gateway.clock.move(24 * 3600 + 1)
            await parts.sweeper.sweep()
            return await self._sink.commit()

    async with ingest.stage(chunks(PNG), None, admitted) as staged:
        late = replace(staged, sink=Sweeping(staged))  # type: ignore[arg-type]  # what it returns is the sink's
        with pytest.raises(TooManyRequests):
            await ingest.admit(late, admitted)
    assert await nothing_is_left(gateway, tmp_path)
