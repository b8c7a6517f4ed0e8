"""The disk of the slices: full, it serves on without keeping; what is damaged on it is noticed and fetched again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple

import pytest
import pytest_asyncio

from gateway.delivery.slice_files import object_of
from gateway.storage import Stored
from tests.delivery.remote import SLICE, Remote, parts_in, slices_over
from tests.delivery.test_slices_disk import DAMAGES, small_disk, small_files
from tests.support.cached import OWNER, asset_in, before, download
from tests.support.engines import LANES
from tests.support.gateway import Running
from tests.support.raw import Answer
from tests.support.storage import content, get, grant_for

LARGE: Final = content("large", 40 * SLICE)  # more than the disk holds
SMALL: Final = content("small", SLICE // 2)
DATA: Final = content("damaged", 3 * SLICE + 123)
SECOND: Final = (*OWNER, ("Range", f"bytes={SLICE}-{2 * SLICE - 1}"))


def bodies(answers: list[Answer]) -> list[tuple[int, bytes]]:
    return [(answer.status, answer.body) for answer in answers]


@pytest.mark.parametrize("limited", [small_disk, small_files])
async def test_a_full_disk_serves_on_without_keeping(
    lane: str, limited: Callable[[Path], AbstractContextManager[None]], tmp_path: Path
) -> None:
    remote = Remote()
    with limited(tmp_path):
        async with before(remote, lane, tmp_path) as gateway:
            large, small = [await asset_in(remote, gateway, data) for data in (LARGE, SMALL)]
            answers = await asyncio.gather(*(download(gateway, large.path) for _ in range(5)))
            assert bodies(answers) == [(200, LARGE)] * 5
            assert parts_in(tmp_path) == []
            remote.asked.clear()
            for _ in range(2):
                assert bodies([await download(gateway, small.path)]) == [(200, SMALL)]
            assert len(remote.asked) == 2  # nothing was kept
            span = (*OWNER, ("Range", f"bytes={SLICE - 5}-{2 * SLICE}"))
            assert bodies([await download(gateway, large.path, span)]) == [(206, LARGE[SLICE - 5 : 2 * SLICE + 1])]
            await gateway.parts.storage.delete([large.object_key])
            gateway.clock.move(60)
            remote.asked.clear()
            for _ in range(3):
                assert bodies([await download(gateway, small.path)]) == [(200, SMALL)]
            assert len(remote.asked) == 1  # there is room again


async def test_a_folder_that_is_taken_away_serves_on_without_keeping(lane: str, tmp_path: Path) -> None:
    remote, folder = Remote(), tmp_path / "cache"
    async with before(remote, lane, folder) as gateway:
        read, unread = [await asset_in(remote, gateway, DATA) for _ in range(2)]
        assert (await download(gateway, read.path)).body == DATA
        shutil.rmtree(folder)
        for asset in (unread, read, unread):
            assert (await download(gateway, asset.path)).body == DATA
    assert not folder.exists()


class Disk(NamedTuple):
    gateway: Running
    remote: Remote
    folder: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=LANES)
async def disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Disk]:
    """A gateway that runs on while slices are damaged."""
    remote, folder = Remote(), tmp_path_factory.mktemp("slices")
    async with before(remote, request.param, folder) as gateway:
        yield Disk(gateway, remote, folder)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", DAMAGES)
async def test_a_damaged_slice_is_noticed_and_fetched_again(disk: Disk, name: str) -> None:
    """Another process has fetched them, and is gone before they are damaged."""
    gateway, remote, folder = disk
    asset = await asset_in(remote, gateway, DATA)
    async with slices_over(remote, folder) as other:
        await get(other, grant_for(Stored(asset.object_key, len(DATA), asset.object_version, 0.0)), range(len(DATA)))
    [second] = folder.glob(f"*/{object_of(asset.object_key).hex()}*-00000001")
    DAMAGES[name](second)
    remote.asked.clear()
    for lines, data in ((SECOND, DATA[SLICE : 2 * SLICE]), (OWNER, DATA), (SECOND, DATA[SLICE : 2 * SLICE])):
        assert (await download(gateway, asset.path, lines)).body == data
    assert remote.asked == [range(SLICE, 2 * SLICE)]
    assert second.read_bytes().startswith(DATA[SLICE : 2 * SLICE])
