"""`kill -9` of a serving process at any moment: what was answered is there, and what was not is whole or swept away."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, DummyCookieJar

from tests.support.gateway import (
    PNG,
    UPLOAD,
    Part,
    Served,
    environment,
    form,
    guest_headers,
    serve_process,
    user_headers,
)
from tests.support.servers import processes

ROUNDS = 12
CLIENTS = 4
FILES = 3  # of one upload
SIZE = 200 * 1024  # bytes of a file
LONGEST = 0.5  # seconds from the first request to the kill
SWEEPING = {"sweep.interval": "10ms"}  # so that the kill meets the sweeper at work as well
NOW_LOST = {"sweep.abandoned_after": "0s"}  # nothing is under way when the process is dead


@dataclass
class Visit:
    """What one guest was told: the assets uploaded, whether they were claimed, and which was deleted."""

    headers: dict[str, str]
    files: dict[str, bytes]
    claimed: bool = False
    deleted: list[str] = field(default_factory=list)
    deleting: str | None = None


async def test_a_process_killed_at_any_moment_leaves_records_and_bytes_in_step(tmp_path: Path) -> None:
    moments = random.Random(20)  # noqa: S311 - the same moments each time, as far as the machine allows
    visits: list[Visit] = []
    for _ in range(ROUNDS):
        with serve_process(tmp_path, SWEEPING) as served:
            await check(served, visits)
            visits = await visit_until_killed(served, moments)
        swept = sweep(tmp_path)
        assert (swept["orphans"]["strays"], swept["orphans"]["lost"]) == ([], [])
        assert swept["orphans"]["objects"] == swept["orphans"]["records"]
        assert drafts(tmp_path) == []
    with serve_process(tmp_path) as served:
        await check(served, visits)


async def visit_until_killed(served: Served, moments: random.Random) -> list[Visit]:
    """Have several guests at work, kill the process in the middle, and return what each of them was told."""
    visits: list[Visit] = []
    async with ClientSession(served.url, cookie_jar=DummyCookieJar()) as client:
        guests = [asyncio.create_task(visit_for_ever(client, visits, random.Random(n))) for n in range(CLIENTS)]  # noqa: S311
        await asyncio.sleep(moments.uniform(0, LONGEST))
        served.process.kill()
        await asyncio.gather(*guests)
    return visits


async def visit_for_ever(client: ClientSession, visits: list[Visit], chance: random.Random) -> None:
    """Upload as a new guest, claim it all, delete one, again and again until nobody answers any more."""
    try:
        while True:
            await visit(client, visits, chance)
    except (ClientError, ConnectionError):
        return


async def visit(client: ClientSession, visits: list[Visit], chance: random.Random) -> None:
    contents = [PNG + chance.randbytes(SIZE) for _ in range(FILES)]
    parts: list[Part] = [("purpose", "reference_image"), *(("files", "a.png", content) for content in contents)]
    async with client.post(UPLOAD, data=form(*parts)) as response:
        results = (await response.json())["data"]["results"]
    files = {result["assetId"]: content for result, content in zip(results, contents, strict=True)}
    made = Visit({**guest_headers(response), **user_headers()}, files)
    visits.append(made)
    async with client.post("/api/storage/assets/claim", headers=made.headers) as response:
        assert sorted((await response.json())["data"]["assetIds"]) == sorted(files)
    made.claimed = True
    made.deleting = results[0]["assetId"]
    async with client.delete(results[0]["previewUrl"], headers=made.headers) as response:
        assert response.status == 200
    made.deleted.append(made.deleting)


async def check(served: Served, visits: Sequence[Visit]) -> None:
    """Check that all that was answered before the kill is so after it."""
    async with ClientSession(served.url, cookie_jar=DummyCookieJar()) as client:
        for made in visits:
            owned = [await belongs_to_user(client, asset_id) for asset_id in made.files]
            assert len(set(owned)) == 1, "a claim is done whole or not at all"
            assert owned[0] or not made.claimed
            for asset_id, content in made.files.items():
                async with client.get(f"/api/storage/assets/{asset_id}", headers=made.headers) as response:
                    if response.status == 410:
                        assert asset_id == made.deleting
                    else:
                        assert asset_id not in made.deleted
                        assert await response.read() == content


async def belongs_to_user(client: ClientSession, asset_id: str) -> bool:
    """Tell by the read of one who is signed in and carries no guest cookie; what is deleted is 410 to its owner."""
    async with client.get(f"/api/storage/assets/{asset_id}", headers=user_headers()) as response:
        assert response.status in {200, 404, 410}
        return response.status != 404


def sweep(folder: Path) -> Any:
    command: processes.Command = [sys.executable, "-m", "gateway", "sweep", "--orphans", "--json"]
    return json.loads(processes.run(command, cwd=folder, **environment(NOW_LOST)))


def drafts(folder: Path) -> list[Path]:
    return list((folder / "data/objects/.tmp").iterdir())
