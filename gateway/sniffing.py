"""Tells a file's media type from its first bytes: what it is, not what a client says it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
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
# Of the ISO base media format, brands that the library does not know or takes for films.
_BRANDS: Final = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"hevx": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_TS_SYNC: Final = 0x47
# MPEG transport packets begin with the byte above: every 188 bytes (ISO/IEC 13818-1, section 2.4.3.2), or behind four
# bytes of a clock every 192, as cameras write them.
_TS_FORMS: Final = ((0, 188), (4, 192))
_JXL: Final = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a")  # ISO/IEC 18181-2


def media_type_of(head: bytes) -> str:
    """Name the media type of a file that begins with `head` (`SNIFFED_BYTES` are enough), in lower case."""
    return _by_signature(head) or _by_library(head) or _text_type(head)


def _by_signature(head: bytes) -> str | None:
    """Name what the library does not know, or takes for something else."""
    if head.startswith(b"OggS"):
        return "video/ogg" if b"theora" in head else "audio/ogg"
    if head.startswith(_JXL):
        return "image/jxl"
    if head.startswith(b"RF64") and head[8:12] == b"WAVE":  # a WAV of more than 4 GiB (EBU Tech 3306)
        return "audio/wav"
    if _is_transport_stream(head):
        return "video/mp2t"
    return _BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None


def _by_library(head: bytes) -> str | None:
    found = filetype.guess(head)
    if found is None or not _is_really(found.mime, head):
        return None
    return _NAMES.get(found.mime, str(found.mime))


def _is_really(media_type: str, head: bytes) -> bool:
    """Look closer at what the library tells from a few letters, for a page or script can begin with those as well."""
    look = _CLOSER.get(media_type)
    return look is None or look(head)


def _is_gif(head: bytes) -> bool:
    """Tell whether a block of the format follows the screen descriptor and colour table (GIF89a, appendix B)."""
    if len(head) < 14:  # noqa: PLR2004 - header and descriptor have 13 bytes
        return False
    flags = head[10]
    table = 3 * 2 ** ((flags & 0x07) + 1) if flags & 0x80 else 0
    return head[13 + table : 14 + table] in (b"!", b",", b";")


def _is_bmp(head: bytes) -> bool:
    """Tell whether one of the known headers follows: its length in four bytes."""
    return int.from_bytes(head[14:18], "little") in {12, 16, 40, 52, 56, 64, 108, 124}


def _is_mp3(head: bytes) -> bool:
    """Tell an ID3v2 tag by its version and the size in seven bits a byte (id3v2.4.0, section 3.1)."""
    return not head.startswith(b"ID3") or (head[3:4] < b"\x10" and head[6:10].isascii())


_CLOSER: Final[dict[str, Callable[[bytes], bool]]] = {
    "image/gif": _is_gif,
    "image/bmp": _is_bmp,
    "image/vnd.dwg": lambda head: head[6:11] == bytes(5),
    "audio/mpeg": _is_mp3,
    "audio/mp4": lambda head: head[4:8] == b"ftyp",
}


def _is_transport_stream(head: bytes) -> bool:
    for start, packet in _TS_FORMS:
        marks = head[start : start + 4 * packet : packet]
        if len(marks) > 1 and all(mark == _TS_SYNC for mark in marks):
            return True
    return False


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


async def head_of(chunks: AsyncIterator[bytes]) -> bytes:
    """Take chunks until there is enough to tell the type."""
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= SNIFFED_BYTES:
            break
    return head


async def again(head: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Hand on what `head_of` took, then the rest."""
    if head:
        yield head
    async for chunk in chunks:
        yield chunk
