from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import random
import resource
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from gateway.clock import system_clock
from gateway.errors import CannotStart, StorageFault, StorageFull
from gateway.resources import path_of
from gateway.storage import Stored
from gateway.storage.file import FileStorage, open_storage
from tests.support.storage import content, get, grant_for, keys, put, settings_for
from tests.support.writer import SIZE, write_forever

KEY = "ab/abcdef"
MIB = 1024 * 1024


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[FileStorage]:
    opened = await opened_in(tmp_path / "objects")
    yield opened
    await opened.close()


async def opened_in(folder: Path) -> FileStorage:
    return await open_storage(settings_for(f"file:///{folder}"), system_clock)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///data/objects", "data/objects"),
        ("file:////srv/objects", "/srv/objects"),
        ("file:///a%20b c?d", "a%20b c?d"),
        ("sqlite:///data/assetgate.db", "data/assetgate.db"),
    ],
)
def test_a_third_slash_is_relative_and_a_fourth_absolute(url: str, path: str) -> None:
    assert path_of(url) == Path(path)


@pytest.mark.parametrize("url", ["file:data", "file://data", "file://", "file:///", "data/objects"])
async def test_a_url_without_path_does_not_start(url: str) -> None:
    with pytest.raises(CannotStart, match=r"^storage: "):
        await open_storage(settings_for(url), system_clock)


async def test_a_folder_that_cannot_be_made_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match=r"^storage: .* cannot be written to"):
        await opened_in(tmp_path / "file" / "objects")


async def test_the_folder_is_found_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = await open_storage(settings_for("file:///data/objects"), system_clock)
    monkeypatch.chdir("/")
    await put(storage, KEY, b"here")
    assert (tmp_path / "data/objects" / KEY).read_bytes() == b"here"
    await storage.close()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "..",
        "../outside",
        "ab/../../outside",
        "ab/./abcdef",
        "ab//abcdef",
        "ab/",
        ".tmp/draft",
        "ab/.hidden",
        "ab/nul\0",
        "ab/line\n",
        "ab\\abcdef",
        "ab/\ud800",
    ],
)
async def test_a_key_that_tries_to_escape_is_refused(storage: FileStorage, tmp_path: Path, key: str) -> None:
    (tmp_path / "outside").write_bytes(b"not yours")
    grant = grant_for(Stored(key, 1, "", 0.0))
    with pytest.raises(StorageFault):
        await put(storage, key, b"x")
    with pytest.raises(StorageFault):
        await get(storage, grant, range(1))
    with pytest.raises(StorageFault):
        await storage.stat(key)
    with pytest.raises(StorageFault):
        await storage.delete([key])
    assert storage.resident(grant, range(1)) is None
    assert (tmp_path / "outside").read_bytes() == b"not yours"


async def test_a_list_passes_over_what_is_not_ours(storage: FileStorage, tmp_path: Path) -> None:
    await put(storage, KEY, b"ours")
    objects = tmp_path / "objects"
    (objects / "ab" / ".DS_Store").touch()
    (objects / "lost+found").mkdir()
    (objects / "lost+found" / "inode").touch()
    (objects / "link").symlink_to("/etc/passwd")
    (objects / ".tmp" / "draft").touch()
    assert await keys(storage) == [KEY]


async def test_only_the_owner_and_the_group_can_read(storage: FileStorage, tmp_path: Path) -> None:
    await put(storage, KEY, b"private")
    for path in (tmp_path / "objects", tmp_path / "objects/ab", tmp_path / "objects" / KEY):
        assert path.stat().st_mode & 0o007 == 0


async def test_a_file_that_was_shortened_is_noticed(storage: FileStorage, tmp_path: Path) -> None:
    stored = await put(storage, KEY, content("short", 1000))
    os.truncate(tmp_path / "objects" / KEY, 10)
    for version in (stored.version, ""):
        with pytest.raises(StorageFault):
            await get(storage, grant_for(stored, version=version), range(1000))


