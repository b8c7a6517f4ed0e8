"""What the file storage does with folders: all of it waits for the disk and belongs into a thread."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.storage import Stored
from gateway.storage.maps import version_of

DRAFTS: Final = ".tmp"
FOLDER_MODE: Final = 0o750  # the group may look: a web server that sends the files itself is a member of it
# No leading dot (`..`, our own `.tmp`), no separator of another system, nothing unprintable.
_PART: Final = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*\Z")
_NOT_OURS: Final = "lost+found"  # in the top folder of some file systems, closed to all but root


def prepare(root: Path) -> None:
    """Make the folders and try to write there. Raises `OSError`."""
    root.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    (root / DRAFTS).mkdir(FOLDER_MODE, exist_ok=True)
    with tempfile.TemporaryFile(dir=root / DRAFTS):
        pass
    with suppress(PermissionError):  # a parent that we may pass through and not look into was there before us
        sync(root.parent)


def is_key(key: str) -> bool:
    """Tell whether a file may have this name below the root, and nowhere else."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return all(_PART.match(part) for part in key.split("/"))


def stored(key: str, facts: os.stat_result) -> Stored:
    return Stored(key, facts.st_size, version_of(facts), facts.st_mtime)


def entries(root: Path, prefix: str, after: str) -> list[str | Stored]:
    """Return what is in one folder and comes after `after`, sorted: objects, and folders by their prefix."""
    found: dict[str, str | Stored] = {}
    with suppress(FileNotFoundError), os.scandir(root / prefix) as inside:
        for entry in inside:
            key = prefix + entry.name
            if not is_key(key) or key == _NOT_OURS:
                continue
            if entry.is_dir(follow_symlinks=False):
                # A folder sorts where its objects do, by the slash: "a-b" comes before what is in "a/".
                if f"{key}/" > after or after.startswith(f"{key}/"):
                    found[f"{key}/"] = f"{key}/"
            elif key > after and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # deleted while we looked
                    found[key] = stored(key, entry.stat(follow_symlinks=False))
    return [found[key] for key in sorted(found)]  # code points sort as their UTF-8 bytes do


def read_at(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        return os.pread(file.fileno(), length, offset)


def unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def unlink_older(folder: Path, before: float) -> int:
    """Remove the files last written to before `before` (seconds since 1970); return how many."""
    removed = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.lstat().st_mtime < before:
                path.unlink()
                removed += 1
    return removed


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
