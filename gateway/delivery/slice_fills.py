"""Slices on their way into this process, and those who wait for them, each at a place of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.delivery.slice_files import Mapped

Key = tuple[str, str]  # an object's key and version

log = logging.getLogger("assetgate.slices")

EMPTY: Final = memoryview(b"")


class Abandoned(Exception):
    """Who fetched the slice gave up, for a reason that is none to the reader: look again."""


class Fill:
    """The bytes of one slice as they come. Any number of readers wait on it, each at its own place.

    Without a `view` of a file, it is memory of its own, made when the first bytes are there. `trouble` is what its
    fetch ended with, before all was there; `waiting` are called once, when there is more or no more will come.
    `is_asked_for` is set when somebody read all that they wanted of it: the next one finds it whole.
    """

    __slots__ = ("_memory", "filled", "is_asked_for", "length", "trouble", "view", "waiting")

    def __init__(self, length: int, view: memoryview = EMPTY, memory: Callable[[int], bytearray] = bytearray) -> None:
        self._memory = memory
        self.view = view
        self.length = length
        self.filled = 0
        self.is_asked_for = False
        self.trouble: Exception | None = None
        self.waiting: list[Callable[[], None]] = []

    @property
    def is_over(self) -> bool:
        return self.trouble is not None or self.filled == self.length

    def advance(self, filled: int) -> None:
        """Have more. Who waits is called at once, while the bytes are in the processor's cache."""
        self.filled = filled
        waiting, self.waiting = self.waiting, []
        for wake in waiting:
            try:
                wake()
            except Exception:  # one reader's trouble is not the others'
                log.exception("a reader failed")

    def room(self, position: int) -> memoryview:
        """Our own memory from a position on, to receive bytes into."""
        if not self.view:
            self.view = memoryview(self._memory(self.length))
        return self.view[position:]

    def put(self, at: int, data: memoryview) -> None:
        """Take bytes into our own memory, unless they are there; all at once that nobody can change, as they are."""
        if len(data) == self.length and isinstance(data.obj, bytes):
            self.view = data
        elif not self.view or data.obj is not self.view.obj:
            self.room(at)[: len(data)] = data

    def fail(self, trouble: Exception) -> None:
        self.trouble = trouble
        self.waiting = woken(self.waiting)


@dataclass(eq=False, slots=True)
class Ticket:
    """Where a reader is, and how far it will read: indices of slices."""

    position: int
    last: int


class Source(Protocol):
    """Who brings slices: a fetch of ours, or the following of another worker's."""

    task: asyncio.Task[None]

    def goes_on_with(self, index: int) -> bool:
        """Tell whether this is the slice that it brings next, once a reader comes near."""
        ...

    def is_of_use(self) -> bool:
        """Tell whether anyone waits for what it brings, it was asked for or is nearly done."""
        ...


@dataclass(eq=False)
class Known:
    """What this process knows of one version of one object: the slices it can read, those that come, who waits."""

    key: Key
    prefix: bytes
    size: int
    slice_bytes: int
    window: int  # slices that a fetch may be ahead of the reader that is farthest
    slices: dict[int, Mapped] = field(default_factory=dict)
    fills: dict[int, Fill] = field(default_factory=dict)
    opening: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    sources: set[Source] = field(default_factory=set)
    tickets: set[Ticket] = field(default_factory=set)
    waiting: list[Callable[[], None]] = field(default_factory=list)  # called once, when any of this has changed
    read_up_to: int = 0
    is_admitted: bool = False  # it was read often enough for the disk
    is_ahead: bool = False

    @property
    def is_idle(self) -> bool:
        return not (self.slices or self.fills or self.opening or self.sources or self.tickets)

    def tasks(self) -> list[asyncio.Task[None]]:
        return [*self.opening.values(), *(source.task for source in self.sources)]

    def length_of(self, index: int) -> int:
        return min(self.slice_bytes, self.size - index * self.slice_bytes)

    def wants(self, index: int, window: int | None = None) -> bool:
        ahead = self.window if window is None else window
        return any(ticket.position <= index <= min(ticket.last, ticket.position + ahead) for ticket in self.tickets)

    def is_coming(self, index: int) -> bool:
        """Tell whether a fetch that waits for its readers will go on with this slice."""
        return any(source.goes_on_with(index) for source in self.sources)

    def remove(self, index: int, fill: Fill) -> None:
        """Take out a fill that is over, unless another took its place."""
        if self.fills.get(index) is fill:
            del self.fills[index]

    def pulse(self) -> None:
        if self.waiting:
            self.waiting = woken(self.waiting)

    def leave(self, ticket: Ticket, *, satisfied: bool) -> list[asyncio.Task[None]]:
        """Take a reader out, and end what nobody else waits for; return what is ending.

        Is it `satisfied`, then the slice that it ended in comes to its end all the same: whoever seeks in a video asks
        for a part of it again and again.
        """
        self.tickets.discard(ticket)
        if satisfied and (fill := self.fills.get(ticket.last)):
            fill.is_asked_for = True
        self.forget_private()
        useless = [source.task for source in self.sources if not source.is_of_use()]
        for task in useless:
            if not task.cancelling():  # a second time would break off what it frees
                task.cancel()
        self.pulse()
        return useless

    def forget_private(self) -> None:
        """Let go of the slices that are in no file and that no reader is near."""
        for index in [index for index, found in self.slices.items() if found.is_private and not self.wants(index)]:
            del self.slices[index]


def woken(waiting: list[Callable[[], None]]) -> list[Callable[[], None]]:
    """Have those who wait called, in a moment: none of them is to come in the midst of what another does."""
    if waiting:
        loop = asyncio.get_running_loop()
        for wake in waiting:
            loop.call_soon(wake)
    return []


async def next_call(waiting: list[Callable[[], None]]) -> None:
    """Wait until those who wait are called."""
    called = asyncio.Event()
    waiting.append(called.set)
    await called.wait()
