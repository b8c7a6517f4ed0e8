"""The cache before a real S3 server, from end to end: each kind of trouble once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from gateway.model import Asset
from tests.delivery.remote import SLICE, files_in, parts_in
from tests.delivery.test_slices_disk import DAMAGES, disk_use, small_disk
from tests.storage.test_s3 import restart
from tests.support.cached import CACHE, OWNER, download, is_broken, replaced
from tests.support.delivery import PLAYERS, Known
from tests.support.engines import Overrides
from tests.support.gateway import PNG, Running, running, service_headers, user_headers
from tests.support.raw import ask, connected
from tests.support.servers.s3 import S3Server
from tests.support.storage import aws_environment, content, put
from tests.web.cache.test_delivery import ACROSS, CONTENT, FEW
from tests.web.test_delivery import faults_of

SIZE: Final = len(CONTENT)
FILM: Final = PNG + content("a film", 256 * SLICE)  # more than sockets hold


@pytest.fixture(scope="module")
def bucket(swift: S3Server) -> str:
    return swift.create_bucket()


@asynccontextmanager
async def gateway_on(server: S3Server, bucket: str, folder: Path, **more: object) -> AsyncIterator[Running]:
    """Run a gateway with its records and slices in `folder`, and its objects under that name in the bucket."""
    settings: Overrides = {
        "storage": server.storage_url(bucket, folder.name),
        "metadata": f"sqlite:///{folder}/assetgate.db",
        "cache.path": f"{folder}/cache",
        "s3.retry_delay": 0.0,
        **CACHE,
        **more,
    }
    with aws_environment(server.environment):
        async with running(settings) as gateway:
            yield gateway


async def uploaded(gateway: Running, data: bytes) -> Asset:
    asset_id = await gateway.asset(data)
    return (await gateway.parts.metadata.get([asset_id]))[asset_id]


async def test_players_get_their_answers_while_slices_make_room_for_others(
    swift: S3Server, bucket: str, tmp_path: Path
) -> None:
    async with gateway_on(swift, bucket, tmp_path, **{"cache.max_bytes": FEW}) as gateway:
        asset, other = [await uploaded(gateway, CONTENT) for _ in range(2)]
        known, wrong = Known(SIZE, asset.etag, int(gateway.clock())), {}
        async with connected(gateway.url) as connection:
            for case in PLAYERS + ACROSS:
                assert (await connection.ask("GET", other.path, OWNER)).body == CONTENT
                answer = await connection.ask(case.method, asset.path, [*OWNER, *case.headers(known)])
                wrong[case.name] = faults_of(case, known, answer, CONTENT)
        assert disk_use(tmp_path / "cache") <= FEW
    assert {name: faults for name, faults in wrong.items() if faults} == {}


async def test_who_may_not_read_gets_nothing_and_a_deletion_takes_the_slices_along(
    swift: S3Server, bucket: str, tmp_path: Path
) -> None:
    async with gateway_on(swift, bucket, tmp_path) as gateway:
        asset = await uploaded(gateway, CONTENT)
        path, signed = asset.path, await gateway.sign(asset.id)
        for asked, lines in ((path, OWNER), (path, OWNER), (signed, ()), (signed, ())):
            assert (await download(gateway, asked, lines)).body == CONTENT
        strangers = [(), tuple(user_headers("u_2").items()), tuple(service_headers("sign").items())]
        assert [(await ask(gateway.url, "GET", path, lines)).status for lines in strangers] == [404, 404, 403]
        assert (await ask(gateway.url, "POST", f"{path}/revoke", OWNER)).status == 200
        assert (await ask(gateway.url, "GET", signed)).status == 403
        assert len(files_in(tmp_path / "cache")) == 4
        assert (await ask(gateway.url, "DELETE", path, OWNER)).status == 200
        assert [(await ask(gateway.url, "GET", path, lines)).status for lines in ((), OWNER)] == [404, 410]
        assert (await gateway.parts.sweeper.sweep()).removed == 1
        assert (files_in(tmp_path / "cache"), await gateway.objects()) == ([], [])


async def test_an_object_replaced_behind_it_is_read_as_one_version_or_not_to_its_end(
    swift: S3Server, bucket: str, tmp_path: Path
) -> None:
    async with gateway_on(swift, bucket, tmp_path) as gateway:
        asset, new = await uploaded(gateway, CONTENT), content("new", SIZE)
        half = (*OWNER, ("Range", f"bytes=0-{2 * SLICE - 1}"))
        assert (await download(gateway, asset.path, half)).body == CONTENT[: 2 * SLICE]
        stored = await put(gateway.parts.storage, asset.object_key, new)
        broken = await download(gateway, asset.path)
        assert (broken.status, broken.body) == (200, CONTENT[: 2 * SLICE])
        assert is_broken(broken)
        assert (await download(gateway, asset.path, (*OWNER, ("Range", "bytes=-9")))).status == 502
        await replaced(gateway, asset, stored.version, new)
        for _ in range(2):
            assert (await download(gateway, asset.path)).body == new


async def test_a_full_disk_and_a_damaged_slice(swift: S3Server, bucket: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    with small_disk(cache):
        async with gateway_on(swift, bucket, tmp_path) as gateway:
            large, asset = [await uploaded(gateway, data) for data in (FILM[: 40 * SLICE], CONTENT)]
            answers = await asyncio.gather(*(download(gateway, large.path) for _ in range(3)))
            assert [answer.body for answer in answers] == [FILM[: 40 * SLICE]] * 3
            assert parts_in(cache) == []
            await gateway.parts.storage.delete([large.object_key])
            gateway.clock.move(60)
            assert (await download(gateway, asset.path)).body == CONTENT
        [second] = [path for path in files_in(cache) if path.name.endswith("-00000001")]
        DAMAGES["a byte in the middle is another"](second)
        async with gateway_on(swift, bucket, tmp_path) as gateway:
            assert (await download(gateway, asset.path)).body == CONTENT
        assert second.read_bytes().startswith(CONTENT[SLICE : 2 * SLICE])


async def test_a_server_killed_in_the_middle_of_a_download(own_swift: S3Server, tmp_path: Path) -> None:
    async with gateway_on(own_swift, own_swift.create_bucket(), tmp_path) as gateway:
        path = (await uploaded(gateway, FILM)).path
        async with connected(gateway.url) as connection:
            assert (await connection.head("GET", path, OWNER)).status == 200
            received = await connection.reader.readexactly(SLICE)
            own_swift.processes["proxy"].kill()
            received += await connection.reader.read()
        assert SLICE <= len(received) < len(FILM)
        assert FILM.startswith(received)
        away = await download(gateway, path, (*OWNER, ("Range", "bytes=-9")))
        assert (away.status, away.document["error"]) == (503, "storage_unavailable")
        kept = await download(gateway, path, (*OWNER, ("Range", f"bytes=5-{SLICE - 5}")))
        assert (kept.status, kept.body) == (206, FILM[5 : SLICE - 4])  # what was kept needs no server
        restart(own_swift)
        assert (await download(gateway, path)).body == FILM
        assert parts_in(tmp_path / "cache") == []
