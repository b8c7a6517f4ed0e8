from __future__ import annotations

import asyncio

import pytest

from gateway.errors import AssetgateError, StorageFault, StorageFull, StorageTimeout, StorageUnavailable
from gateway.storage.s3 import S3Storage
from tests.storage.faulty import opened, until
from tests.support.s3_faults import Fault, FaultyS3, raw, refuse, reset
from tests.support.storage import put

KEY = "ab/new"

FAILURES: dict[str, tuple[type[AssetgateError], Fault]] = {
    "SlowDown": (StorageUnavailable, refuse(503, "SlowDown")),
    "reset": (StorageUnavailable, reset),
    "full": (StorageFull, refuse(507, "InsufficientStorage")),
    "over the quota": (StorageFull, refuse(403, "QuotaExceeded")),
    "refused": (StorageFault, refuse(403, "AccessDenied")),
    "late": (StorageTimeout, refuse(400, "RequestTimeout")),
    "hanging": (StorageTimeout, raw(b"")),
}


@pytest.mark.parametrize(("error", "fault"), FAILURES.values(), ids=FAILURES)
async def test_a_write_that_fails_leaves_nothing_even_if_the_server_kept_it(
    server: FaultyS3, error: type[AssetgateError], fault: Fault
) -> None:
    async with opened(server, attempts=1, idle_timeout=1.0) as storage:
        server.puts.extend([fault] * 2)  # aiohttp repeats what an old connection broke under
        with pytest.raises(error) as raised:
            await put(storage, KEY, b"bytes")
        assert type(raised.value) is error
        server.puts.clear()
        assert KEY not in server.objects
        stored = await put(storage, KEY, b"bytes")
        assert stored.size == 5


async def test_a_write_is_repeated(server: FaultyS3) -> None:
    async with opened(server, attempts=2) as storage:
        server.puts.append(refuse(503, "SlowDown"))
        assert (await put(storage, KEY, b"bytes")).size == 5
    assert server.objects[KEY] == b"bytes"


async def test_an_object_that_was_kept_short_is_noticed_and_removed(server: FaultyS3, faulty: S3Storage) -> None:
    server.keep = lambda body: body[:-1]
    with pytest.raises(StorageFault):
        await put(faulty, KEY, b"bytes")
    assert KEY not in server.objects


async def test_a_write_cancelled_when_the_server_has_it_is_undone(server: FaultyS3, faulty: S3Storage) -> None:
    task = asyncio.create_task(put(faulty, KEY, b"bytes"))
    await until(lambda: KEY in server.objects)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert KEY not in server.objects


async def test_closing_waits_for_what_is_being_undone(server: FaultyS3) -> None:
    async with opened(server) as storage:
        task = asyncio.create_task(put(storage, KEY, b"bytes"))
        await until(lambda: KEY in server.objects)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # of one who does not want to wait
        await asyncio.gather(task, return_exceptions=True)
    assert KEY not in server.objects
