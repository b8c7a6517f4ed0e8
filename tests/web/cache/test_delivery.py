"""The delivery table out of the slice cache: cold, warm, found in the folder, while it evicts, and without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from gateway.storage import Stored
from tests.delivery.remote import SLICE, Remote, files_in
from tests.delivery.test_slices_disk import disk_use
from tests.support.cached import OWNER, asset_in, before, record
from tests.support.delivery import CASES, Case, Known, part
from tests.support.gateway import PNG, Running
from tests.support.raw import Answer, Connection, connected
from tests.support.storage import content
from tests.web.express.twins import watched
from tests.web.test_delivery import faults_of, too_long

CONTENT: Final = PNG + content("cached", 3 * SLICE + 123 - len(PNG))  # the last five hundred bytes lie in two slices
SIZE: Final = len(CONTENT)
FEW: Final = 2 * SLICE + 20 * 1024  # bytes of a cache that has no room for all of it

Faults = dict[str, list[str]]


def cut(name: str, first: int, last: int) -> Case:
    return part(name, f"{first}-{last}", ("Range", f"bytes={first}-{last}"))


ACROSS: Final = (
    cut("the last byte of a slice", SLICE - 1, SLICE - 1),
    cut("the first byte of a slice", SLICE, SLICE),
    cut("across the end of a slice", SLICE - 1, SLICE),
    cut("just one slice", SLICE, 2 * SLICE - 1),
    cut("one slice and a byte at each end", SLICE - 1, 2 * SLICE),
    cut("all but the ends", 1, SIZE - 2),
    cut("the last, short slice", 3 * SLICE, SIZE - 1),
)
TABLE: Final = tuple(case for case in CASES + ACROSS if not too_long(case, Known(SIZE, "", 0)))


class Sample(NamedTuple):
    gateway: Running
    remote: Remote
    path: str
    known: Known
    stored: Stored
    connection: Connection

    async def ask(self, case: Case) -> Answer:
        return await self.connection.ask(case.method, self.path, [*OWNER, *case.headers(self.known)])

    async def faults(self, case: Case) -> list[str]:
        return faults_of(case, self.known, await self.ask(case), CONTENT)


@asynccontextmanager
async def sampled(remote: Remote, lane: str, folder: Path, **cache: int) -> AsyncIterator[Sample]:
    """Run a gateway with an asset that nobody has read."""
    async with before(remote, lane, folder, **cache) as gateway, connected(gateway.url) as connection:
        yield await anew(gateway, remote, connection)


async def anew(gateway: Running, remote: Remote, connection: Connection) -> Sample:
    asset = await asset_in(remote, gateway, CONTENT)
    known = Known(SIZE, asset.etag, int(gateway.clock()))
    stored = Stored(asset.object_key, asset.size, asset.object_version, 0.0)
    return Sample(gateway, remote, asset.path, known, stored, connection)


def has_body(case: Case) -> bool:
    return case.method == "GET" and case.status in {200, 206}


async def test_each_request_gets_its_answer_when_no_slice_is_there(lane: str, tmp_path: Path) -> None:
    remote, wrong = Remote(), Faults()
    async with sampled(remote, lane, tmp_path) as first:
        for case in TABLE:
            cold = await anew(first.gateway, remote, first.connection)
            # So that the decision is remembered, and only the bytes are not there.
            unchanged = await cold.connection.ask("GET", cold.path, [*OWNER, ("If-None-Match", "*")])
            assert unchanged.status == 304
            remote.asked.clear()
            wrong[case.name] = await cold.faults(case)
            if len(remote.asked) != has_body(case):
                wrong[case.name].append(f"asked of the storage: {remote.asked}")
    assert {name: faults for name, faults in wrong.items() if faults} == {}


async def test_each_request_gets_its_answer_out_of_the_slices(lane: str, tmp_path: Path) -> None:
    remote, wrong = Remote(), Faults()
    async with sampled(remote, lane, tmp_path) as warm:
        await warm.ask(CASES[0])
        remote.asked.clear()
        with watched() as taken:
            for case in TABLE * 2:  # an answer that was made once is taken again
                wrong[case.name] = wrong.get(case.name, []) + await warm.faults(case)
    assert {name: faults for name, faults in wrong.items() if faults} == {}
    assert remote.asked == []
    # What lies in one slice, and what has no body, is not for the handlers.
    assert bool(taken.answered) is (lane == "express")
    assert any(b"Range: bytes=1000-1499\r\n" in asked for asked in taken.answered) is (lane == "express")


async def test_each_request_gets_its_answer_out_of_slices_that_another_process_left(lane: str, tmp_path: Path) -> None:
    remote, empty, wrong = Remote(), Remote(), Faults()
    async with (
        sampled(remote, lane, tmp_path) as one,
        before(empty, lane, tmp_path) as gateway,
        connected(gateway.url) as connection,
    ):
        gateway.clock.now = one.gateway.clock()
        for case in TABLE:
            read = await anew(one.gateway, remote, one.connection)
            assert (await read.ask(CASES[0])).body == CONTENT
            path = (await record(gateway, read.stored, CONTENT)).path
            found = read._replace(gateway=gateway, path=path, connection=connection)
            wrong[case.name] = await found.faults(case)
    assert {name: faults for name, faults in wrong.items() if faults} == {}
    assert empty.asked == []


async def test_each_request_gets_its_answer_while_slices_make_room_for_others(lane: str, tmp_path: Path) -> None:
    remote, wrong, fetched = Remote(), Faults(), 0
    async with sampled(remote, lane, tmp_path, max_bytes=FEW) as asked:
        other = await anew(asked.gateway, remote, asked.connection)
        for case in TABLE:
            assert (await other.ask(CASES[0])).body == CONTENT
            remote.asked.clear()
            wrong[case.name] = await asked.faults(case)
            fetched += has_body(case) and bool(remote.asked)
        assert disk_use(tmp_path) <= FEW
    assert {name: faults for name, faults in wrong.items() if faults} == {}
    assert fetched > sum(map(has_body, TABLE)) // 2  # of what was there before


async def test_each_request_gets_its_answer_without_the_cache(lane: str, tmp_path: Path) -> None:
    remote, wrong = Remote(), Faults()
    async with sampled(remote, lane, tmp_path, max_bytes=0) as plain:
        for case in TABLE:
            remote.asked.clear()
            wrong[case.name] = await plain.faults(case)
            if len(remote.asked) != has_body(case):
                wrong[case.name].append(f"asked of the storage: {remote.asked}")
    assert {name: faults for name, faults in wrong.items() if faults} == {}
    assert files_in(tmp_path) == []
