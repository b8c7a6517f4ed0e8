"""Who holds a guest session may do everything with its assets except publish them.

The session's cookie still counts when its holder has signed in, until the assets are claimed.
"""

from __future__ import annotations

from typing import Final

from policies.model import Action, Caller, CallerKind, Effect, Question, Reason, Verdict

PUBLISH: Final = Action.PUBLISH
GUEST: Final = CallerKind.GUEST
USER: Final = CallerKind.USER
ALLOW: Final = Verdict(Effect.ALLOW, Reason.GUEST_SESSION, read=("Authorization", "Cookie"))
# Said aloud, for it is said to the session that owns the asset alone.
MAY_NOT_PUBLISH: Final = Verdict(Effect.DENY, Reason.GUEST_MAY_NOT_PUBLISH)


def rule(question: Question) -> Verdict | None:
    session, subject = _session(question.caller), question.subject
    if session is None or subject is None or subject.owner != "guest:" + session:
        return None
    return MAY_NOT_PUBLISH if question.action is PUBLISH else ALLOW


def _session(caller: Caller) -> str | None:
    if caller.kind is GUEST:
        return caller.id
    return caller.guest if caller.kind is USER else None
