"""Storages that several test modules of this family are tried on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.storage.s3 import S3Storage
from tests.storage.faulty import DATA, KEY, opened
from tests.support.s3_faults import FaultyS3, faulty_s3


@pytest.fixture
async def server() -> AsyncIterator[FaultyS3]:
    """A server with one object that answers rightly until told otherwise."""
    async with faulty_s3() as running:
        running.objects[KEY] = DATA
        yield running


@pytest.fixture
async def faulty(server: FaultyS3) -> AsyncIterator[S3Storage]:
    """An S3 storage on that server."""
    async with opened(server) as storage:
        yield storage
