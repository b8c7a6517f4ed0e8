"""What was found out about a credential, remembered for a while in bounded memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """The last `size` findings, by the digest of the credential: secrets stay out of memory, long ones cost no more."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._found: OrderedDict[bytes, tuple[T, float, float]] = OrderedDict()

    def get(self, credential: str, now: float) -> T | None:
        """Return what is remembered and good at `now` (seconds since 1970), else None."""
        digest = _digest(credential)
        entry = self._found.get(digest)
        if entry is None:
            return None
        finding, since, until = entry
        # A clock that was set back would stretch every `until`; what lies in the future is looked up again.
        if not since <= now < until:
            del self._found[digest]
            return None
        self._found.move_to_end(digest)
        return finding

    def put(self, credential: str, finding: T, now: float, until: float) -> None:
        """Remember from `now` to `until`; the finding that was not asked for the longest makes room."""
        self._found[_digest(credential)] = (finding, now, until)
        if len(self._found) > self._size:
            self._found.popitem(last=False)

    def clear(self) -> None:
        self._found.clear()


def _digest(credential: str) -> bytes:
    # Header bytes that are not UTF-8 arrive as lone surrogates.
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
