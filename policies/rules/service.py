"""A service may do what its key's scopes name, with every asset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from policies.model import Action, CallerKind, Effect, Question, Reason, Verdict

SERVICE: Final = CallerKind.SERVICE
ALLOW: Final = Verdict(Effect.ALLOW, Reason.SERVICE_SCOPE, read=("Authorization", "Cookie"))
# Said of assets that do not exist as well: the answer to a missing scope tells nothing.
MISSING: Final = Verdict(Effect.WITHHOLD, Reason.SCOPE_MISSING)

# Any one of them is enough.
SCOPES: Final[Mapping[Action, frozenset[str]]] = {
    Action.READ: frozenset({"read"}),
    Action.INFO: frozenset({"read"}),
    Action.SIGN: frozenset({"sign"}),
    Action.REVOKE: frozenset({"sign"}),
    Action.RESOLVE: frozenset({"sign", "resolve"}),
    Action.UPDATE: frozenset({"upload", "admin"}),
    Action.PUBLISH: frozenset({"upload", "admin"}),
    Action.DELETE: frozenset({"upload", "admin"}),
}


def rule(question: Question) -> Verdict | None:
    caller = question.caller
    if caller.kind is not SERVICE:
        return None
    return MISSING if SCOPES[question.action].isdisjoint(caller.scopes) else ALLOW
