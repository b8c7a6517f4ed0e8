"""The Content-Disposition of an asset (RFC 6266): shown in the page or only ever saved, and under which name."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote

# The closed list of what a browser may show: no type in it can run script. SVG, HTML, XML and PDF can.
INLINE: Final = frozenset(
    f"{kind}/{subtype}"
    for kind, subtypes in {
        "image": "jpeg png apng gif webp avif heic heif heic-sequence heif-sequence bmp x-ms-bmp tiff x-icon"
        " vnd.microsoft.icon jxl jp2",
        "video": "mp4 webm ogg quicktime x-matroska matroska mpeg mp2t 3gpp 3gpp2 x-m4v x-msvideo avi x-ms-wmv x-flv",
        "audio": "mpeg mp3 mp4 aac aacp x-aac wav wave x-wav vnd.wave flac x-flac ogg opus webm x-matroska matroska"
        " m4a x-m4a aiff x-aiff midi x-midi basic amr 3gpp 3gpp2 ac3 eac3 x-ms-wma x-caf",
    }.items()
    for subtype in subtypes.split()
)
_LONGEST = 255  # characters of a file name, as most file systems have it
_TAIL = 32  # characters kept at the end of a name that is too long: its extension is there
# Control characters, separators of paths, halves of surrogate pairs; and the marks that turn the direction of writing,
# with which `gpj.exe` reads as `exe.jpg`.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f/\\\\\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# Besides what is not ASCII: quotes end the string, and some clients decode percent signs (RFC 6266, appendix D).
_NOT_PLAIN: Final = re.compile(r'[^ -~]|["%]')
_ATTR_CHAR: Final = "!#$&+-.^_`|~"  # with letters and digits, what RFC 8187 leaves as it is


@lru_cache(maxsize=1024)  # most have no name, or are asked for again
def content_disposition(media_type: str, filename: str | None, dl: str | int | None = None) -> str:
    """Write the header's value. `dl` is the claim of an access token: 1 or a file name make it a download."""
    essence = media_type.partition(";")[0].strip().lower()
    kind = "inline" if dl is None and essence in INLINE else "attachment"
    name = _safe(dl) if isinstance(dl, str) else ""
    name = name or _safe(filename or "")
    if not name:
        return kind
    plain = _NOT_PLAIN.sub("_", name)
    if plain == name:
        return f'{kind}; filename="{plain}"'
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_ATTR_CHAR)}"


def _safe(name: str) -> str:
    """Make a name that no file system or header takes for more than a name; empty when nothing is left of it."""
    name = _UNSAFE.sub("_", name).strip()
    if len(name) > _LONGEST:
        name = name[: _LONGEST - _TAIL] + name[-_TAIL:]
    return name if name.strip("._ ") else ""
