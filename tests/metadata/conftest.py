"""The store that a contract test runs on: once for every member of the family."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.families import members
from gateway.metadata import Metadata
from tests.support.metadata import SANDBOXES


@pytest.fixture(params=members("metadata"))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Metadata]:
    if request.param not in SANDBOXES:
        pytest.fail(f"metadata member {request.param!r} has no sandbox in tests/support/metadata.py")
    async with SANDBOXES[request.param](tmp_path) as metadata:
        yield metadata
