"""What the tests of the cache over HTTP share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.cached import OnS3, on_s3
from tests.support.engines import LANES


@pytest.fixture(params=LANES)
def lane(request: pytest.FixtureRequest) -> str:
    """Each way that a request can take."""
    return str(request.param)


# Slices are received into files, and where objects are read for the first time, into memory.
KEPT = {**{f"{lane}, on the disk": (lane, 1) for lane in LANES}, "express, in memory": ("express", 1000)}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KEPT.values(), ids=KEPT)
async def on_faulty_s3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OnS3]:
    """A gateway for a whole module: what one test leaves behind is what the next one meets."""
    lane, admit_after = request.param
    async with on_s3(lane, tmp_path_factory.mktemp("slices"), admit_after=admit_after) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def faulty(on_faulty_s3: OnS3) -> OnS3:
    """The same with nothing left of the test before that would be one attempt more, or one fewer."""
    await on_faulty_s3.server.stop()
    on_faulty_s3.server.faults.clear()
    await on_faulty_s3.server.start()
    return on_faulty_s3
