"""Tells a file's media type from its first bytes: what it is, not what a client says it is."""

from __future__ import annotations

from typing import Final

import filetype

SNIFFED_BYTES: Final = 4096  # enough for every signature below
UNKNOWN: Final = "application/octet-stream"

# What the library calls by older names (the IANA registry and RFC 3003, 9639 have these).
_NAMES: Final = {
    "audio/x-flac": "audio/flac",
    "audio/x-wav": "audio/wav",
    "audio/x-aiff": "audio/aiff",
    "audio/midi": "audio/midi",
    "image/jpx": "image/jp2",
    "image/x-icon": "image/vnd.microsoft.icon",
}
# Markup is looked for before pictures are guessed from text: an SVG is a program as far as a browser is concerned.
_MARKUP: Final = (
    (b"<svg", "image/svg+xml"),
    (b"<!doctype html", "text/html"),
    (b"<html", "text/html"),
    (b"<head", "text/html"),
    (b"<body", "text/html"),
    (b"<script", "text/html"),
    (b"<iframe", "text/html"),
    (b"<?xml", "application/xml"),
)
_TS_PACKET: Final = 188  # bytes; ISO/IEC 13818-1, section 2.4.3.2
_JXL: Final = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a")  # ISO/IEC 18181-2


def media_type_of(head: bytes) -> str:
    """Name the media type of a file that begins with `head` (`SNIFFED_BYTES` are enough), in lower case."""
    if head.startswith(b"OggS"):
        return "video/ogg" if b"theora" in head else "audio/ogg"
    if head.startswith(_JXL):
        return "image/jxl"
    found = filetype.guess(head)
    if found is not None:
        return _NAMES.get(found.mime, str(found.mime))
    if _is_transport_stream(head):
        return "video/mp2t"
    return _text_type(head)


def _is_transport_stream(head: bytes) -> bool:
    marks = head[: 4 * _TS_PACKET : _TS_PACKET]
    return len(marks) > 1 and marks == b"G" * len(marks)


def _text_type(head: bytes) -> str:
    if b"\0" in head[:512]:
        return UNKNOWN
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, media_type in _MARKUP:
        if mark in text[:1024]:
            return media_type
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character cut off at the end of the head is still text.
        return "text/plain" if error.start >= len(text) - 3 else UNKNOWN
    return "text/plain"
