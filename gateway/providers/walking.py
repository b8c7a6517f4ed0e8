"""Finds the media in an answer of any shape: Replicate's `output` and fal's result are whatever a model's schema says.

Sources: replicate-python `transform_output` (every string that starts with `https:` or `data:`), and fal's file object
`{url, content_type, file_name, file_size}`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from yarl import URL

from gateway.providers import MAIN_ROLE, MediaItem, MediaType, Role

LARGEST_INLINE = 64 * 1024 * 1024  # bytes after decoding
MOST_ITEMS = 256  # of one result
_DETAILS = ("width", "height", "duration", "title", "file_name")
_URL = re.compile(r"https?://[^\s]+\Z")
_DATA = re.compile(r"data:([a-zA-Z0-9.+/-]*)(?:;[a-zA-Z0-9=.+-]+)*;base64,")
_SIDE_ROLES: Mapping[str, Role] = {
    "thumbnail": "thumbnail",
    "thumb": "thumbnail",
    "preview": "thumbnail",
    "poster": "thumbnail",
    "cover": "cover",
}
_EXTENSIONS: Mapping[Role, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".heic", ".bmp", ".tiff"),
    "video": (".mp4", ".webm", ".mov", ".mkv", ".m4v", ".avi"),
    "audio": (".mp3", ".wav", ".ogg", ".flac", ".m4a", ".aac", ".opus"),
}
_KINDS: Mapping[str, Role] = {"image": "image", "video": "video", "audio": "audio"}


@dataclass(frozen=True, slots=True)
class Found:
    """A string that names or is a file, the keys on the way to it, and the file object around it."""

    text: str
    keys: tuple[str, ...]
    around: Mapping[str, Any] = field(default_factory=dict)


def walk(output: Any) -> Iterator[Found]:
    """Yield what looks like a file, in the order of the document. No recursion: depth is a stranger's choice."""
    pending: list[tuple[Any, tuple[str, ...], Mapping[str, Any]]] = [(output, (), {})]
    while pending:
        value, keys, around = pending.pop()
        if isinstance(value, str):
            if _URL.match(value) or _DATA.match(value):
                yield Found(value, keys, around)
        elif isinstance(value, Mapping):
            inside = value if isinstance(value.get("url"), str) else {}
            pending += [(value[key], (*keys, str(key)), inside if key == "url" else {}) for key in reversed(value)]
        elif isinstance(value, Sequence):
            pending += [(entry, keys, around) for entry in reversed(value)]


def items(found: Sequence[Found], media_type: MediaType, hosts: Sequence[str]) -> tuple[MediaItem, ...]:
    """Make items of those on allowed hosts and those inline.

    When none is, of all: then the fetcher refuses the host, and the task says why.
    """
    unique = {one.text: one for one in reversed(found)}
    kept = [one for one in found if unique.get(one.text) is one]
    allowed = [one for one in kept if one.text.startswith("data:") or on_hosts(one.text, hosts)]
    counter: Counter[Role] = Counter()
    made: list[MediaItem] = []
    for one in (allowed or kept)[:MOST_ITEMS]:
        declared = one.around.get("content_type")
        inline = decode_data_uri(one.text) if one.text.startswith("data:") else None
        if inline is not None:
            declared, content = inline
        elif one.text.startswith("data:"):
            continue
        role = role_of(one, declared if isinstance(declared, str) else None, media_type)
        made.append(
            MediaItem(
                role,
                counter[role],
                url=None if inline else one.text,
                inline=content if inline else None,
                media_type=declared if isinstance(declared, str) else None,
                details={name: one.around[name] for name in _DETAILS if name in one.around},
            )
        )
        counter[role] += 1
    return tuple(made)


def role_of(found: Found, declared: str | None, media_type: MediaType) -> Role:
    """Judge by the keys' names, the declared type, the extension; what is left is what was asked for."""
    words = {word for key in found.keys for word in re.split(r"[^a-z]+", key.lower())}
    for word, role in _SIDE_ROLES.items():
        if word in words:
            return role
    kind = _KINDS.get((declared or "").partition("/")[0]) or kind_of_url(found.text)
    if kind is None or (kind == "audio" and media_type == "music"):
        return MAIN_ROLE[media_type]
    return kind


def kind_of_url(url: str) -> Role | None:
    path = url.partition("?")[0].lower()
    return next((kind for kind, extensions in _EXTENSIONS.items() if path.endswith(extensions)), None)


def on_hosts(url: str, hosts: Sequence[str]) -> bool:
    """Tell whether the host of `url` is among exact hosts and `*.suffix` forms. The fetcher judges harder."""
    try:
        parts = URL(url)
    except ValueError:
        return False
    host = (parts.host or "").lower()
    return any(
        host.endswith(entry[1:]) if entry.startswith("*.") else entry in (host, f"{host}:{parts.port}", "*")
        for entry in hosts
    )


def decode_data_uri(text: str) -> tuple[str, bytes] | None:
    """Return type and bytes of a base64 `data:` URI (RFC 2397); None for one that is broken or too large."""
    head = _DATA.match(text)
    if head is None:
        return None
    content = decode_base64(text[head.end() :])
    return None if content is None else (head[1] or "application/octet-stream", content)


def decode_base64(text: object) -> bytes | None:
    """Decode, with the size judged before the memory is taken; None for what is broken or too large."""
    if not isinstance(text, str) or len(text) * 3 // 4 > LARGEST_INLINE:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
