"""An S3 storage on a server that misbehaves when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gateway.clock import system_clock
from gateway.storage import Stored
from gateway.storage.s3 import S3Storage, open_storage
from policies.model import Grant
from tests.support.s3_faults import FaultyS3, etag_of
from tests.support.storage import aws_environment, content, grant_for, settings_for

KEY = "ab/abcdef"
DATA = content("faults", 300_000)
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@asynccontextmanager
async def opened(server: FaultyS3, **s3: Any) -> AsyncIterator[S3Storage]:
    """Open the server's bucket; between attempts no time is lost unless a test says so."""
    with aws_environment(KEYS):
        storage = await open_storage(settings_for(server.url, **{"retry_delay": 0.0, **s3}), system_clock)
    try:
        yield storage
    finally:
        await storage.close()


def grant(version: str | None = None, key: str = KEY) -> Grant:
    return grant_for(Stored(key, len(DATA), etag_of(DATA), 0.0), version=version)


async def until(is_so: Callable[[], bool]) -> None:
    """Let the other tasks run until it is so."""
    while not is_so():  # noqa: ASYNC110 - what is looked at sets no event
        await asyncio.sleep(0)
