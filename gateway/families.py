"""Finds the member of a family that a setting names, and imports that one alone."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from gateway.errors import CannotStart

# Modules of a family's package that are parts of its members and no members themselves.
_PARTS = {
    "metadata": {"bulletin", "d1_client", "driver", "gathering", "lanes", "limiter", "listening", "migrations", "news"}
    | {"queries", "remembered", "sql", "task_queries", "task_records", "task_sql"},
    "storage": {"drafts", "folders", "maps"}
    | {f"s3_{part}" for part in ("answers", "bucket", "connection", "place", "pool", "reads", "signing", "writes")},
    "providers": {"calling", "gemini_shapes", "jwks", "kie_shapes", "standard_webhooks", "walking"},
}


def members(family: str) -> list[str]:
    """List the members of a family such as `storage`, by name."""
    package = importlib.import_module(f"gateway.{family}")
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__) if found.name not in _PARTS[family])


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
