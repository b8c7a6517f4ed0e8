from __future__ import annotations

import asyncio
import hashlib
import math
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from gateway.clock import system_clock
from gateway.errors import AssetgateError, CannotStart, StorageFault, StorageTimeout, StorageUnavailable
from gateway.families import member
from gateway.storage import Stored
from gateway.storage.s3 import S3Storage, open_storage
from gateway.storage.s3_writes import MOST_PARTS, PART, part_size
from policies.model import Action
from tests.storage.faulty import KEYS, opened
from tests.support.s3_faults import FaultyS3, answer_with, refuse
from tests.support.servers import processes
from tests.support.servers.s3 import S3Server
from tests.support.storage import aws_environment, content, get, grant_for, keys, put, settings_for

KEY = "ab/abcdef"
MIB = 1024 * 1024
ODD_KEYS = ["ab/zé 中😀", "ab/a+b&c=d%20e", "ab/!$'(),;:@~^`{}|[]<>*"]


@asynccontextmanager
async def opened_on(server: S3Server, bucket: str, prefix: str = "", **s3: Any) -> AsyncIterator[S3Storage]:
    with aws_environment(server.environment):
        storage = await open_storage(settings_for(server.storage_url(bucket, prefix), **s3), system_clock)
    try:
        yield storage
    finally:
        await storage.close()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.create_bucket()


@pytest.fixture
async def storage(s3: S3Server, bucket: str) -> AsyncIterator[S3Storage]:
    async with opened_on(s3, bucket) as opened:
        yield opened


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 3 * PART + 12345])
async def test_objects_of_several_parts_come_back(storage: S3Storage, size: int) -> None:
    data = content("parts", size)
    stored = await put(storage, KEY, data, step=700_001)
    assert stored.size == size
    assert await get(storage, grant_for(stored), range(size)) == data
    assert await get(storage, grant_for(stored), range(PART - 5, size)) == data[PART - 5 :]
    assert await storage.discard_unfinished(math.inf) == 0


def test_parts_are_of_one_size_as_long_as_they_last_and_few_enough_for_half_a_terabyte() -> None:
    sizes = [part_size(number) for number in range(1, MOST_PARTS + 1)]
    assert set(sizes[:5000]) == {PART}
    assert sizes == sorted(sizes)
    assert sum(sizes) > 500 * 1024**3
    assert sizes[-1] <= 256 * MIB


@pytest.mark.parametrize("turns", [0, 1, 5, 20, 60, 150, 400, 1000])
async def test_an_upload_of_parts_cancelled_at_any_moment_leaves_nothing(storage: S3Storage, turns: int) -> None:
    task = asyncio.create_task(put(storage, KEY, content("cancelled", 2 * PART + 5), step=MIB))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError)
    assert await keys(storage) == []
    assert await storage.discard_unfinished(math.inf) == 0


async def test_fifty_cancelled_uploads_leave_the_connections_to_others(s3: S3Server, bucket: str) -> None:
    async with opened_on(s3, bucket, write_connections=2) as storage:
        done: list[str] = []  # a quick server may be done before we cancel
        for turns in range(50):
            key = f"{turns:02}/cancelled"
            task = asyncio.create_task(put(storage, key, b"small"))
            for _ in range(turns * 3):
                await asyncio.sleep(0)
            if not task.cancel():
                done.append(key)
            await asyncio.gather(task, return_exceptions=True)
        assert len(done) < 25
        assert await keys(storage) == done
        stored = await put(storage, KEY, b"small")
        assert await keys(storage) == [*done, stored.key]


async def test_only_uploads_older_than_asked_for_are_discarded(s3: S3Server, bucket: str) -> None:
    client = s3.client()
    for key in ("ours/ab/one", "ours/ab/two", "theirs/ab/three"):
        client.create_multipart_upload(Bucket=bucket, Key=key)
    async with opened_on(s3, bucket, "ours") as storage:
        assert await storage.discard_unfinished(system_clock() - 3600) == 0
        assert await storage.discard_unfinished(system_clock() + 3600) == 2
    left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [upload["Key"] for upload in left] == ["theirs/ab/three"]
    client.close()


