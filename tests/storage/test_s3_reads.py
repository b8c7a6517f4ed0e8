from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
import uvloop

from gateway.errors import AssetgateError, StorageFault, StorageTimeout, StorageUnavailable
from gateway.storage import Storage
from gateway.storage.s3 import S3Storage
from tests.storage.faulty import DATA, KEY, grant, opened
from tests.support.s3_faults import (
    Exchange,
    Fault,
    FaultyS3,
    after,
    answer_with,
    close_after,
    drip,
    etag_of,
    faulty_s3,
    hang_after,
    in_chunks,
    raw,
    refuse,
    reset,
    reset_after,
)
from tests.support.storage import Runway, content, get

WANTED = range(1000, 280_000)


async def reset_within_the_head(exchange: Exchange) -> None:
    await exchange.send(exchange.answer()[:20])
    exchange.reset()


async def in_http_1_0(exchange: Exchange) -> None:
    await exchange.send(exchange.answer().replace(b"HTTP/1.1", b"HTTP/1.0") + exchange.wanted)
    exchange.writer.close()


async def with_surplus(exchange: Exchange) -> None:
    await exchange.send(exchange.answer() + exchange.wanted + b"HTTP/1.1 200 OK\r\n\r\n")


async def in_nonsense_chunks(exchange: Exchange) -> None:
    head = exchange.answer(Content_Length=None, Transfer_Encoding="chunked")
    await exchange.send(head + b"5\r\n" + exchange.wanted[:5] + b"\r\nnonsense")


async def read_into(received: bytearray, storage: S3Storage, runway: Runway) -> None:
    async with storage.read_into(grant(), WANTED, runway) as buffers:
        async for buffer in buffers:
            received += buffer


SLOW_DOWN = refuse(503, "SlowDown")
RIGHT: dict[str, list[Fault]] = {
    "none": [],
    "SlowDown": [SLOW_DOWN],
    "SlowDown three times": [SLOW_DOWN] * 3,
    "500, 502 and 429": [refuse(500, "InternalError"), refuse(502, ""), refuse(429, "TooManyRequests")],
    "a reset before the answer": [reset, reset],
    "a reset within the head": [reset_within_the_head],
    "a reset before the first byte": [reset_after(0)],
    "a reset in the middle": [reset_after(100_000)],
    "resets again and again": [reset_after(90_000)] * 3,
    "a reset, and SlowDown to the rest": [reset_after(100_000), SLOW_DOWN],
    "a shorter body than promised": [close_after(100_000)],
    "a shorter body of no stated length": [close_after(100_000, Content_Length=None)],
    "a shorter body in chunks": [in_chunks(lambda body: body[:100_000])],
    "a body of no stated length": [close_after(None, Content_Length=None)],
    "a body in chunks": [in_chunks()],
    "a body in chunks broken off": [close_after(0, Content_Length=None, Transfer_Encoding="chunked")],
    "small pieces": [drip],
    "a connection closed after the answer": [close_after(None)] * 2,
    "early hints": [after(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 500)],
    "an HTTP/1.0 answer": [in_http_1_0],
    "bytes behind the answer": [with_surplus],
    "a signature refused once": [refuse(403, "AccessDenied")],
}


@pytest.mark.parametrize("faults", RIGHT.values(), ids=RIGHT)
async def test_what_can_be_mended_gives_the_right_bytes(server: FaultyS3, faulty: Storage, faults: list[Fault]) -> None:
    server.faults.extend(faults)
    for wanted in (WANTED, range(len(DATA)), range(5, 6)):
        assert await get(faulty, grant(), wanted) == DATA[wanted.start : wanted.stop]
    assert not server.faults


@pytest.mark.parametrize("holes", [0, 50_000], ids=["room for all", "room for a half"])
@pytest.mark.parametrize("faults", RIGHT.values(), ids=RIGHT)
async def test_what_can_be_mended_lands_right(
    server: FaultyS3, faulty: S3Storage, faults: list[Fault], holes: int
) -> None:
    server.faults.extend(faults)
    runway = Runway(len(DATA), holes=holes)
    async with faulty.read_into(grant(), WANTED, runway) as buffers:
        assert b"".join([bytes(buffer) async for buffer in buffers]) == DATA[WANTED.start : WANTED.stop]
    runway.check(DATA, WANTED)
    if not faults:
        assert runway.landed_at


