"""Owns a connection: answers plain remembered reads itself, and lends the rest to aiohttp's handler."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from gateway.errors import AssetgateError
from gateway.metrics import Metrics
from gateway.storage import Buffer, Feed
from gateway.web.express.lane import Answer, Lane
from gateway.web.express.memory import Wanted
from gateway.web.express.refusals import refusal
from gateway.web.express.requests import body_owed
from gateway.web.express.steps import Steps
from gateway.web.observed import Note

ONE_WRITE: Final = 256 * 1024  # bytes of a body that go out with their head
LOOKS: Final = 3  # turns of the loop that a busy handler is given to end before it gets what came meanwhile
MOST_BEHIND: Final = 64 * 1024  # bytes kept of what comes while an answer is on its way

log = logging.getLogger("assetgate.web")


class Fronts:
    """The open connections, so that a stop can wait for those that are sending."""

    def __init__(self, lane: Lane, metrics: Metrics, handler: Callable[[], Any], keep_alive: float) -> None:
        self.lane = lane
        self.metrics = metrics
        self.handler = handler
        self.open: set[Front] = set()
        self._reading: set[asyncio.Task[None]] = set()
        self.stopping = False
        self._gone: asyncio.Event | None = None
        self._keep_alive = keep_alive
        self._looking = asyncio.get_running_loop().call_later(keep_alive, self._close_idle)

    def connected(self) -> Front:
        """Make the protocol of a new connection."""
        return Front(self)

    async def drain(self, patience: float) -> None:
        """Close what is idle, and wait `patience` seconds for what is sending; then break it off."""
        self.stopping = True
        self._looking.cancel()
        self._gone = asyncio.Event()
        for front in list(self.open):
            front.close_when_done()
        if self.open:
            try:
                async with asyncio.timeout(patience):
                    await self._gone.wait()
            except TimeoutError:
                for front in list(self.open):
                    front.abort()
                await self._gone.wait()
        # What they had opened in the storage is to be closed before the storage is.
        await asyncio.gather(*self._reading, return_exceptions=True)

    def begin(self, reading: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(reading)
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)
        return task

    def _close_idle(self) -> None:
        """Close what was idle for one to two such times: a look at all is cheaper than a timer for each."""
        for front in list(self.open):
            if not front.active:
                front.close_when_done()
            front.active = False
        self._looking = asyncio.get_running_loop().call_later(self._keep_alive, self._close_idle)

    def lost(self, front: Front) -> None:
        self.open.discard(front)
        if self._gone is not None and not self.open:
            self._gone.set()


class Front(asyncio.Protocol):
    """One connection. At every moment it belongs to aiohttp's handler, to an answer on its way, or to nobody."""

    def __init__(self, fronts: Fronts) -> None:
        self._fronts = fronts
        self._transport: Any = None
        self._peer: str | None = None
        self._handler: Any = None
        # Bytes of a request's body that the handler has yet to get; None: it may hold part of a request, for ever.
        self._owed: int | None = 0
        self._answer: Answer | None = None
        self._request = b""  # that it answers
        self._feed: Feed | None = None
        self._size = 0  # bytes of its body
        self._sent = 0
        self._head = b""  # that goes out before the first piece
        self._paused = False
        self._behind = b""  # what came while an answer was on its way
        self._late = b""  # what came while the handler was busy, and begins with a request
        self.active = True  # something came since the last look at idle connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else None
        self._fronts.open.add(self)
        if self._fronts.stopping:
            self.close_when_done()

    def data_received(self, data: bytes) -> None:
        self.active = True
        if self._answer is not None:
            self._behind += data
            if len(self._behind) > MOST_BEHIND:
                self._transport.pause_reading()
        elif self._late:
            self._late += data
        elif self._handler is not None and not self._is_handler_idle():
            if self._owed == 0:
                self._late = data
                asyncio.get_running_loop().call_soon(self._look_again, LOOKS)
            else:
                self._hand_on(data)
        elif not self._answered(data):
            self._lend(data)

    def eof_received(self) -> bool | None:
        if self._handler is not None:
            self._hand_on_late()
            result: bool | None = self._handler.eof_received()
            return result
        return None

    def pause_writing(self) -> None:
        self._paused = True
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._paused = False
        if self._handler is not None:
            self._handler.resume_writing()
        elif self._feed is not None:
            self._pour()

    def connection_lost(self, exc: Exception | None) -> None:
        self._late = b""
        if self._answer is not None:
            self._finish(broken=True)
        if self._handler is not None:
            self._handler.connection_lost(exc)
            self._handler = None
        self._transport = None
        self._fronts.lost(self)

    def close_when_done(self) -> None:
        """Close now if nothing is on its way; aiohttp's handler is told by its own server."""
        if self._answer is None and self._handler is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _answered(self, data: bytes) -> bool:
        answer = self._fronts.lane.answer(data, self._peer)
        if answer is None:
            return False
        if self._handler is not None:
            self._dismiss()
        body = answer.body
        if body is None:
            self._transport.write(answer.head)
            self._noted(answer, 0)
        elif isinstance(body, Wanted):
            # Meanwhile we listen: a client that leaves is not to be read for.
            feed = self._fronts.lane.feed(body, self._pour, self._fronts.begin)
            self._begin(answer, feed, len(body.span), data)
        elif len(body) <= ONE_WRITE:
            self._transport.writelines((answer.head, body))
            self._noted(answer, len(body))
        else:
            self._transport.pause_reading()
            self._begin(answer, Steps(body), len(body), data)
        if self._fronts.stopping:
            self.close_when_done()
        return True

    def _begin(self, answer: Answer, feed: Feed, size: int, request: bytes) -> None:
        self._answer, self._feed, self._size, self._request = answer, feed, size, request
        self._sent, self._head = 0, answer.head
        self._fronts.metrics.streams.inc()
        self._pour()

    def _pour(self) -> None:
        """Send what there is, as fast as the client takes it."""
        try:
            while self._feed is not None and not self._paused and not self._transport.is_closing():
                piece = self._feed.take()
                if piece is None:
                    return
                self._send(piece)
        except Exception as trouble:  # noqa: BLE001 - a broken connection, or the other lane's words, say so
            self._fail(trouble)

    def _send(self, piece: Buffer) -> None:
        self._sent += len(piece)
        head, self._head = self._head, b""
        if head:
            self._transport.writelines((head, piece))
        else:
            self._transport.write(piece)
        if self._sent == self._size:
            self._finish(broken=False)

    def _fail(self, trouble: Exception) -> None:
        """Refuse, or once bytes were sent, break off."""
        if self._answer is not None and self._head:
            refused = refusal(self._answer, self._request, trouble, self._fronts.lane.shared)
            self._transport.writelines((refused.head, refused.body))
            self._answer = refused
            self._finish(broken=False)
            return
        if not isinstance(trouble, AssetgateError):
            log.error("an answer broke off", exc_info=trouble)
        self.abort()

    def _finish(self, *, broken: bool) -> None:
        answer, self._answer = self._answer, None
        feed, self._feed = self._feed, None
        if answer is None or feed is None:
            return
        feed.close()
        self._request = b""
        self._fronts.metrics.streams.dec()
        if broken:
            self._fronts.metrics.broken.inc()
        self._noted(answer, self._sent, broken=broken)
        if broken:
            return
        if self._fronts.stopping or self._transport.is_closing():
            self._transport.close()
            return
        self._transport.resume_reading()
        behind, self._behind = self._behind, b""
        if behind:
            self.data_received(behind)

    def _noted(self, answer: Answer, sent: int, *, broken: bool = False) -> None:
        _, _, facts, began, decision, request_id, address = answer
        note = Note(facts, began, time.perf_counter(), request_id, address, broken, sent, decision)
        self._fronts.lane.observed.add(note)

    def _lend(self, data: bytes) -> None:
        """Give the connection to aiohttp's handler, which is made when it is first needed."""
        if self._handler is None:
            self._handler = self._fronts.handler()
            self._handler.connection_made(self._transport)
            if self._paused:
                self._handler.pause_writing()
        self._owed = 0
        self._owed = body_owed(data)
        self._handler.data_received(data)

    def _look_again(self, looks: int) -> None:
        """Take up what came while the handler was busy: with an answer that is all sent, it needs but a turn more."""
        if self._late and self._handler is not None and not self._is_handler_idle():
            if looks > 1:
                asyncio.get_running_loop().call_soon(self._look_again, looks - 1)
            else:
                self._hand_on_late()
            return
        late, self._late = self._late, b""
        if late and not self._answered(late):
            self._lend(late)

    def _hand_on_late(self) -> None:
        late, self._late = self._late, b""
        if late:
            self._hand_on(late)

    def _hand_on(self, data: bytes) -> None:
        if self._owed == 0:
            self._owed = body_owed(data)
        elif self._owed is not None:
            left = self._owed - len(data)
            self._owed = left if left >= 0 else None
        self._handler.data_received(data)

    def _is_handler_idle(self) -> bool:
        """Tell whether aiohttp has answered all that it got, and waits for a next request of which it holds nothing."""
        # aiohttp has no public word for this; a version without the attribute keeps its connections to itself.
        waiter = getattr(self._handler, "_waiter", None)
        return self._owed == 0 and waiter is not None and not waiter.done()

    def _dismiss(self) -> None:
        """Take the connection back: an idle handler would close it when its own keep-alive ends."""
        self._handler.transport = None  # it closes what it has
        self._handler.connection_lost(None)
        self._handler = None
