"""Nobody gets at an asset before it is ready, after it expired, or once it was deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from policies.model import Effect, Question, Reason, State, Verdict

EXPIRED: Final = Verdict(Effect.DENY_QUIETLY, Reason.ASSET_EXPIRED)
NOT_READY: Final = Verdict(Effect.DENY_QUIETLY, Reason.ASSET_NOT_READY)
DELETED: Final = Verdict(Effect.DENY_QUIETLY, Reason.ASSET_DELETED)

# A ready asset that is not live is one past its expiry that no sweep has met yet.
ENDED: Final[Mapping[State, Verdict]] = {
    State.PENDING: NOT_READY,
    State.READY: EXPIRED,
    State.EXPIRED: EXPIRED,
    State.DELETED: DELETED,
}


def rule(question: Question) -> Verdict | None:
    subject = question.subject
    if subject is None or subject.is_live(question.now):
        return None
    return ENDED[subject.state]
