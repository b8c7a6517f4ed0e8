"""A user may do everything with what is theirs; who is nobody yet is asked to sign in, except to read."""

from __future__ import annotations

from typing import Final

from policies.model import Action, CallerKind, Effect, Question, Reason, Verdict

READ: Final = Action.READ
USER: Final = CallerKind.USER
ANONYMOUS: Final = CallerKind.ANONYMOUS
ALLOW: Final = Verdict(Effect.ALLOW, Reason.OWNER, read=("Authorization", "Cookie"))
SIGN_IN: Final = Verdict(Effect.WITHHOLD, Reason.SIGN_IN_REQUIRED)


def rule(question: Question) -> Verdict | None:
    kind, subject = question.caller.kind, question.subject
    if kind is ANONYMOUS:
        return SIGN_IN if question.action is not READ else None
    if kind is USER and subject is not None and subject.owner == "user:" + question.caller.id:
        return ALLOW
    return None
