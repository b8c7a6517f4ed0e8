"""Decides on a plain read at once: it was decided before, or nothing that the decision needs has to be waited for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from gateway.delivery.plan import DeliveryRules, download_of, represent
from gateway.errors import AssetgateError
from gateway.model import PATH_PREFIX
from gateway.tokens import verify
from gateway.web.express.memory import Asked, Decided, Decisions, Records
from gateway.web.express.requests import Head
from policies.engine import decide
from policies.model import ANONYMOUS, Action, Denied, Grant, Question, Rule

_TARGET: Final = slice(4 + len(PATH_PREFIX), -len(" HTTP/1.1"))  # behind the prefix, of a line that begins with GET


class Judge:
    """Looks into the decisions; makes one where the record is remembered and the caller brings no more than a token.

    To know a user or a guest may take a look-up.
    """

    def __init__(
        self,
        decisions: Decisions,
        records: Records,
        rules: Sequence[Rule],
        keys: Mapping[str, bytes],
        delivery: DeliveryRules,
        streams: Callable[[Grant], bool],
    ) -> None:
        self._decisions = decisions
        self._records = records
        self._rules = rules
        self._keys = keys
        self._delivery = delivery
        self._streams = streams

    def decided(self, line: bytes, head: Head, now: float) -> Decided | None:
        """Return the decision that lets the bytes be streamed; None: the other lane judges, and words a refusal."""
        asked = line, head.authorization, head.cookie
        decided = self._decisions.recall(asked, now)
        if decided is None and head.authorization is None and head.cookie is None and line.startswith(b"GET "):
            decided = self._judged(asked, now)
        return decided

    def holds(self, decided: Decided, now: float) -> bool:
        return self._decisions.holds(decided, now)

    def _judged(self, asked: Asked, now: float) -> Decided | None:
        asset_id, _, query = asked[0][_TARGET].decode("ascii", "replace").partition("?")
        asset = self._records.peek(asset_id)
        if asset is None:
            return None
        try:
            token = verify(query.removeprefix("token="), asset_id, self._keys, now) if query else None
            grant = decide(Question(ANONYMOUS, Action.READ, asset.subject, token, now), self._rules)
        except (AssetgateError, Denied):
            return None
        if not self._streams(grant):
            return None
        decided = Decided(asset, grant, ANONYMOUS, represent(asset, self._delivery, download_of(grant)))
        return decided if self._decisions.keep(asked, decided) else None
