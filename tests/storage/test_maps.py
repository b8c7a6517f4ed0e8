from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.storage.maps import WINDOW, Mapped, Maps, is_same_version


def make(folder: Path, name: str, size: int = 10) -> None:
    (folder / name).write_bytes(name.encode() * size)


async def test_the_one_unused_for_longest_goes_first(tmp_path: Path) -> None:
    for name in "abc":
        make(tmp_path, name)
    maps = Maps(tmp_path.joinpath, most=2)
    first, second = maps.get("a"), maps.get("b")
    assert maps.get("a") is first
    maps.get("c")
    assert len(maps) == 2
    assert maps.get("a") is first
    assert maps.get("b") is not second
    maps.clear()


async def test_a_forgotten_map_lives_as_long_as_a_slice_of_it(tmp_path: Path) -> None:
    make(tmp_path, "a")
    maps = Maps(tmp_path.joinpath)
    held = maps.get("a").view[2:5]
    maps.forget("a")
    (tmp_path / "a").unlink()
    assert bytes(held) == b"aaa"
    assert len(maps) == 0


async def test_what_nobody_asked_for_since_the_last_look_is_forgotten(tmp_path: Path) -> None:
    make(tmp_path, "a")
    make(tmp_path, "b")
    maps = Maps(tmp_path.joinpath)
    maps.get("a")
    maps.get("b")
    maps.forget_idle()
    assert len(maps) == 2
    maps.get("b")
    maps.forget_idle()
    assert len(maps) == 1
    maps.forget_idle()
    assert len(maps) == 0


async def test_the_space_of_a_file_deleted_elsewhere_comes_back(tmp_path: Path) -> None:
    make(tmp_path, "a")
    maps = Maps(tmp_path.joinpath)
    maps.get("a")
    (tmp_path / "a").unlink()
    assert mappings_of(tmp_path / "a") == 1
    maps.forget_idle()
    maps.forget_idle()
    assert mappings_of(tmp_path / "a") == 0


def mappings_of(path: Path) -> int:
    return Path("/proc/self/maps").read_text(encoding="utf-8").count(str(path))


async def test_a_missing_file_leaves_no_map(tmp_path: Path) -> None:
    maps = Maps(tmp_path.joinpath)
    with pytest.raises(FileNotFoundError):
        maps.get("nothing")
    assert len(maps) == 0


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Mapped(tmp_path)


def test_an_empty_file_has_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    mapped = Mapped(tmp_path / "empty")
    assert (mapped.size, bytes(mapped.view)) == (0, b"")
    assert mapped.is_present(range(0))


def test_bytes_that_are_on_the_disk_alone_are_loaded_first(tmp_path: Path) -> None:
    path = tmp_path / "cold"
    path.write_bytes(os.urandom(3 * WINDOW))
    drop_from_page_cache(path)
    mapped = Mapped(path)
    middle = range(WINDOW + 5, WINDOW + 10)
    if mapped.is_present(middle):
        pytest.skip("this file system has its files in memory")
    mapped.load(middle)
    assert mapped.is_present(middle)
    assert bytes(mapped.view[middle.start : middle.stop]) == path.read_bytes()[middle.start : middle.stop]


def drop_from_page_cache(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def test_a_file_deleted_while_it_was_cold_can_still_be_read(tmp_path: Path) -> None:
    path = tmp_path / "cold"
    path.write_bytes(b"x" * WINDOW)
    mapped = Mapped(path)
    path.unlink()
    mapped.load(range(10))
    assert mapped.is_present(range(10))
    assert bytes(mapped.view[:10]) == b"x" * 10


@pytest.mark.parametrize(
    ("found", "same"),
    [
        ("18ea76b2ba4d8200-100", True),
        (f"{0x18EA76B2BA4D8200 // 10**9 * 10**9:x}-100", True),  # a backup kept whole seconds alone
        (f"{0x18EA76B2BA4D8200 // 10**9 * 10**9:x}-101", False),
        (f"{0x18EA76B2BA4D8200 // 10**9 * 10**9 + 10**9:x}-100", False),
        ("18ea76b2ba4d8201-100", False),
        ("nonsense", False),
    ],
)
def test_a_version_is_known_again(found: str, same: bool) -> None:
    assert is_same_version(found, "18ea76b2ba4d8200-100") is same
