"""File names as clients send them, made fit to keep."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

LONGEST: Final = 255  # bytes of UTF-8, as file systems have it
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean_filename(name: str | None) -> str | None:
    """Keep the last part of a path, without control characters or marks that turn the reading direction round.

    It is shown and sent back; nothing of ours is ever stored under it. None when nothing is left.
    """
    if name is None:
        return None
    last = re.split(r"[/\\]", _CONTROL.sub("", name))[-1]
    text = unicodedata.normalize("NFC", last).strip()
    while len(text.encode()) > LONGEST:
        text = text[:-1]
    return text if text.strip(".") else None
