"""How long to wait before the next try."""

from __future__ import annotations

from gateway.clock import Randomness

_LONGEST_DOUBLING = 32  # beyond it the powers of two only grow the numbers


def backoff(tries: int, first: float, longest: float, randomness: Randomness) -> float:
    """Return seconds: doubling from `first` up to `longest`, the upper half of it at random.

    The randomness keeps those that failed together from trying again together.
    """
    wait = min(longest, first * 2 ** min(max(tries - 1, 0), _LONGEST_DOUBLING))
    return float(wait * (0.5 + 0.5 * int.from_bytes(randomness(4)) / 2**32))
