"""Keeps the records in the memory of this process, for tests and trials: SQLite without a file."""

from __future__ import annotations

import functools

from gateway.clock import Clock
from gateway.metadata import Metadata
from gateway.metadata.lanes import Lane
from gateway.metadata.queries import SqlMetadata
from gateway.metadata.sqlite import SqliteDriver, connect
from gateway.settings import Settings


async def open_metadata(settings: Settings, clock: Clock) -> Metadata:  # noqa: ARG001 - nothing in them concerns it
    """Open an empty store of the newest shape; closing it forgets everything."""
    lane = await Lane.open([functools.partial(connect, ":memory:")])
    metadata = SqlMetadata(SqliteDriver(lane, lane), clock)
    await metadata.upgrade()
    return metadata
