"""Finds files: those that ship with the package (migrations, default settings, pages), and those that settings name."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def resource(name: str) -> Traversable:
    """Return the folder or file `name`: inside the installed package, else beside it in a checkout."""
    packaged = files("gateway").joinpath(name)
    if packaged.is_dir() or packaged.is_file():
        return packaged
    return Path(__file__).resolve().parent.parent.joinpath(name)


def path_of(url: str) -> Path:
    """Return the path in `file:///data/objects` or `sqlite:///data/assetgate.db`, just as it stands there.

    What follows the third slash is relative to the working directory; a fourth slash makes it absolute:
    `file:////srv/objects`. Nothing is decoded. Raises ValueError.
    """
    scheme, _, rest = url.partition("://")
    if not rest.startswith("/") or rest == "/":
        raise ValueError(f"{url} is not of the form {scheme}:///relative/path or {scheme}:////absolute/path")
    return Path(rest[1:])
