"""What was found in the records, in bounded memory."""

from __future__ import annotations

from typing import NamedTuple

from gateway.model import Asset


class Entry(NamedTuple):
    """What was found at an id, and until when (seconds of the steady clock) that is good."""

    asset: Asset | None
    until: float


class Entries:
    """The last `size` findings, by id, those in use above the others.

    Two generations stand for the order of use: what is asked for moves to the younger one, and when that is half of
    all, the older one goes. A hit costs one look into a dictionary.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[str, Entry] = {}
        self._old: dict[str, Entry] = {}

    def get(self, asset_id: str) -> Entry | None:
        entry = self._young.get(asset_id)
        if entry is None and (entry := self._old.pop(asset_id, None)) is not None:
            self.keep(asset_id, entry)
        return entry

    def keep(self, asset_id: str, entry: Entry) -> None:
        if not self._size:
            return
        self._young[asset_id] = entry
        if len(self._young) * 2 > self._size:
            self._young, self._old = {}, self._young

    def drop(self, asset_id: str) -> None:
        self._young.pop(asset_id, None)
        self._old.pop(asset_id, None)

    def clear(self) -> None:
        self._young, self._old = {}, {}
