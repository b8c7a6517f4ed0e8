"""Anyone may read a public asset while it is live."""

from __future__ import annotations

from typing import Final

from policies.model import Action, Effect, Question, Reason, Verdict, Visibility

READ: Final = Action.READ
PUBLIC: Final = Visibility.PUBLIC
ALLOW: Final = Verdict(Effect.ALLOW, Reason.PUBLIC)


def rule(question: Question) -> Verdict | None:
    subject = question.subject
    if question.action is not READ or subject is None or subject.visibility is not PUBLIC:
        return None
    # One that has ended is let in by nobody here, so that strangers are not told that it once was.
    return ALLOW if subject.is_live(question.now) else None
