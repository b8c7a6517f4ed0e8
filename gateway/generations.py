"""A dictionary of bounded size that keeps what is in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Generations(Generic[K, V]):
    """The last findings, those in use above the others.

    Two generations stand for the order of use: what is asked for moves to the younger one, and when that weighs half of
    `most`, the older one goes. A hit costs one look into a dictionary.
    """

    def __init__(self, most: int, weigh: Callable[[K, V], int] | None = None) -> None:
        self._most = most
        self._weigh = weigh or _one
        self._weight = 0  # of the younger generation
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        value = self._young.get(key)
        if value is None and (value := self._old.pop(key, None)) is not None:
            self.keep(key, value)
        return value

    def keep(self, key: K, value: V) -> None:
        """Keep what is not None, and not too heavy by itself."""
        self.drop(key)
        weight = self._weigh(key, value)
        if weight > self._most:
            return
        self._young[key] = value
        self._weight += weight
        if self._weight * 2 > self._most:
            self._young, self._old, self._weight = {}, self._young, 0

    def drop(self, key: K) -> None:
        if (value := self._young.pop(key, None)) is not None:
            self._weight -= self._weigh(key, value)
        else:
            self._old.pop(key, None)

    def clear(self) -> None:
        self._young, self._old, self._weight = {}, {}, 0


def _one(_key: object, _value: object) -> int:
    return 1
