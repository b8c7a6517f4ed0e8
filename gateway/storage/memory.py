"""Objects in this process's own memory: for trying things out and for tests, gone when it ends."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.clock import Clock
from gateway.errors import StorageFault
from gateway.settings import Settings
from gateway.storage import Buffer, Sink, Stored
from policies.model import Action, Grant

STEP = 256 * 1024  # bytes of one buffer, as the files hand them out


async def open_storage(settings: Settings, clock: Clock) -> MemoryStorage:  # noqa: ARG001 - what every member takes
    return MemoryStorage(clock)


class MemoryStorage:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._objects: dict[str, tuple[Stored, bytes]] = {}
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def read(self, grant: Grant, wanted: range) -> AsyncIterator[AsyncIterator[Buffer]]:
        buffers = _steps(self._view(grant, wanted))
        try:
            yield buffers
        finally:
            await buffers.aclose()

    def resident(self, grant: Grant, wanted: range) -> memoryview | None:
        try:
            return self._view(grant, wanted)
        except StorageFault:
            return None

    @asynccontextmanager
    async def create(self, key: str, media_type: str) -> AsyncIterator[Sink]:  # noqa: ARG002 - the record has the type
        yield _MemorySink(self, key)

    async def stat(self, key: str) -> Stored | None:
        found = self._objects.get(key)
        return found[0] if found else None

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._objects.pop(key, None)

    async def list(self, after: str = "") -> AsyncIterator[Stored]:
        # Code points sort as their UTF-8 bytes do.
        for key in sorted(key for key in self._objects if key > after):
            if key in self._objects:
                yield self._objects[key][0]

    async def copy(self, source_key: str, key: str) -> Stored:
        if source_key not in self._objects:
            raise StorageFault
        return self.keep(key, self._objects[source_key][1])

    async def close(self) -> None:
        self._objects.clear()

    def keep(self, key: str, data: bytes) -> Stored:
        """Take a whole object in, as `Sink.commit` does."""
        stored = Stored(key, len(data), f"{next(self._numbers)}-{len(data):x}", self._clock())
        self._objects[key] = (stored, data)
        return stored

    def _view(self, grant: Grant, wanted: range) -> memoryview:
        if grant.action is not Action.READ:
            raise StorageFault("The grant is for another action")
        stored, data = self._objects.get(grant.subject.locator, (None, b""))
        if stored is None or grant.subject.version not in {"", stored.version} or wanted.stop > stored.size:
            raise StorageFault
        return memoryview(data)[wanted.start : wanted.stop]


class _MemorySink:
    def __init__(self, storage: MemoryStorage, key: str) -> None:
        self._storage = storage
        self._key = key
        self._gathered = bytearray()

    async def write(self, data: Buffer) -> None:
        self._gathered += data

    async def commit(self) -> Stored:
        return self._storage.keep(self._key, bytes(self._gathered))


async def _steps(view: memoryview) -> AsyncGenerator[memoryview, None]:
    for start in range(0, len(view), STEP):
        yield view[start : start + STEP]
