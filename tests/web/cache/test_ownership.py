"""The ownership matrix with every slice there: what one caller's read brought in is nobody else's to have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from policies.model import Action
from tests.delivery.remote import SLICE, Remote, files_in
from tests.support.cached import OWNER, asset_in, before, download
from tests.support.callers import Cast, service_settings
from tests.support.gateway import PNG, Running, service_headers, user_headers
from tests.support.ownership import Case, Shown
from tests.support.raw import Lines, ask, connected
from tests.support.storage import content
from tests.web.express.test_at_once import ENDS, Reading
from tests.web.test_ownership import CASES, expected, logged, perform, told

LARGE: Final = PNG + content("owned", 3 * SLICE)
OBJECTS: Final = {"one slice": PNG, "four slices": LARGE}
REFUSED: Final[dict[str, tuple[Lines, int]]] = {
    "nobody": ((), 404),
    "another user": (tuple(user_headers("u_2").items()), 404),
    "a key without the scope": (tuple(service_headers("sign").items()), 403),
    "a wrong credential": ((("Authorization", "Bearer x.y.z"),), 401),
}


def by_asset(case: Case) -> tuple[str, ...]:
    """Put a refusal right behind the reads of the same asset that are allowed."""
    revoked = "revoked" if case.token is Shown.REVOKED else ""
    return case.owner, case.visibility, case.lifetime, revoked, "" if case.granted else "refused"


READS: Final = sorted((case for case in CASES if case.action is Action.READ), key=by_asset)


@pytest.mark.parametrize("which", OBJECTS)
async def test_each_read_of_the_matrix_has_its_answer_out_of_the_slices(lane: str, which: str, tmp_path: Path) -> None:
    """What is allowed is asked twice: the lane answers the second."""
    remote, data, wrong = Remote(), OBJECTS[which], {}
    async with before(remote, lane, tmp_path, service_settings()) as gateway, connected(gateway.url) as connection:
        cast = await Cast.gather(gateway, data)
        await perform(cast, next(case for case in READS if case.granted), connection)
        assert len(files_in(tmp_path)) == -(-len(data) // SLICE)
        remote.asked.clear()
        for case in (each for each in READS for _ in range(2 if each.granted else 1)):
            heard = await perform(cast, case, connection)
            found = (*told(case, heard.answer, data), heard.reason)
            if found != (*expected(case), logged(case)):
                wrong[str(case)] = f"{found}, not {(*expected(case), logged(case))}"
    assert wrong == {}
    assert remote.asked == []


@pytest.mark.parametrize(("begin", "status"), ENDS)
async def test_what_ends_a_permission_ends_it_at_once_though_the_slices_are_there(
    lane: str, begin: Callable[[Running], Awaitable[Reading]], status: int, tmp_path: Path
) -> None:
    remote = Remote()
    async with before(remote, lane, tmp_path) as gateway, connected(gateway.url) as connection:
        reading = await begin(gateway)
        lines = tuple(reading.headers.items())
        for _ in range(3):
            answer = await connection.ask("GET", reading.path, lines)
            assert (answer.status, answer.body) == (200, PNG)
        remote.asked.clear()
        await reading.end()
        asked = [("GET", ()), ("GET", (("Range", "bytes=0-8"),)), ("GET", (("If-None-Match", "*"),)), ("HEAD", ())]
        statuses = [(await connection.ask(method, reading.path, (*lines, *more))).status for method, more in asked]
        assert statuses == [status] * 4
        assert len(files_in(tmp_path)) == 1
        assert remote.asked == []


@pytest.mark.parametrize("who", REFUSED)
async def test_who_may_not_read_gets_nothing_of_what_another_is_being_sent(lane: str, who: str, tmp_path: Path) -> None:
    """The owner's read is held up in the middle of a slice; who is refused is so at once, and nobody is asked."""
    remote, (lines, status) = Remote(), REFUSED[who]
    remote.hold_at = SLICE + SLICE // 2
    async with before(remote, lane, tmp_path) as gateway:
        path = (await asset_in(remote, gateway, LARGE)).path
        owner = asyncio.create_task(download(gateway, path))
        await remote.held.wait()
        for span in ((), (("Range", "bytes=0-8"),), (("Range", f"bytes={SLICE}-"),)):
            assert (await ask(gateway.url, "GET", path, (*lines, *span))).status == status
        another = asyncio.create_task(download(gateway, path, tuple(service_headers("read").items())))
        remote.go_on.set()
        assert [(answer.status, answer.body) for answer in (await owner, await another)] == [(200, LARGE)] * 2
    assert len(remote.asked) == 1


async def test_the_slices_of_a_deleted_asset_are_removed_with_its_bytes(lane: str, tmp_path: Path) -> None:
    remote = Remote()
    async with before(remote, lane, tmp_path) as gateway:
        gone, kept = [f"/api/storage/assets/{await gateway.asset(LARGE)}" for _ in range(2)]
        for path in (gone, kept, gone):
            assert (await download(gateway, path)).body == LARGE
        assert len(files_in(tmp_path)) == 8
        assert (await ask(gateway.url, "DELETE", gone, OWNER)).status == 200
        assert (await gateway.parts.sweeper.sweep()).removed == 1
        assert len(files_in(tmp_path)) == 4
        remote.asked.clear()
        assert [(await download(gateway, path)).status for path in (gone, kept)] == [410, 200]
        assert remote.asked == []
