"""Sizes, durations and lists as people write them in settings."""

from __future__ import annotations

import json
import re

_SIZES = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate(("k", "M", "G", "T"), start=1)
    for suffix, base in (("B", 1000), ("iB", 1024))
}
_SIZES |= {unit.upper(): factor for unit, factor in _SIZES.items() if unit.startswith("k")}
_SIZES |= {"KiB": 1024}
_DURATIONS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds
_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*\Z")


def parse_size(value: object) -> object:
    """Turn `100 MiB`, `5 GB` or a number of bytes into whole bytes; anything else goes back for pydantic to refuse."""
    if isinstance(value, str):
        return int(_parsed(value, _SIZES, "a size such as 100 MiB"))
    return value


def parse_duration(value: object) -> object:
    """Turn `24h`, `90s`, `250ms` or a number of seconds into seconds."""
    if isinstance(value, str):
        return _parsed(value, _DURATIONS, "a duration such as 24h")
    return value


def parse_list(value: object) -> object:
    """Turn an environment variable's `a,b` or `["a", "b"]` into a list."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("is not a JSON list") from None
    return [part.strip() for part in value.split(",") if part.strip()]


def _parsed(text: str, units: dict[str, int] | dict[str, float], wanted: str) -> float:
    found = _NUMBER_AND_UNIT.match(text)
    if not found or found[2] not in units:
        raise ValueError(f"is not {wanted}")
    return float(found[1]) * units[found[2]]