async def test_what_another_process_wrote_anew_is_seen(storage: FileStorage, tmp_path: Path) -> None:
    first = await put(storage, KEY, b"first")
    assert await get(storage, grant_for(first), range(5)) == b"first"
    other = await opened_in(tmp_path / "objects")
    second = await put(other, KEY, b"second")
    await other.close()
    assert await get(storage, grant_for(second), range(6)) == b"second"


async def test_a_backup_of_whole_seconds_can_be_restored(storage: FileStorage, tmp_path: Path) -> None:
    stored = await put(storage, KEY, b"kept")
    os.utime(tmp_path / "objects" / KEY, (int(stored.modified), int(stored.modified)))
    assert await get(storage, grant_for(stored), range(4)) == b"kept"


async def test_only_drafts_older_than_asked_for_are_discarded(storage: FileStorage, tmp_path: Path) -> None:
    drafts = tmp_path / "objects/.tmp"
    for age in (10, 20, 30):
        path = drafts / f"{age}"
        path.touch()
        os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    assert await storage.discard_unfinished(1_700_000_000 - 15) == 2
    assert [path.name for path in drafts.iterdir()] == ["10"]


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def small_files(_folder: Path) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("limited", [small_disk, small_files])
@pytest.mark.parametrize("step", [1000, MIB, 9 * MIB])
async def test_a_disk_that_fills_says_so_and_keeps_nothing(
    tmp_path: Path, limited: Callable[[Path], AbstractContextManager[None]], step: int
) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    with limited(folder):
        storage = await opened_in(folder)
        with pytest.raises(StorageFull):
            await put(storage, KEY, bytes(9 * MIB), step)
        assert await keys(storage) == []
        assert list((folder / ".tmp").iterdir()) == []
        stored = await put(storage, KEY, content("fits", 3 * MIB))
        assert await get(storage, grant_for(stored), range(3 * MIB)) == content("fits", 3 * MIB)
        await storage.close()


ROUNDS = 20


async def test_a_writer_killed_at_any_moment_leaves_whole_objects_alone(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.writer"])
    moments = random.Random(20)  # noqa: S311 - the same moments each time, as far as the machine allows
    for number in range(ROUNDS):
        folder = tmp_path / f"{number}"
        ours, theirs = context.Pipe()
        writer = context.Process(target=write_forever, args=(str(folder), theirs))
        writer.start()
        theirs.close()
        committed = killed_within(writer, ours, moments.uniform(0, 0.04))
        await assert_whole(folder, committed)


def killed_within(writer: multiprocessing.process.BaseProcess, events: Connection, seconds: float) -> set[str]:
    """Kill the writer some time after it began; return what it had been told was committed."""
    assert events.recv() == "began"
    deadline = system_clock() + seconds
    committed = set()
    with events:
        while (left := deadline - system_clock()) > 0 and events.poll(left):
            committed.add(events.recv())
        writer.kill()
        writer.join()
        with suppress(EOFError):
            while True:
                committed.add(events.recv())
    return committed


async def assert_whole(folder: Path, committed: set[str]) -> None:
    storage = await opened_in(folder)
    found = [stored async for stored in storage.list()]
    assert committed <= {stored.key for stored in found}
    for stored in found:
        assert await get(storage, grant_for(stored), range(stored.size)) == content(stored.key, SIZE)
    await storage.discard_unfinished(math.inf)
    assert list((folder / ".tmp").iterdir()) == []
    await storage.close()


async def test_a_writer_cancelled_while_it_commits_keeps_only_what_it_heard_of(
    storage: FileStorage, tmp_path: Path
) -> None:
    task = asyncio.create_task(put(storage, KEY, content("late", MIB)))
    while not (tmp_path / "objects" / KEY).exists():  # noqa: ASYNC110 - a file has no event
        await asyncio.sleep(0)
    task.cancel()  # named, and its folder is still being synced
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    assert await keys(storage) == ([KEY] if isinstance(outcome, Stored) else [])
