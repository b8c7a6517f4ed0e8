"""Finds the member of a family that a setting names, and imports that one alone."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
from importlib.machinery import SourceFileLoader
from types import ModuleType

from gateway.errors import CannotStart


def members(family: str) -> list[str]:
    """List the members of a family such as `storage`, by name, without importing them.

    A member is a module with the family's opening function at its top level, such as `open_storage`; the other modules
    of the package are parts of members.
    """
    package = importlib.import_module(f"gateway.{family}")
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__) if _opens(family, found.name))


def member(family: str, name: str) -> ModuleType:
    """Import the member `name` of `family`. Raises `CannotStart` naming those there are, or the missing extra."""
    known = members(family)
    if name not in known:
        raise CannotStart(f"{family}: there is no {name!r}; there are {', '.join(known)}")
    try:
        return importlib.import_module(f"gateway.{family}.{name}")
    except ModuleNotFoundError as missing:
        raise CannotStart(
            f"{family}: {name!r} needs the package {missing.name}: pip install 'assetgate[{name}]'"
        ) from missing


def _opens(family: str, name: str) -> bool:
    """Tell whether the module has `open_metadata`, `open_storage` or `open_provider`: the source says so."""
    spec = importlib.util.find_spec(f"gateway.{family}.{name}")
    loader = spec.loader if spec is not None else None
    source = loader.get_source(loader.name) if isinstance(loader, SourceFileLoader) else None
    return re.search(rf"^(?:async )?def open_{family.removesuffix('s')}\(", source or "", re.MULTILINE) is not None
