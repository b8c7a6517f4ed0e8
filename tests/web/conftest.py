"""What the tests over HTTP share: one gateway for each combination of engines, running for a whole module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.engines import COMBINATIONS, Overrides
from tests.support.gateway import Running, running


@pytest.fixture(scope="module")
def more_settings() -> Overrides:
    """What a module wants set besides; it overrides this."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=COMBINATIONS, ids=str)
async def engines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, more_settings: Overrides
) -> AsyncIterator[Running]:
    """A gateway on every combination in turn; tests that use it run in its loop: `asyncio(loop_scope="module")`."""
    settings = request.param.settings(tmp_path_factory.mktemp("engines"), request.getfixturevalue)
    async with running({**settings, **more_settings}) as gateway:
        yield gateway
