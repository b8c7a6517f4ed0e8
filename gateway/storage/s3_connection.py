"""One keep-alive connection to an S3 server: a GET at a time, its body handed on in the buffers that it came in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.storage import Buffer, Landing

SCRATCH: Final = memoryview(bytearray(256 * 1024))  # where bytes arrive that have no other place; used within one call
MOST_AT_ONCE: Final = 1024 * 1024  # bytes of one read: they are handed on while the processor's cache holds them
MOST_HELD: Final = 2 * 1024 * 1024  # bytes that wait for a slow consumer before the server is kept waiting
RESUMED_AT: Final = MOST_HELD // 2
LONGEST_HEAD: Final = 64 * 1024  # bytes
_TICK: Final = 0.001  # seconds; uvloop's time goes by these
_END_OF_HEAD: Final = b"\r\n\r\n"
_BEGIN_OF_HEAD: Final = b"HTTP/1."
_INFORMATIONAL: Final = 200  # statuses below it announce the answer and are none
_WITHOUT_BODY: Final = {204, 304}


class Broken(Exception):
    """The connection ended before the answer did. `begun` tells whether any byte of the answer had come."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__("the connection broke")
        self.begun = begun


class Nonsense(Exception):
    """What came is no HTTP, or not what HTTP allows here."""


