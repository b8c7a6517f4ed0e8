"""A fresh storage for each member of the family, and what tests need to read from one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from gateway.clock import Clock, system_clock
from gateway.families import member
from gateway.settings import Settings
from gateway.settings.reading import defaults
from gateway.storage import Storage, Stored
from policies.engine import decide
from policies.model import (
    ANONYMOUS,
    Action,
    Effect,
    Grant,
    Question,
    Reason,
    State,
    Subject,
    Verdict,
    Visibility,
)
from tests.support.servers.s3 import S3Server

# The server is there for those that need one.
Sandbox = Callable[[Path, Clock, S3Server], AbstractAsyncContextManager[Storage]]
NEED_A_SERVER = {"s3"}


@asynccontextmanager
async def file_sandbox(
    folder: Path, clock: Clock = system_clock, server: S3Server | None = None
) -> AsyncIterator[Storage]:
    async with _opened("file", f"file:///{folder / 'objects'}", clock) as storage:
        yield storage


@asynccontextmanager
async def memory_sandbox(
    folder: Path, clock: Clock = system_clock, server: S3Server | None = None
) -> AsyncIterator[Storage]:
    async with _opened("memory", "memory://", clock) as storage:
        yield storage


@asynccontextmanager
async def s3_sandbox(folder: Path, clock: Clock, server: S3Server) -> AsyncIterator[Storage]:
    """Open an empty bucket of the server, our keys below a prefix."""
    with aws_environment(server.environment):
        url = server.storage_url(server.create_bucket(), "some/prefix")
        async with _opened("s3", url, clock) as storage:
            yield storage


@contextmanager
def aws_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these AWS variables and nothing else of AWS: no profile, no machine's role."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in kept:
        del os.environ[name]
    nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    os.environ.update({**nothing, "AWS_EC2_METADATA_DISABLED": "true", **variables})
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(kept)


class Runway:
    """A `Landing` with memory for one object, or none in every other stretch of it."""

    def __init__(self, size: int, *, holes: int = 0) -> None:
        self.landed_at: list[range] = []
        self._memory = memoryview(bytearray(size))
        self._holes = holes  # bytes of each stretch

    def room(self, position: int) -> memoryview | None:
        if not self._holes:
            return self._memory[position:]
        stretch = position // self._holes
        return None if stretch % 2 else self._memory[position : (stretch + 1) * self._holes]

    def landed(self, position: int, count: int) -> None:
        self.landed_at.append(range(position, position + count))

    def check(self, data: bytes, wanted: range) -> None:
        """Prove that what landed is of the object, within what was wanted, and that nothing else was touched."""
        for landed in self.landed_at:
            assert wanted.start <= landed.start < landed.stop <= wanted.stop
            assert self._memory[landed.start : landed.stop] == data[landed.start : landed.stop]
        touched = {position for landed in self.landed_at for position in landed}
        assert not any(byte for position, byte in enumerate(self._memory) if position not in touched)


# A member of the family that is not in here fails the contract.
SANDBOXES: dict[str, Sandbox] = {"file": file_sandbox, "memory": memory_sandbox, "s3": s3_sandbox}


def settings_for(storage: str, **s3: Any) -> Settings:
    under = defaults()
    return Settings.model_validate({**under, "storage": storage, "s3": {**under["s3"], **s3}})


@asynccontextmanager
async def _opened(name: str, url: str, clock: Clock) -> AsyncIterator[Storage]:
    storage: Storage = await member("storage", name).open_storage(settings_for(url), clock)
    try:
        yield storage
    finally:
        await storage.close()


def grant_for(stored: Stored, *, version: str | None = None, action: Action = Action.READ) -> Grant:
    """Get a grant for an object the only way there is: by a decision, here of a rule that says yes to all."""
    subject = Subject(
        "an-asset",
        "user:u_1",
        Visibility.PRIVATE,
        State.READY,
        locator=stored.key,
        version=stored.version if version is None else version,
    )
    return decide(Question(ANONYMOUS, action, subject, None, 0.0), [_yes])


def _yes(question: Question) -> Verdict:
    return Verdict(Effect.ALLOW, Reason.RULE_ALLOWED)


def content(seed: str, size: int) -> bytes:
    """Make bytes that are the same for the same seed, and show every shift."""
    return hashlib.shake_128(seed.encode()).digest(size)


async def put(storage: Storage, key: str, data: bytes, step: int = 64 * 1024) -> Stored:
    async with storage.create(key, "image/png") as sink:
        for start in range(0, len(data), step):
            await sink.write(data[start : start + step])
        return await sink.commit()


async def get(storage: Storage, grant: Grant, wanted: range) -> bytes:
    async with storage.read(grant, wanted) as buffers:
        return b"".join([bytes(buffer) async for buffer in buffers])


async def keys(storage: Storage, after: str = "") -> list[str]:
    return [stored.key async for stored in storage.list(after)]
