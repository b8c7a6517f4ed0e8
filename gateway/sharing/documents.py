"""Finds the references in a JSON document, and puts URLs in their place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from gateway.model import REF_PREFIX, parse_ref
from gateway.sharing.links import Answer

LONGEST_REPORT: Final = 65536  # characters of pointers to refused places; deep documents could ask for gigabytes

OnDenied = Literal["error", "null", "keep"]
Answers = Mapping[str, Answer]  # by asset id
_Path = tuple[Any, str | int] | None  # the path of what holds it, and its key there; None at the root

# A reference in running text: no longer scheme ends in `asset`, and no longer id begins with this one.
_EMBEDDED: Final = re.compile(rf"(?<![A-Za-z0-9_+.-]){REF_PREFIX}([A-Za-z0-9][A-Za-z0-9_-]{{7,63}})(?![A-Za-z0-9_-])")


class Place(NamedTuple):
    """A string of a document that holds references: where it stands in the copy, and which it holds."""

    holder: Any
    key: str | int
    path: _Path
    ids: tuple[str, ...]
    whole: bool


def copied(document: Any) -> tuple[list[Any], list[Place]]:
    """Copy a document into a list of one, and find the references in it, without recursion however deep it is."""
    root = [document]
    places: list[Place] = []
    pending: list[tuple[Any, str | int, _Path]] = [(root, 0, None)] if _may_refer(document) else []
    while pending:
        holder, key, path = pending.pop()
        value = holder[key]
        if isinstance(value, str):
            ids, whole = _references(value)
            if ids:
                places.append(Place(holder, key, path, ids, whole))
            continue
        copy = value.copy()
        holder[key] = copy
        inside = copy.items() if isinstance(copy, dict) else enumerate(copy)
        # Backwards, so that the last in, who is the first out, stands first in the document.
        pending.extend(reversed([(copy, name, (path, name)) for name, held in inside if _may_refer(held)]))
    return root, places


def _may_refer(value: Any) -> bool:
    return REF_PREFIX in value if isinstance(value, str) else isinstance(value, dict | list)


def _references(text: str) -> tuple[tuple[str, ...], bool]:
    """Return the ids of the references in a string, and whether it is a reference as a whole."""
    asset_id = parse_ref(text)
    return (tuple(_EMBEDDED.findall(text)), False) if asset_id is None else ((asset_id,), True)


def resolved(place: Place, answers: Answers, on_denied: OnDenied) -> str | None:
    """Return what takes the string's place."""
    text: str = place.holder[place.key]
    if not place.whole:
        return _EMBEDDED.sub(lambda found: answers[found[1]].get("url", found[0]), text)
    return answers[place.ids[0]].get("url", None if on_denied == "null" else text)


def errors_by_pointer(places: Iterable[Place], answers: Answers) -> dict[str, str]:
    """Return the error of each place that was refused by its JSON Pointer, as many as fit into an answer."""
    fields: dict[str, str] = {}
    told = 0
    for place in places:
        errors = [answer["error"] for asset_id in place.ids if "error" in (answer := answers[asset_id])]
        if errors and told < LONGEST_REPORT:
            pointer = _pointer(place.path)
            fields[pointer] = errors[0]
            told += len(pointer) + 1
    return fields


def _pointer(path: _Path) -> str:
    """Write where a value stands in a document (RFC 6901)."""
    steps: list[str] = []
    while path is not None:
        path, key = path
        steps.append("/" + str(key).replace("~", "~0").replace("/", "~1"))
    return "".join(reversed(steps))
