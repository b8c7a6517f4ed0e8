"""A disk that fills up while files come in: 507, nothing half-written, and all is well when there is room again."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import ClientResponse

from tests.support.gateway import PNG, Part, Running, running, user_headers

MIB = 1024 * 1024
IMAGE: Part = ("purpose", "reference_image")


@contextmanager
def small_disk(folder: Path, mebibytes: int = 4) -> Iterator[Path]:
    """Mount a file system of so many MiB; the test is skipped where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def filled(folder: Path, *, leaving: int = 0) -> Iterator[None]:
    """Fill the disk up, but for so many bytes."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)) == 4096:
                pass
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leaving))
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.fixture
async def full_objects(disk: Path, tmp_path: Path) -> AsyncIterator[Running]:
    """The objects on a small disk, the records elsewhere."""
    async with running({"storage": f"file:///{disk}/objects"}, folder=tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def full_records(disk: Path, tmp_path: Path) -> AsyncIterator[Running]:
    """The records on a small disk, the objects elsewhere."""
    async with running({"metadata": f"sqlite:///{disk}/assetgate.db"}, folder=tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def full_both(disk: Path) -> AsyncIterator[Running]:
    async with running(folder=disk) as gateway:
        yield gateway


async def upload(gateway: Running, *sizes: int) -> ClientResponse:
    files: list[Part] = [("files", f"{number}.png", PNG + bytes(size)) for number, size in enumerate(sizes)]
    return await gateway.upload(IMAGE, *files, headers=user_headers())


async def refused(response: ClientResponse) -> None:
    document = await response.json()
    assert (response.status, document["error"]) == (507, "storage_full"), document
    assert int(response.headers["Retry-After"]) > 0


def drafts(gateway: Running) -> list[Path]:
    return list((Path(gateway.parts.settings.storage.removeprefix("file:///")) / ".tmp").iterdir())


async def test_a_file_that_does_not_fit_is_refused_and_leaves_nothing(full_objects: Running) -> None:
    await refused(await upload(full_objects, 9 * MIB))
    assert (await full_objects.objects(), await full_objects.records(), drafts(full_objects)) == ([], [], [])
    asset_id = await full_objects.asset(PNG + bytes(3 * MIB))
    async with full_objects.client.get(f"/api/storage/assets/{asset_id}", headers=user_headers()) as response:
        assert await response.read() == PNG + bytes(3 * MIB)


async def test_those_that_fit_are_kept(full_objects: Running) -> None:
    response = await upload(full_objects, MIB, 9 * MIB, MIB)
    results = (await response.json())["data"]["results"]
    assert [result.get("error") for result in results] == [None, "storage_full", None]
    assert results[1]["status"] == 507
    assert (len(await full_objects.objects()), len(await full_objects.records()), drafts(full_objects)) == (2, 2, [])


async def test_many_at_once_keep_what_they_say_they_keep(full_objects: Running) -> None:
    responses = await asyncio.gather(*(upload(full_objects, MIB) for _ in range(8)))
    kept = [(await response.json())["data"]["assetId"] for response in responses if response.status == 200]
    for response in responses:
        if response.status != 200:
            await refused(response)
    assert 0 < len(kept) < 8
    assert sorted(await full_objects.records()) == sorted(kept)
    assert (len(await full_objects.objects()), drafts(full_objects)) == (len(kept), [])


async def test_the_rest_goes_on_while_the_disk_is_full(full_objects: Running, disk: Path) -> None:
    asset_id = await full_objects.asset()
    with filled(disk):
        await refused(await upload(full_objects, MIB))
        async with full_objects.client.get(f"/api/storage/assets/{asset_id}", headers=user_headers()) as response:
            assert await response.read() == PNG
        async with full_objects.client.delete(f"/api/storage/assets/{asset_id}", headers=user_headers()) as response:
            assert response.status == 200
        assert (await full_objects.parts.sweeper.sweep()).removed == 1
    assert await full_objects.objects() == []


@pytest.mark.parametrize("leaving", [0, 4096, 8192, 16384, 32768, 65536])
async def test_full_records_refuse_and_lose_nothing(full_records: Running, disk: Path, leaving: int) -> None:
    before = await full_records.asset()
    with filled(disk, leaving=leaving):
        while (response := await upload(full_records, 0)).status == 200:
            pass
        await refused(response)
        async with full_records.client.get(f"/api/storage/assets/{before}", headers=user_headers()) as read:
            assert await read.read() == PNG
    await assert_in_step(full_records)
    await full_records.asset()


@pytest.mark.parametrize("leaving", [*range(0, 64 * 1024, 4096), 128 * 1024])
async def test_records_and_objects_on_one_full_disk_stay_in_step(full_both: Running, disk: Path, leaving: int) -> None:
    with filled(disk, leaving=leaving):
        for _ in range(30):
            response = await upload(full_both, 3000)
            if response.status != 200:
                await refused(response)
                break
    await assert_in_step(full_both)
    await full_both.asset()


async def assert_in_step(gateway: Running) -> None:
    """Every record has its object and every object its record, at the latest after the sweeper came by."""
    gateway.clock.move(24 * 3600 + 1)
    await gateway.parts.sweeper.sweep()
    found = await gateway.parts.sweeper.orphans(remove=False)
    assert (found.strays, found.lost, drafts(gateway)) == ([], [], [])
    assert found.objects == found.records
