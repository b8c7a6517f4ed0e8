"""Answers why: the same decision, run for another caller, with what every rule said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from gateway.clock import Clock, iso, milliseconds
from gateway.errors import Forbidden, SignInRequired, Unprocessable
from gateway.metadata import Metadata
from gateway.web.assets import asset_id_of, token_of
from gateway.web.bodies import ok
from gateway.web.callers import Callers
from policies.engine import explain
from policies.model import Action, Caller, CallerKind, Denied, Explanation, Question, Rule


class ExplainRoutes:
    """The handler of `GET /api/storage/assets/{id}/explain?as=…&action=…&token=…`, for service `admin`."""

    def __init__(
        self, callers: Callers, metadata: Metadata, rules: Sequence[Rule], keys: Mapping[str, bytes], clock: Clock
    ) -> None:
        self._callers = callers
        self._metadata = metadata
        self._rules = rules
        self._keys = keys
        self._clock = clock

    async def explain(self, request: web.Request) -> web.Response:
        asset_id = asset_id_of(request)
        caller = await self._callers.identify(request)
        if caller.kind is CallerKind.ANONYMOUS:
            raise SignInRequired
        if caller.kind is not CallerKind.SERVICE or "admin" not in caller.scopes:
            raise Forbidden("Only a service with the scope admin may ask why", error="scope_missing")
        other = caller_named(request.query.get("as", "anonymous"))
        action = action_named(request.query.get("action", Action.READ.value))
        token = token_of(request.query.getall("token", []), asset_id, self._keys, self._clock())
        asset = (await self._metadata.get([asset_id])).get(asset_id)
        question = Question(other, action, asset.subject if asset else None, token, self._clock())
        return ok(explained(explain(question, self._rules)))


def explained(explanation: Explanation) -> dict[str, Any]:
    """A decision, what it read, and what every rule said of it."""
    question, outcome = explanation.question, explanation.outcome
    subject = question.subject
    denied = isinstance(outcome, Denied)
    return {
        "allowed": not denied,
        "reason": (outcome.cause if isinstance(outcome, Denied) else outcome.reason).value,
        "told": outcome.reason.value,
        "rule": outcome.rule or None,
        "action": question.action.value,
        "caller": {
            "kind": question.caller.kind.value,
            "id": question.caller.id or None,
            "roles": sorted(question.caller.roles),
            "scopes": sorted(question.caller.scopes),
        },
        "asset": subject
        and {
            "assetId": subject.asset_id,
            "ownerType": subject.owner.partition(":")[0],
            "visibility": subject.visibility.value,
            "state": subject.state.value,
            "purpose": subject.purpose,
            "expiresAt": None if subject.expires_at is None else iso(subject.expires_at),
            "revokedAt": subject.revoked_at,
        },
        "now": iso(milliseconds(question.now)),
        "rules": [
            {"rule": name, "effect": verdict and verdict.effect.value, "reason": verdict and verdict.reason.value}
            for name, verdict in explanation.verdicts
        ],
    }


def caller_named(text: str) -> Caller:
    """Read `anonymous`, `user:<id>`, `guest:<hash>` or `service:<scope>,<scope>` as the caller to ask for."""
    kind, _, rest = text.partition(":")
    if kind == CallerKind.ANONYMOUS and not rest:
        return Caller(CallerKind.ANONYMOUS)
    if kind == CallerKind.SERVICE:
        return Caller(CallerKind.SERVICE, "explain", scopes=frozenset(filter(None, rest.split(","))))
    if rest and kind in {CallerKind.USER, CallerKind.GUEST}:
        return Caller(CallerKind(kind), rest, guest=rest if kind == CallerKind.GUEST else None)
    raise Unprocessable(
        "A caller is anonymous, user:<id>, guest:<hash> or service:<scope>,…", fields={"as": "is no caller"}
    )


def action_named(text: str) -> Action:
    try:
        return Action(text)
    except ValueError:
        known = ", ".join(Action)
        raise Unprocessable(f"An action is one of {known}", fields={"action": "is unknown"}) from None