async def test_prefixes_of_one_bucket_know_nothing_of_each_other(s3: S3Server, bucket: str) -> None:
    async with opened_on(s3, bucket, "one") as one, opened_on(s3, bucket, "one-more") as other:
        stored = await put(one, KEY, b"ours")
        assert await other.stat(KEY) is None
        assert await keys(other) == []
        await other.delete([KEY])
        assert await get(one, grant_for(stored), range(4)) == b"ours"


async def test_a_list_passes_over_what_is_not_ours(s3: S3Server, bucket: str, storage: S3Storage) -> None:
    client = s3.client()
    for key in ("folder/", ".hidden", "ab/.hidden"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    client.close()
    await put(storage, KEY, b"ours")
    assert await keys(storage) == [KEY]


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_every_key_is_signed_as_the_server_reads_it(storage: S3Storage, key: str) -> None:
    stored = await put(storage, key, key.encode())
    assert await get(storage, grant_for(stored), range(stored.size)) == key.encode()
    assert await asyncio.to_thread(_fetch, await storage.presign(grant_for(stored), expires_in=60)) == key.encode()


@pytest.mark.parametrize("key", ["", "../outside", "ab//c", "/ab", "ab/\ud800", "k" * 1100])
async def test_a_key_that_is_none_is_sent_nowhere(server: FaultyS3, faulty: S3Storage, key: str) -> None:
    grant = grant_for(Stored(key, 1, "", 0.0))
    with pytest.raises(StorageFault):
        await get(faulty, grant, range(1))
    with pytest.raises(StorageFault):
        await put(faulty, key, b"x")
    with pytest.raises(StorageFault):
        await faulty.delete([key])
    with pytest.raises(StorageFault):
        await faulty.presign(grant, expires_in=60)
    assert server.gets == []


async def test_more_are_deleted_than_one_request_may_name(storage: S3Storage) -> None:
    kept = await put(storage, "zz/kept", b"x")
    there = [f"ab/{number:04}" for number in (0, 999, 1000, 1009)]
    await asyncio.gather(*(put(storage, key, b"x") for key in there))
    await storage.delete([f"ab/{number:04}" for number in range(1010)])
    assert [stored async for stored in storage.list()] == [kept]


async def test_a_url_of_the_storage_reads_one_object_with_the_headers_asked_for(storage: S3Storage) -> None:
    stored = await put(storage, KEY, b"to be read")
    url = await storage.presign(
        grant_for(stored), expires_in=60, media_type="image/webp", disposition='attachment; filename="a b.png"'
    )
    headers, body = await asyncio.to_thread(_get, url)
    assert body == b"to be read"
    assert headers["Content-Type"] == "image/webp"
    assert headers["Content-Disposition"] == 'attachment; filename="a b.png"'
    for spoiled in (url.replace("/abcdef", "/abcdeg"), url.replace("webp", "png")):
        with pytest.raises(HTTPError):
            await asyncio.to_thread(_get, spoiled)
    with pytest.raises(HTTPError):
        await asyncio.to_thread(_get, url, "DELETE")
    assert await storage.stat(KEY) == stored
    with pytest.raises(StorageFault):
        await storage.presign(grant_for(stored, action=Action.INFO), expires_in=60)


def _get(url: str, method: str = "GET") -> tuple[Any, bytes]:
    with urlopen(Request(url, method=method), timeout=10) as answer:
        return answer.headers, answer.read()


def _fetch(url: str) -> bytes:
    return _get(url)[1]


async def test_two_hundred_aborted_downloads_leave_a_storage_that_reads(s3: S3Server, bucket: str) -> None:
    async with opened_on(s3, bucket, read_connections=4) as storage:
        data = content("aborted", 3 * MIB)
        stored = await put(storage, KEY, data)

        async def abort() -> None:
            async with storage.read(grant_for(stored), range(stored.size)) as buffers:
                await anext(buffers)

        for _ in range(25):
            await asyncio.gather(*(abort() for _ in range(8)))
        assert await get(storage, grant_for(stored), range(stored.size)) == data


async def test_a_large_object_goes_up_and_down_in_little_memory(storage: S3Storage) -> None:
    piece = content("piece", MIB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent, received = hashlib.sha256(), hashlib.sha256()
    async with storage.create(KEY, "video/mp4") as sink:
        for _ in range(160):
            sent.update(piece)
            await sink.write(piece)
        stored = await sink.commit()
    async with storage.read(grant_for(stored), range(stored.size)) as buffers:
        async for buffer in buffers:
            received.update(buffer)
    assert received.digest() == sent.digest()
    unit = 1024 if sys.platform == "darwin" else 1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit < 80 * 1024


# Before the first look into the bucket, and what it can tell.


@pytest.mark.parametrize("url", ["s3://", "s3://media?region", "s3://media?endpoint_url=nowhere"])
async def test_a_malformed_url_does_not_start(url: str) -> None:
    with pytest.raises(CannotStart, match=r"^storage: "):
        await open_storage(settings_for(url), system_clock)


async def test_a_bucket_that_is_not_there_does_not_start(s3: S3Server) -> None:
    with pytest.raises(CannotStart, match="no such bucket"):
        async with opened_on(s3, "no-such-bucket"):
            pytest.fail("it was opened")


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
async def test_refused_credentials_do_not_start(s3: S3Server, bucket: str, name: str) -> None:
    with aws_environment({**s3.environment, name: "wrong"}), pytest.raises(CannotStart, match=r"^storage: .*key"):
        await open_storage(settings_for(s3.storage_url(bucket)), system_clock)


@pytest.mark.parametrize(
    "environment",
    [{}, {"AWS_ACCESS_KEY_ID": "alone"}, {**KEYS, "AWS_PROFILE": "unknown"}],
    ids=["none", "half of them", "an unknown profile"],
)
async def test_missing_credentials_do_not_start(server: FaultyS3, environment: dict[str, str]) -> None:
    with aws_environment(environment), pytest.raises(CannotStart, match=r"^storage: "):
        await open_storage(settings_for(server.url), system_clock)


async def test_without_its_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gateway.storage.s3")
    monkeypatch.setitem(sys.modules, "aiobotocore.config", None)
    with pytest.raises(CannotStart, match=r"pip install 'assetgate\[s3\]'"):
        member("storage", "s3")


LOOKS: dict[str, tuple[Any, type[AssetgateError]]] = {
    "SlowDown": (refuse(503, "SlowDown"), StorageUnavailable),
    "a balancer without servers": (answer_with(404, lambda _: b"<h1>?</h1>", Content_Length="10"), StorageFault),
    "a guard in front": (answer_with(403, lambda _: b"<h1>?</h1>", Content_Length="10"), StorageFault),
}


@pytest.mark.parametrize(("listing", "error"), LOOKS.values(), ids=LOOKS)
async def test_what_may_pass_is_no_fault_of_the_settings(
    server: FaultyS3, listing: Any, error: type[AssetgateError]
) -> None:
    server.listing = listing
    with pytest.raises(error):
        async with opened(server, attempts=1):
            pytest.fail("it was opened")


async def test_a_server_that_is_away_is_no_fault_of_the_settings(server: FaultyS3) -> None:
    await server.stop()
    with pytest.raises(StorageUnavailable):
        async with opened(server, attempts=1):
            pytest.fail("it was opened")
    await server.start()
    async with opened(server, attempts=1):
        pass


async def test_a_server_that_lists_in_another_order_is_not_believed(server: FaultyS3, faulty: S3Storage) -> None:
    facts = "<Size>1</Size><ETag>x</ETag><LastModified>2026-11-22T00:00:00Z</LastModified>"
    entries = "".join(f"<Contents><Key>{key}</Key>{facts}</Contents>" for key in ("b/2", "b/1"))
    body = f"<ListBucketResult>{entries}</ListBucketResult>".encode()
    server.listing = answer_with(200, lambda _: body, Content_Length=str(len(body)), Content_Range=None)
    with pytest.raises(StorageFault):
        await keys(faulty)


# A real server, stopped. Its end is that of a process: what was on its way is lost.


async def test_a_server_killed_in_the_middle_of_a_download(own_swift: S3Server) -> None:
    bucket = own_swift.create_bucket()
    async with opened_on(own_swift, bucket, attempts=2, retry_delay=0.01) as storage:
        data = content("killed", 24 * MIB)
        stored = await put(storage, KEY, data)
        received = bytearray()
        with pytest.raises(StorageUnavailable):
            await _read_and_kill(storage, stored, received, own_swift)
        assert received == data[: len(received)]
        assert len(received) < len(data)
        with pytest.raises(StorageUnavailable):
            await get(storage, grant_for(stored), range(9))
        restart(own_swift)
        assert await get(storage, grant_for(stored), range(len(data))) == data


async def _read_and_kill(storage: S3Storage, stored: Stored, received: bytearray, server: S3Server) -> None:
    async with storage.read(grant_for(stored), range(stored.size)) as buffers:
        async for buffer in buffers:
            received += buffer
            server.processes["proxy"].kill()


async def test_a_server_killed_in_the_middle_of_an_upload(own_swift: S3Server) -> None:
    bucket = own_swift.create_bucket()
    async with opened_on(own_swift, bucket, attempts=1) as storage:
        with pytest.raises(AssetgateError) as raised:
            await _write_and_kill(storage, own_swift)
        assert raised.type in {StorageUnavailable, StorageTimeout}
        restart(own_swift)
        assert await keys(storage) == []
        assert await storage.discard_unfinished(math.inf) == 1  # nobody was there to abort it
        stored = await put(storage, KEY, b"again")
        assert await get(storage, grant_for(stored), range(5)) == b"again"


async def _write_and_kill(storage: S3Storage, server: S3Server) -> None:
    async with storage.create(KEY, "video/mp4") as sink:
        await sink.write(content("killed", PART))
        await sink.write(content("killed", PART))
        server.processes["proxy"].kill()
        await sink.write(content("killed", 2 * PART))
        await sink.commit()


async def test_a_server_that_hangs_is_late_and_comes_back(own_swift: S3Server) -> None:
    bucket = own_swift.create_bucket()
    async with opened_on(own_swift, bucket, attempts=1, answer_timeout=0.2, idle_timeout=0.2) as storage:
        stored = await put(storage, KEY, b"here")
        own_swift.processes["proxy"].signal(signal.SIGSTOP)
        with pytest.raises(StorageTimeout):
            await get(storage, grant_for(stored), range(4))
        with pytest.raises(StorageTimeout):
            await storage.stat(KEY)
        own_swift.processes["proxy"].signal(signal.SIGCONT)
        assert await _patiently(storage, stored) == b"here"


async def _patiently(storage: S3Storage, stored: Stored) -> bytes:
    while True:
        try:
            return await get(storage, grant_for(stored), range(stored.size))
        except StorageTimeout:
            pass  # two busy cores may need more than a fifth of a second to wake it


def restart(server: S3Server) -> None:
    """Start the proxy again, on its port."""
    dead = server.processes["proxy"]
    assert isinstance(dead.popen.args, list)
    again = processes.start(dead.name, dead.popen.args[dead.popen.args.index("--") + 1 :], dead.log)
    server.processes["proxy"] = again
    again.wait_until(lambda: processes.answers(f"{server.endpoint_url}/healthcheck"))
