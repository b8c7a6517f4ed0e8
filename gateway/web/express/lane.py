"""Answers a plain request from memory: the same steps as the other lane, without its objects."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from gateway.clock import Clock
from gateway.delivery.conditions import UNCONDITIONAL
from gateway.delivery.plan import Delivery, DeliveryRules, Method, Representation, plan
from gateway.errors import AssetgateError
from gateway.storage import Resident
from gateway.web.addresses import Proxies
from gateway.web.express.memory import Asked, Decided, Decisions
from gateway.web.express.requests import Plain, plain
from gateway.web.heads import Shared, varying
from gateway.web.middleware import RequestIds
from gateway.web.observed import ASSET_ROUTE, Note, Observed

_STATUS_LINES: Final = {
    200: b"HTTP/1.1 200 OK\r\n",
    206: b"HTTP/1.1 206 Partial Content\r\n",
    304: b"HTTP/1.1 304 Not Modified\r\n",
}
_CONDITIONAL: Final = frozenset(
    {"range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}
)


class Answer(NamedTuple):
    """What to send: the head, and the bytes behind it from a memory map; and what to note when that is done.

    `decision` is the seconds from the request's arrival to the decision.
    """

    head: bytes
    body: memoryview | None
    note: Note
    decision: float


class Lane:
    """The express lane of one process."""

    def __init__(
        self,
        decisions: Decisions,
        resident: Resident,
        delivery: DeliveryRules,
        shared: Shared,
        proxies: Proxies,
        request_ids: RequestIds,
        observed: Observed,
        clock: Clock,
    ) -> None:
        self._decisions = decisions
        self._resident = resident
        self._delivery = delivery
        self._shared = shared
        self._proxies = proxies
        self._request_ids = request_ids
        self.observed = observed
        self._clock = clock

    def answer(self, data: bytes, peer: str | None) -> Answer | None:
        """Answer the request in `data`; None leaves it to the other lane."""
        began = time.perf_counter()
        request = plain(data)
        if request is None:
            return None
        now, fields = self._clock(), request.fields
        asked = Asked(request.target, fields.get("authorization"), fields.get("cookie"))
        decided = self._decisions.recall(request.asset_id, asked, now)
        if decided is None:
            return None
        return self._render(request, decided, peer, now, began, time.perf_counter() - began)

    def _render(
        self, request: Plain, decided: Decided, peer: str | None, now: float, began: float, decision: float
    ) -> Answer | None:
        fields, grant = request.fields, decided.grant
        method: Method = "HEAD" if request.method == "HEAD" else "GET"
        asked = UNCONDITIONAL if _CONDITIONAL.isdisjoint(fields) else request.conditionals
        try:
            delivery = plan(decided.shown, method, asked, grant, now=now, rules=self._delivery)
        except AssetgateError:
            return None  # 412 and 416 are rare, and the other lane words errors
        body = None
        if delivery.wanted:
            body = self._resident.resident(grant, delivery.wanted)
            if body is None:
                return None
        request_id = self._request_ids.choose(fields.get("x-request-id"), peer)
        more = varying(delivery, request_id, fields.get("origin"), self._shared)
        lines = "".join([f"{name}: {value}\r\n" for name, value in more])
        head = b"".join(
            (decided.head(_STATUS_LINES[delivery.status], delivery.fixed), lines.encode("latin-1"), b"\r\n")
        )
        note = Note(
            began=began,
            request_id=request_id,
            method=request.method,
            path=request.target.partition("?")[0],
            route=ASSET_ROUTE,
            status=delivery.status,
            reason=decided.reason,
            size=_announced(delivery, decided.shown),
            range=fields.get("range"),
            caller=decided.kind,
            address=self._proxies.client(peer, fields.get("x-forwarded-for")),
            agent=fields.get("user-agent"),
        )
        return Answer(head, body, note, decision)


def _announced(delivery: Delivery, shown: Representation) -> int | None:
    """The Content-Length that the head names, which that of a HEAD does too."""
    if delivery.wanted is not None:
        return len(delivery.wanted)
    return shown.size if delivery.fixed is shown.whole else None
