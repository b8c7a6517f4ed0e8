"""Answers a plain read by the same steps as the other lane, without its objects."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.clock import Clock
from gateway.delivery.plan import Delivery, DeliveryRules, Method, Representation, plan
from gateway.errors import AssetgateError
from gateway.storage import Feed, Feeding, Resident, Storage
from gateway.web.addresses import Proxies
from gateway.web.express.judging import Judge
from gateway.web.express.memory import Decided, Lately, Prepared, Ready, Wanted
from gateway.web.express.pumped import Begin, Pumped
from gateway.web.express.requests import Head, plain
from gateway.web.heads import Shared, varying
from gateway.web.middleware import RequestIds
from gateway.web.observed import ASSET_ROUTE, Facts, Observed

_STATUS_LINES: Final = {
    200: b"HTTP/1.1 200 OK\r\n",
    206: b"HTTP/1.1 206 Partial Content\r\n",
    304: b"HTTP/1.1 304 Not Modified\r\n",
}


class Answer(NamedTuple):
    """What to send: the head, and the bytes behind it, from a memory map or to be read; what to note when that is done.

    `began` is when the request came, of `time.perf_counter`; `decision` the seconds from then to the decision.
    """

    head: bytes
    body: memoryview | Wanted | None
    facts: Facts
    began: float
    decision: float
    request_id: str
    address: str | None


class Lane:
    """The express lane of one process."""

    def __init__(
        self,
        judge: Judge,
        storage: Storage,
        delivery: DeliveryRules,
        shared: Shared,
        proxies: Proxies,
        request_ids: RequestIds,
        observed: Observed,
        clock: Clock,
    ) -> None:
        self._judge = judge
        self._lately = Lately()
        self._storage = storage
        self._resident = storage if isinstance(storage, Resident) else None
        self._feeding = storage if isinstance(storage, Feeding) else None
        self._delivery = delivery
        self.shared = shared
        self._proxies = proxies
        self._request_ids = request_ids
        self.observed = observed
        self._clock = clock

    def answer(self, data: bytes, peer: str | None) -> Answer | None:
        """Answer the request in `data`; None leaves it to the other lane."""
        began = time.perf_counter()
        now = self._clock()
        ready = self._lately.get(data, now)
        if ready is not None and self._judge.holds(ready.decided, now):
            decision = time.perf_counter() - began
        else:
            request = plain(data)
            decided = self._judge.decided(*request, now) if request is not None else None
            if request is None or decided is None:
                return None
            decision = time.perf_counter() - began
            ready = self._made(data, *request, decided, now)
            if ready is None:
                return None
        _, head, prepared = ready
        request_id = self._request_ids.choose(head.request_id, peer)
        address = peer if head.forwarded is None else self._proxies.client(peer, head.forwarded)
        sent = b"%bX-Request-Id: %b\r\n\r\n" % (prepared.head, request_id.encode())
        return Answer(sent, prepared.body, prepared.facts, began, decision, request_id, address)

    def feed(self, wanted: Wanted, ready: Callable[[], None], begin: Begin) -> Feed:
        """Begin to read bytes that have to be waited for; `begin` starts a task, where the storage takes one."""
        feed = self._feeding.feed(*wanted, ready) if self._feeding is not None else None
        return feed or Pumped(self._storage, wanted, ready, begin)

    def _made(self, data: bytes, line: bytes, head: Head, decided: Decided, now: float) -> Ready | None:
        """Make the answer, and keep it for those who ask the same within the second."""
        prepared = self._prepare(line, head, decided, now)
        if prepared is None:
            return None
        ready = Ready(decided, head, prepared)
        if not isinstance(prepared.body, Wanted):  # what has to be waited for now may be there at once the next time
            self._lately.keep(data, ready)
        return ready

    def _prepare(self, line: bytes, head: Head, decided: Decided, now: float) -> Prepared | None:
        sent, target, _ = line.decode().split(" ")
        method: Method = "HEAD" if sent == "HEAD" else "GET"
        try:
            delivery = plan(decided.shown, method, head.asked, decided.grant, now=now, rules=self._delivery)
        except AssetgateError:
            return None  # 412 and 416 are rare, and the other lane words errors
        body: memoryview | Wanted | None = None
        if delivery.wanted:
            resident = self._resident.resident(decided.grant, delivery.wanted) if self._resident is not None else None
            body = resident if resident is not None else Wanted(decided.grant, delivery.wanted)
        fixed = decided.head(_STATUS_LINES[delivery.status], delivery.fixed)
        more = "".join([f"{name}: {value}\r\n" for name, value in varying(delivery, head.origin, self.shared)])
        facts = Facts(
            method=method,
            path=target.partition("?")[0],
            route=ASSET_ROUTE,
            status=delivery.status,
            reason=decided.grant.reason.value,
            size=_announced(delivery, decided.shown),
            range=head.asked.range,
            caller=decided.caller.kind.value,
            agent=head.agent,
        )
        return Prepared(fixed + more.encode("latin-1"), body, facts)


def _announced(delivery: Delivery, shown: Representation) -> int | None:
    """The Content-Length that the head names, which that of a HEAD does too."""
    if delivery.wanted is not None:
        return len(delivery.wanted)
    return shown.size if delivery.fixed is shown.whole else None
