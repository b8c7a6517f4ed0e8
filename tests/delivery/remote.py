"""A storage far away: it counts what is asked of it, and waits, fails or breaks off where a test says so."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from gateway.clock import Clock, system_clock
from gateway.delivery.slices import Slices, open_slices
from gateway.errors import StorageUnavailable
from gateway.settings import Cache
from gateway.storage import Buffer, Stored
from gateway.storage.memory import MemoryStorage
from policies.model import Grant
from tests.support.storage import content, grant_for

KIB = 1024
MIB = 1024 * KIB
SLICE = 64 * KIB  # the smallest, so that objects of many slices are small
STEP = 16 * KIB


class Remote(MemoryStorage):
    """A real storage whose bytes come step by step, in a buffer that is used again for the next ones."""

    resident: ClassVar[None] = None  # type: ignore[assignment]  # its bytes lie elsewhere

    def __init__(self, clock: Clock = system_clock, *, slice_bytes: int = SLICE, step: int = STEP) -> None:
        super().__init__(clock)
        self.asked: list[range] = []
        self.sent: Counter[tuple[str, int]] = Counter()
        self.open = 0
        self.hold_at: int | None = None
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()
        self.fail_at: int | None = None
        self._slice_bytes = slice_bytes
        self._step = step

    @asynccontextmanager
    async def read(self, grant: Grant, wanted: range) -> AsyncIterator[AsyncIterator[Buffer]]:
        self.asked.append(wanted)
        async with super().read(grant, wanted) as buffers:
            self.open += 1
            paced = self._paced(buffers, grant.subject.locator, wanted.start)
            try:
                yield paced
            finally:
                await paced.aclose()
                self.open -= 1

    async def close(self) -> None:
        """Stay as it is: what is far away does not end with us."""

    def fetched(self, key: str) -> dict[int, int]:
        """How many bytes of each slice of an object were sent."""
        return {index: count for (name, index), count in self.sent.items() if name == key}

    async def _paced(self, buffers: AsyncIterator[Buffer], key: str, at: int) -> AsyncGenerator[Buffer, None]:
        reused = bytearray(self._step)
        async for buffer in buffers:
            for start in range(0, len(buffer), self._step):
                piece = buffer[start : start + self._step]
                await self._meet(at)
                reused[: len(piece)] = piece
                self.sent[key, at // self._slice_bytes] += len(piece)
                at += len(piece)
                yield memoryview(reused)[: len(piece)]
                await asyncio.sleep(0)

    async def _meet(self, at: int) -> None:
        if self.hold_at is not None and at >= self.hold_at:
            self.held.set()
            await self.go_on.wait()
        if self.fail_at is not None and at >= self.fail_at:
            raise StorageUnavailable


async def at_rest(remote: Remote) -> None:
    """Wait until nothing is read from it: what was nearly done when its reader left is finished all the same."""
    while remote.open:  # noqa: ASYNC110 - turns of the loop are what it waits for
        await asyncio.sleep(0)


def cache_settings(folder: Path, **changes: int) -> Cache:
    numbers = {
        "max_bytes": 64 * MIB,
        "memory_bytes": 16 * MIB,
        "slice_bytes": SLICE,
        "read_ahead": 4 * SLICE,
        "admit_after": 1,
        **changes,
    }
    return Cache.model_validate({"path": str(folder), **numbers})


@asynccontextmanager
async def slices_over(
    remote: MemoryStorage, folder: Path, *, clock: Clock = system_clock, patience: float = 60.0, **changes: int
) -> AsyncIterator[Slices]:
    opened = await open_slices(remote, cache_settings(folder, **changes), clock, patience)
    try:
        yield opened
    finally:
        await opened.close()


def object_in(remote: MemoryStorage, key: str, size: int, seed: str = "") -> tuple[Grant, bytes]:
    """Put an object there, and get a grant for it as the records' own ones are."""
    data = content(seed or key, size)
    return sized(remote.keep(key, data)), data


def sized(stored: Stored) -> Grant:
    grant = grant_for(stored)
    return replace(grant, subject=replace(grant.subject, size=stored.size))


def files_in(folder: Path) -> list[Path]:
    """The slices and parts in a cache's folder."""
    return [path for path in folder.glob("??/*") if path.is_file()]


def parts_in(folder: Path) -> list[Path]:
    return [path for path in files_in(folder) if path.suffix == ".part"]
