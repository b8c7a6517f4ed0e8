"""Time and randomness, handed in as arguments so that no test waits for either."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], float]  # seconds since 1970
Randomness = Callable[[int], bytes]  # that many random bytes

system_clock: Clock = time.time
system_randomness: Randomness = secrets.token_bytes


def milliseconds(seconds: float) -> int:
    """Turn seconds since 1970 into the whole milliseconds that records hold."""
    return int(seconds * 1000)


def iso(moment: int) -> str:
    """Write milliseconds since 1970 as JavaScript's `toISOString` does: `2026-11-22T19:46:57.000Z`."""
    return f"{(_EPOCH + timedelta(milliseconds=moment)).isoformat(timespec='milliseconds')[:-6]}Z"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
