"""What one worker has in its maps, by object and slice; what was asked for; and when to let go of it."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections import OrderedDict
from contextlib import suppress
from typing import Final

from gateway.delivery import slice_files
from gateway.delivery.eviction import MOST_HITS
from gateway.delivery.ledger import Contended, Noted, Step
from gateway.delivery.slice_files import Mapped
from gateway.delivery.slice_fills import Key, Known
from gateway.delivery.slice_store import SliceStore
from gateway.delivery.slice_young import Young

EXCHANGED: Final = 5.0  # seconds between two looks at what the other workers did
IDLE: Final = 6  # of those; a map unused for one to two such times goes, and with it the space of a removed file
_MOST_MAPS: Final = 16_384  # a quarter of what Linux lets a process map by default


class SliceMaps:
    """The maps, a bounded number of them, and the objects that they and the readers belong to."""

    def __init__(self, store: SliceStore, slice_bytes: int, window: int, young_bytes: int) -> None:
        self.young = Young(young_bytes, slice_bytes)
        self.known: dict[Key, Known] = {}
        self._store = store
        self._slice_bytes = slice_bytes
        self._window = window
        self._by_prefix: dict[bytes, Known] = {}
        self._maps: OrderedDict[bytes, Mapped] = OrderedDict()
        self._most_maps = _most_maps()
        self._hits: list[Mapped] = []
        self._deleted: set[Known] = set()
        self._ticks = 0
        self._timer = asyncio.get_running_loop().call_later(EXCHANGED, self._tick)

    def know(self, key: Key, size: int) -> Known:
        known = self.known.get(key)
        if known is None:
            prefix = slice_files.prefix_of(*key, self._slice_bytes)
            known = self.known[key] = self._by_prefix[prefix] = Known(
                key, prefix, size, self._slice_bytes, self._window
            )
        return known

    def hit(self, found: Mapped) -> None:
        """Count that a slice was asked for."""
        found.used = True
        if found.hits < MOST_HITS:
            if not found.hits:
                self._hits.append(found)
            found.hits += 1

    def _forget_oldest(self) -> None:
        while len(self._maps) > self._most_maps:
            name, found = self._maps.popitem(last=False)
            if found.used:
                found.used = False
                self._maps[name] = found
            else:
                self._forget(name)

    def forget_gone(self) -> None:
        gone = self._store.ledger.gone
        while gone:
            self._forget(gone.popleft())

    def _forget(self, name: bytes) -> None:
        self._maps.pop(name, None)
        known = self._by_prefix.get(name[:-4])
        index = int.from_bytes(name[-4:], "big")
        if known is not None and (found := known.slices.get(index)) and found.name == name:
            del known.slices[index]

    def detach(self, keys: tuple[str, ...]) -> None:
        """Let nobody new come to objects that are deleted; who reads them reads on."""
        for key in [key for key in self.known if key[0] in keys]:
            known = self.known.pop(key)
            del self._by_prefix[known.prefix]
            self.young.drop(known)
            for found in known.slices.values():
                self._maps.pop(found.name, None)
                found.name = b""
            known.forget_private()
            self._deleted.add(known)

    def tell_hits(self) -> None:
        ledger, hits = self._store.ledger, self._hits
        if not hits:
            return
        self._hits = []
        for found in hits:
            if found.name and ledger.is_unsaturated(found.name):
                ledger.note_later(Noted(Step.HIT, found.name, hits=found.hits))
                found.hits = 0

    def exchange(self) -> None:
        self.tell_hits()
        self._store.exchange()
        self.forget_gone()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(EXCHANGED, self._tick)
        with suppress(Contended):
            self.exchange()
        self._ticks += 1
        for found in self._maps.values():
            found.hits = 0
        if self._ticks % IDLE == 0:
            self.forget_idle()

    def tasks(self) -> list[asyncio.Task[None]]:
        """Give all that is under way, for deleted objects too."""
        return [task for known in (*self.known.values(), *self._deleted) for task in known.tasks()]

    def close(self) -> None:
        self._timer.cancel()
        with suppress(Contended):
            self.exchange()
        self.known.clear()
        self._by_prefix.clear()
        self._maps.clear()
        self.young.clear()

    def remember_young(self, known: Known, index: int, view: memoryview) -> Mapped:
        """Keep a slice in memory; of a deleted object, for those who read it now."""
        found = Mapped(view, b"")
        if self._by_prefix.get(known.prefix) is known:
            for left in self.young.add(known, index, found):
                self._forget_known(left)
        else:
            known.slices[index] = found
            known.forget_private()
        return found

    def remember(self, known: Known, index: int, found: Mapped) -> None:
        known.slices[index] = found
        if self._by_prefix.get(known.prefix) is not known:
            found.name = b""  # its object was deleted: it is for those who read it now
        elif found.name:
            self._maps[found.name] = found
            self._forget_oldest()

    def make_private(self, known: Known, found: Mapped) -> None:
        self._maps.pop(found.name, None)
        found.name = b""
        known.forget_private()

    def _forget_known(self, known: Known) -> None:
        if known.is_idle and self.known.get(known.key) is known:
            del self.known[known.key]
            del self._by_prefix[known.prefix]

    def forget_idle(self) -> None:
        """Forget what nobody asked for since the last time."""
        for name, found in list(self._maps.items()):
            if not found.used:
                self._forget(name)
            found.used = False
        for known in list(self.known.values()):
            self._forget_known(known)
        self._deleted = {known for known in self._deleted if not known.is_idle}


def _most_maps() -> int:
    if sys.version_info >= (3, 13):
        return _MOST_MAPS
    # Each is a descriptor as well, and connections need them too.
    return min(_MOST_MAPS, max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
