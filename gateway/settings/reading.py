"""Lays the operator's file and environment over the defaults, and reports every problem at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from gateway.errors import CannotStart
from gateway.resources import resource
from gateway.settings import Settings

DEFAULT_FILE = Path("assetgate.toml")
ENVIRONMENT_PREFIX = "ASSETGATE_"
FROM_FILE = "_FILE"

Table = dict[str, Any]


class Loaded(NamedTuple):
    """The settings, and the top-level tables that the operator set something in."""

    settings: Settings
    own: frozenset[str]


def load(config: Path | None, environment: Mapping[str, str], underneath: Mapping[str, Any] | None = None) -> Loaded:
    """Read the settings. Raises `CannotStart` with all problems, each by the name to type.

    `underneath` lies between the defaults and what the operator says: the secrets of the embedded mode.
    """
    problems: list[str] = []
    own = _read_file(config, problems)
    for name, path, value in _from_environment(environment, problems):
        _place(own, path, value, name, problems)
    merged = _merged(_merged(defaults(), underneath or {}), own)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as invalid:
        problems += [_problem(error) for error in invalid.errors(include_url=False, include_input=False)]
    if problems:
        raise CannotStart(*problems)
    return Loaded(settings, frozenset(own))


def defaults() -> Table:
    """Read `config/default.toml`."""
    return tomllib.loads(resource("config/default.toml").read_text(encoding="utf-8"))


def _read_file(config: Path | None, problems: list[str]) -> Table:
    if config is None and not DEFAULT_FILE.is_file():
        return {}
    path = config or DEFAULT_FILE
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path}: is not TOML: {error}")
    return {}


def _from_environment(environment: Mapping[str, str], problems: list[str]) -> Iterator[tuple[str, list[str], str]]:
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        key, value = name.removeprefix(ENVIRONMENT_PREFIX), environment[name]
        path = _path_of(key, Settings)
        if path is None and key.endswith(FROM_FILE):
            path = _path_of(key.removesuffix(FROM_FILE), Settings)
            try:
                value = Path(value).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                problems.append(f"{name}: the file {value} cannot be read")
                continue
        if path is None:
            problems.append(f"{name}: there is no such setting")
            continue
        yield name, path, value


def _path_of(key: str, model: type[BaseModel]) -> list[str] | None:
    """Find the dotted key that `SERVER_PUBLIC_URL` stands for: the longest name of a field that fits comes first."""
    for name in sorted(model.model_fields, key=len, reverse=True):
        annotation = model.model_fields[name].annotation
        if key == name.upper() and _table_in(annotation) is None:
            return [name]
        if not key.startswith(name.upper() + "_"):
            continue
        rest, inner = key[len(name) + 1 :], _table_in(annotation)
        if inner is None:
            continue
        path = _path_in_named_table(rest, inner) if _is_named(annotation) else _path_of(rest, inner)
        if path is not None:
            return [name, *path]
    return None


def _path_in_named_table(key: str, model: type[BaseModel]) -> list[str] | None:
    """Find `app.key_sha256` for `APP_KEY_SHA256`: the name is what stands before a known field."""
    for field in sorted(model.model_fields, key=len, reverse=True):
        name = key.removesuffix("_" + field.upper())
        if name and name != key:
            return [name.lower(), field]
    return None


def _table_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _table_in(part))), None)


def _is_named(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is dict


def _place(tree: Table, path: list[str], value: str, name: str, problems: list[str]) -> None:
    for step in path[:-1]:
        below = tree.setdefault(step, {})
        if not isinstance(below, dict):
            problems.append(f"{name}: {step} is no table in the settings file")
            return
        tree = below
    tree[path[-1]] = value


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _problem(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"] if not str(part).startswith("function-"))
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    return f"{name}: {str(error['msg']).removeprefix('Value error, ')}"
