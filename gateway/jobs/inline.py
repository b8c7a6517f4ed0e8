"""Holds bytes that came within a provider's answer until they are stored: some answers cannot be had again."""

from __future__ import annotations

from collections.abc import Callable

from gateway.clock import Randomness
from gateway.metadata.task_records import Copy


class Inline:
    """The bytes by the copy they belong to. Such copies are leased from the start to the worker that holds them."""

    def __init__(self, randomness: Randomness) -> None:
        self.worker = randomness(8).hex()
        self._held: dict[str, bytes] = {}
        self._taker: Callable[[Copy], None] | None = None

    def taken_by(self, taker: Callable[[Copy], None]) -> None:
        """Name who copies what is held."""
        self._taker = taker

    def hold(self, copy: Copy, content: bytes) -> None:
        self._held[copy.id] = content
        if self._taker is not None:
            self._taker(copy)

    def find(self, copy: Copy) -> bytes | None:
        return self._held.get(copy.id)

    def has(self, copy_id: str) -> bool:
        return copy_id in self._held

    def drop(self, copy: Copy) -> None:
        self._held.pop(copy.id, None)
