"""The memory of a serving process stays where it was, however much is sent to it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, FormData

from tests.support.gateway import UPLOAD, Served, serve_process, user_headers
from tests.support.raw import connected
from tests.support.wire import answer_of, chunked, head_of, send_until_answered

MIB = 1024 * 1024
LARGE = 256 * MIB
SLACK = 32 * MIB  # for what is made once: buffers of connections and threads, parts of libraries
HEAD = bytes.fromhex("0000001866747970 69736f6d 00000200 69736f6d6d703432".replace(" ", ""))  # an mp4 begins so


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve_process(tmp_path) as process:
        yield process


def peak(served: Served) -> int:
    """The most memory that the process ever had resident, in bytes."""
    lines = Path(f"/proc/{served.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def film(folder: Path, size: int) -> Path:
    """Make a file that takes up no room and begins like a film."""
    path = folder / "film.mp4"
    path.write_bytes(HEAD)
    os.truncate(path, size)
    return path


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def send_film(served: Served, path: Path) -> str:
    """Upload the film and return the checksum in its record."""
    async with ClientSession(served.url, headers=user_headers()) as client:
        data = FormData({"purpose": "generated_video"})
        with path.open("rb") as file:
            data.add_field("files", file, filename="film.mp4")
            async with client.post(UPLOAD, data=data) as response:
                document = await response.json()
        assert response.status == 200, document
        async with client.get(f"{document['data']['previewUrl']}/info") as response:
            return str((await response.json())["data"]["sha256"])


async def test_memory_stays_flat_while_a_film_comes_in(served: Served, tmp_path: Path) -> None:
    await send_film(served, film(tmp_path, MIB))
    before = peak(served)
    large = film(tmp_path, LARGE)
    assert await send_film(served, large) == checksum(large)
    assert peak(served) - before < SLACK, f"{(peak(served) - before) / MIB:.0f} MiB more"


async def test_memory_stays_flat_while_many_films_come_in_at_once(served: Served, tmp_path: Path) -> None:
    await send_film(served, film(tmp_path, MIB))
    before = peak(served)
    path = film(tmp_path, LARGE // 16)
    await asyncio.gather(*(send_film(served, path) for _ in range(16)))
    assert peak(served) - before < 3 * SLACK, f"{(peak(served) - before) / MIB:.0f} MiB more"


async def test_memory_stays_flat_while_json_of_a_hundred_megabytes_comes_in(served: Served) -> None:
    before = peak(served)
    for _ in range(3):
        async with connected(served.url) as connection:
            head = head_of("POST", "/api/storage/assets/resolve", {**user_headers(), "Transfer-Encoding": "chunked"})
            connection.writer.write(head + chunked(b'{"document": "'))
            await send_until_answered(connection, chunked(b"x" * MIB), most=100)
            assert (await answer_of(connection)).status == 413
    assert peak(served) - before < 2 * SLACK, f"{(peak(served) - before) / MIB:.0f} MiB more"