@dataclass(slots=True)
class Answer:
    """The head of an answer. Names are in lower case; of a repeated header it has the last."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def number(self, name: bytes) -> int | None:
        """Return the value of a header that is a plain number."""
        value = self.headers.get(name, b"")
        return int(value) if value.isdigit() else None


class Connection(asyncio.BufferedProtocol):
    """A body of stated length passes by the parser, which would copy it; only one in chunks goes through.

    Once somebody has judged the head, what comes of it is received where the reader wants it.
    """

    def __init__(self, on_lost: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._looks_at = 0.0  # the loop's time at which the wait is over, and that of the timer
        self._trouble: Callable[[], Exception] | None = None  # made anew for each who meets it: it holds their frames
        self._answer: Answer | None = None
        self._head = b""
        self._begun = False
        self._asked = False
        self._landing: Landing | None = None
        self._at = 0  # where in the object the next byte belongs
        self._place: memoryview | None = None  # where the system puts bytes at this moment, if not into the scratch
        self._left: int | None = 0  # bytes of the body that have not come; None: until its last chunk, or the end
        self._chunks: HttpResponseParser | None = None
        self._buffers: deque[Buffer] = deque()
        self._held = 0
        self._paused = False
        self._kept_alive = True
        self.is_reused = False
        self.idle_since = 0.0
        self.closed: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_done(self) -> bool:
        """Tell whether all of the body has come; some of it may still wait to be taken."""
        return not self._asked or (self._answer is not None and self._left == 0)

    @property
    def is_reusable(self) -> bool:
        return self.is_done and self._kept_alive and self._trouble is None

    async def ask(self, request: bytes, timeout: float) -> Answer:  # noqa: ASYNC109 - one timer for all that arrives
        """Send a request and return the head of its answer. Raises `Broken`, `Nonsense`, `TimeoutError`."""
        self._answer, self._begun, self._asked, self._left = None, False, True, None
        if self._trouble is None and self._transport is not None:
            self._transport.write(request)
        return await self._head_of_answer(timeout)

    async def take(self, timeout: float) -> Buffer | None:  # noqa: ASYNC109 - as above
        """Return the next piece of the body, None at its end. Raises `Broken`, `Nonsense`, `TimeoutError`."""
        while not self._buffers:
            if self._left == 0:
                return None
            await self._wait(timeout)
        buffer = self._buffers.popleft()
        self._held -= len(buffer)
        if self._paused and self._held <= RESUMED_AT:
            self._read_on()
        return buffer

    def land(self, landing: Landing, at: int) -> None:
        """Receive what is still to come of a body of stated length there; the body begins `at` this position."""
        if self._chunks is None and self._left:
            self._landing, self._at = landing, at + self._held

    def make_ready(self) -> None:
        """Throw away what nobody took, and be as new for the next request."""
        self._buffers.clear()
        self._held = 0
        self._asked = False
        self._landing = None
        self._chunks = None
        self.is_reused = True
        if self._paused:
            self._read_on()

    def abort(self) -> None:
        self._landing = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no instances of it

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - we know how much there is to come
        self._place = None  # a read that brought nothing has left it
        if self._landing is not None and self._left:
            place = self._landing.room(self._at)
            self._place = place[: min(self._left, MOST_AT_ONCE)] if place is not None else None
        return SCRATCH if self._place is None else self._place

    def buffer_updated(self, nbytes: int) -> None:
        place, self._place = self._place, None
        at, landing = self._at, self._landing
        self._received(bytes(SCRATCH[:nbytes]) if place is None else place[:nbytes])
        if place is not None and landing is not None:
            landing.landed(at, nbytes)

    def _received(self, data: Buffer) -> None:
        if not self._asked:
            self._fail(Nonsense)  # such as a 408 to a connection that was idle for too long
            return
        self._begun = True
        try:
            self._take(data)
        except (HttpParserError, HttpParserUpgrade, ValueError):
            self._fail(Nonsense)
            return
        if self._held >= MOST_HELD and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        if self._answer is not None:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - all ways to lose it are one to us
        if self._answer is not None and self._left is None and self._chunks is None and self._trouble is None:
            self._left = 0  # a body of no stated length ends with its connection
        self._trouble = self._trouble or partial(Broken, begun=self._begun)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._wake()
        if not self.closed.done():
            self.closed.set_result(None)
        self._on_lost(self)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a chunked body, from the parser."""
        self._buffers.append(body)
        self._held += len(body)

    def on_message_complete(self) -> None:
        if self._chunks is not None:
            self._left = 0

    def _take(self, data: Buffer) -> None:
        while self._answer is None and data:
            data = self._take_head(bytes(data))
        if self._chunks is not None:
            self._chunks.feed_data(data)
        elif data:
            self._take_body(data)

    def _take_head(self, data: bytes) -> memoryview:
        """Take a head, or some of it, and return what is behind."""
        data = self._head + data
        end = data.find(_END_OF_HEAD)
        # Looked at first: without it, what is no HTTP would be waited for until the time is over.
        if data[: len(_BEGIN_OF_HEAD)] != _BEGIN_OF_HEAD[: len(data)] or (len(data) if end < 0 else end) > LONGEST_HEAD:
            raise ValueError
        if end < 0:
            self._head = data
            return memoryview(b"")
        self._head = b""
        end += len(_END_OF_HEAD)
        self._understand(data[:end])
        return memoryview(data)[end:]

    def _understand(self, head: bytes) -> None:
        answer = Answer()
        parser = HttpResponseParser(answer)
        parser.feed_data(head)
        answer.status = parser.get_status_code()
        if answer.status < _INFORMATIONAL:
            return
        self._kept_alive = parser.should_keep_alive()
        self._chunks = None
        if b"transfer-encoding" in answer.headers:
            # Fed once more, to a parser that knows us: it hands on the chunks, and ends by itself.
            self._chunks = HttpResponseParser(self)
            self._chunks.feed_data(head)
            self._left = None
        else:
            self._left = 0 if answer.status in _WITHOUT_BODY else answer.number(b"content-length")
        self._answer = answer

    def _take_body(self, data: Buffer) -> None:
        if self._left is not None:
            if len(data) > self._left:
                self._kept_alive = False  # whatever follows is not part of this answer
                data = memoryview(data)[: self._left]
            self._left -= len(data)
        if data:
            self._at += len(data)
            self._buffers.append(data)
            self._held += len(data)

    def _read_on(self) -> None:
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _fail(self, trouble: Callable[[], Exception]) -> None:
        self._trouble = self._trouble or trouble
        self.abort()
        self._wake()

    async def _head_of_answer(self, timeout: float) -> Answer:  # noqa: ASYNC109 - as above
        while self._answer is None:
            await self._wait(timeout)
        return self._answer

    async def _wait(self, timeout: float) -> None:  # noqa: ASYNC109 - as above
        if self._trouble is not None:
            raise self._trouble()
        waiter = self._waiter = self._loop.create_future()
        self._due = self._loop.time() + timeout
        if self._timer is None or self._looks_at > self._due:
            self._set_timer()
        try:
            await waiter
        finally:
            self._waiter = None

    def _set_timer(self) -> None:
        """Look when the time is over whether somebody still waits: few do, and a timer for each would cost more."""
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = self._due
        self._timer = self._loop.call_at(self._due, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._due - _TICK:
            self._set_timer()
        else:
            self._waiter.set_exception(TimeoutError())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