WRONG: dict[str, tuple[type[AssetgateError], list[Fault]]] = {
    "SlowDown for good": (StorageUnavailable, [SLOW_DOWN] * 4),
    "resets for good": (StorageUnavailable, [reset] * 4),
    "late for good": (StorageTimeout, [refuse(504, "")] * 4),
    "another version": (StorageFault, [refuse(412, "PreconditionFailed")]),
    "a wrong ETag": (StorageFault, [answer_with(ETag='"of-another"')]),
    "a weak ETag": (StorageFault, [answer_with(ETag=f'W/"{etag_of(DATA)}"')]),
    "no ETag": (StorageFault, [answer_with(ETag=None)]),
    "missing": (StorageFault, [refuse(404, "NoSuchKey")]),
    "refused": (StorageFault, [refuse(403, "AccessDenied")] * 2),
    "shorter": (StorageFault, [refuse(416, "InvalidRange")]),
    "in another region": (StorageFault, [refuse(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1")]),
    "elsewhere": (StorageFault, [refuse(307, "TemporaryRedirect", Location="http://127.0.0.1:1/")]),
    "the whole instead of the range": (
        StorageFault,
        [answer_with(200, lambda exchange: exchange.data, Content_Length=str(len(DATA)), Content_Range=None)],
    ),
    "another range": (StorageFault, [answer_with(Content_Range=f"bytes 0-278999/{len(DATA)}")]),
    "no range": (StorageFault, [answer_with(Content_Range=None)]),
    "a length that is not the range's": (StorageFault, [answer_with(Content_Length="5", body=lambda _: b"bytes")]),
    "nothing at all": (StorageFault, [answer_with(204, lambda _: b"", Content_Length=None, Content_Range=None)]),
    "garbage": (StorageFault, [raw(b"\x16\x03\x01 this is no HTTP")]),
    "a head without end": (StorageFault, [raw(b"HTTP/1.1 206 P\r\n" + b"X-More: of it\r\n" * 10_000)]),
    "a head of nonsense": (StorageFault, [raw(b"HTTP/1.1 2 0 6\r\nno colon\r\n\r\n")]),
    "two lengths": (StorageFault, [answer_with(content_length="5")]),
    "another protocol": (StorageFault, [raw(b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n")]),
}


@pytest.mark.parametrize(("error", "faults"), WRONG.values(), ids=WRONG)
async def test_what_cannot_be_mended_fails_before_the_first_byte(
    server: FaultyS3, faulty: S3Storage, error: type[AssetgateError], faults: list[Fault]
) -> None:
    server.faults.extend(faults)
    runway = Runway(len(DATA))
    with pytest.raises(error) as raised:
        async with faulty.read_into(grant(), WANTED, runway):
            pytest.fail("it was opened")
    assert type(raised.value) is error
    assert runway.landed_at == []
    assert not server.faults
    assert await get(faulty, grant(), WANTED) == DATA[WANTED.start : WANTED.stop]


BROKEN: dict[str, tuple[type[AssetgateError], list[Fault]]] = {
    "resets for good": (StorageUnavailable, [reset_after(20_000)] * 9),
    "an end that never comes again": (StorageUnavailable, [close_after(100_000), *[reset] * 4]),
    "another version of the rest": (StorageFault, [reset_after(100_000), refuse(412, "PreconditionFailed")]),
    "an ETag of another version": (StorageFault, [reset_after(100_000), answer_with(ETag='"of-another"')]),
    "more than was asked for": (StorageFault, [in_chunks(lambda body: body + b"surplus")]),
    "chunks of nonsense": (
        StorageFault,
        [in_nonsense_chunks],
    ),
}


@pytest.mark.parametrize(("error", "faults"), BROKEN.values(), ids=BROKEN)
async def test_what_breaks_off_for_good_is_never_passed_off_as_complete(
    server: FaultyS3, faulty: S3Storage, error: type[AssetgateError], faults: list[Fault]
) -> None:
    server.faults.extend(faults)
    received, runway = bytearray(), Runway(len(DATA))
    with pytest.raises(error):
        await read_into(received, faulty, runway)
    runway.check(DATA, WANTED)
    assert received == DATA[WANTED.start : WANTED.start + len(received)]
    assert len(received) <= len(WANTED)
    assert not server.faults
    assert await get(faulty, grant(), WANTED) == DATA[WANTED.start : WANTED.stop]


@pytest.mark.parametrize("version", [None, ""])
async def test_the_bytes_of_two_versions_never_mix(server: FaultyS3, faulty: Storage, version: str | None) -> None:
    async def replace_under_way(exchange: Exchange) -> None:
        await reset_after(100_000)(exchange)
        server.objects[KEY] = content("another", len(DATA))

    server.faults.append(replace_under_way)
    with pytest.raises(StorageFault):
        await get(faulty, grant(version), range(len(DATA)))
    assert await get(faulty, grant(""), range(9)) == content("another", 9)


async def test_what_cannot_be_told_apart_is_not_resumed(server: FaultyS3, faulty: Storage) -> None:
    server.faults.append(close_after(100_000, ETag=None))
    with pytest.raises(StorageUnavailable):
        await get(faulty, grant(""), range(len(DATA)))


@pytest.mark.parametrize("version", ['a"\r\nX: y', "a b", "é", "a\x00"])
async def test_a_version_that_is_no_etag_is_sent_nowhere(server: FaultyS3, faulty: Storage, version: str) -> None:
    with pytest.raises(StorageFault):
        await get(faulty, grant(version), range(1))
    assert server.gets == []


async def test_a_server_that_hangs_is_late_before_the_first_byte(server: FaultyS3) -> None:
    async with opened(server, answer_timeout=0.05) as storage:
        for begun in (b"", b"HTTP/1.1 206 P\r\nETag:"):
            server.faults.append(raw(begun))
            with pytest.raises(StorageTimeout):
                async with storage.read(grant(), WANTED):
                    pytest.fail("it was opened")
        assert len(server.gets) == 2  # and is not asked again, to hang once more


async def test_a_server_that_hangs_in_the_middle_is_late_for_the_iterator(server: FaultyS3) -> None:
    async with opened(server, idle_timeout=0.05) as storage:
        server.faults.append(hang_after(100_000))
        received = bytearray()
        with pytest.raises(StorageTimeout):
            await read_into(received, storage, Runway(len(DATA)))
        assert received == DATA[1000 : 1000 + 100_000]


async def test_a_connection_that_is_not_taken_is_late(server: FaultyS3) -> None:
    async with opened(server, connect_timeout=0.1) as storage:
        await server.stop()
        with ExitStack() as stack:
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            deaf.bind(("127.0.0.1", server.port))
            deaf.listen(0)
            for _ in range(2):  # as many as the kernel takes for it
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", server.port))
            with pytest.raises(StorageTimeout):
                await get(storage, grant(), WANTED)


async def test_a_stale_connection_is_replaced_at_once(server: FaultyS3) -> None:
    async with opened(server, attempts=1) as storage:
        assert await get(storage, grant(), range(9)) == DATA[:9]
        server.faults.append(reset)
        assert await get(storage, grant(), range(9)) == DATA[:9]
    assert server.connections == 3  # the first of them for opening the storage


async def test_a_server_that_is_away_is_found_again(server: FaultyS3, faulty: Storage) -> None:
    assert await get(faulty, grant(), range(9)) == DATA[:9]
    await server.stop()
    with pytest.raises(StorageUnavailable):
        await get(faulty, grant(), range(9))
    await server.start()
    assert await get(faulty, grant(), range(9)) == DATA[:9]


def test_all_of_it_holds_on_uvloop_as_well() -> None:
    uvloop.run(_all_of_it())


async def _all_of_it() -> None:
    """Let one storage go through the tables: what each fault leaves behind is what the next one meets."""
    async with faulty_s3() as server, opened(server, read_connections=1) as storage:
        server.objects[KEY] = DATA
        for faults in RIGHT.values():
            await test_what_can_be_mended_gives_the_right_bytes(server, storage, faults)
        for error, faults in WRONG.values():
            await _start_anew(server)
            await test_what_cannot_be_mended_fails_before_the_first_byte(server, storage, error, faults)
        for error, faults in BROKEN.values():
            await _start_anew(server)
            await test_what_breaks_off_for_good_is_never_passed_off_as_complete(server, storage, error, faults)


async def _start_anew(server: FaultyS3) -> None:
    # So that no connection of before is stale, which would be one attempt more.
    await server.stop()
    await server.start()
