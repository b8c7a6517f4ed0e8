"""Finds the files that ship with the package: migrations, default settings, pages."""

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
