"""Every caller, owner, visibility, lifetime, action and token, against the tables of `tests.support.ownership`."""

from __future__ import annotations

from typing import Final

import pytest

from policies.engine import decide, explain
from policies.model import (
    ANONYMOUS,
    Action,
    Caller,
    CallerKind,
    Denied,
    Grant,
    Question,
    Reason,
    State,
    Subject,
    Token,
    Visibility,
)
from policies.rules import STANDARD_RULES
from tests.support.ownership import Case, Lifetime, OwnedBy, Shown, Who, cases

NOW: Final = 1_795_305_600.5  # seconds
ISSUED: Final = 1_795_305_000
CASES: Final = tuple(cases())

CALLERS: Final = {
    Who.ANONYMOUS: ANONYMOUS,
    Who.GUEST: Caller(CallerKind.GUEST, "hash-1", guest="hash-1", by_cookie=True),
    Who.OTHER_GUEST: Caller(CallerKind.GUEST, "hash-2", guest="hash-2", by_cookie=True),
    Who.USER: Caller(CallerKind.USER, "u_1"),
    Who.OTHER_USER: Caller(CallerKind.USER, "u_2"),
    Who.USER_WITH_COOKIE: Caller(CallerKind.USER, "u_3", guest="hash-1"),
}
OWNERS: Final = {OwnedBy.USER: "user:u_1", OwnedBy.GUEST: "guest:hash-1", OwnedBy.SYSTEM: "system"}
STATES: Final = {
    Lifetime.READY: (State.READY, None),
    Lifetime.EXPIRING: (State.READY, NOW + 3600),
    Lifetime.PAST: (State.READY, NOW),
    Lifetime.EXPIRED: (State.EXPIRED, NOW - 3600),
    Lifetime.DELETED: (State.DELETED, None),
    Lifetime.PENDING: (State.PENDING, None),
}
TOKENS: Final = {
    Shown.NONE: None,
    Shown.VALID: Token(ISSUED, ISSUED + 3600),
    Shown.EXPIRED: Token(ISSUED, int(NOW)),
    Shown.REVOKED: Token(ISSUED, ISSUED + 3600),
    Shown.FOREIGN: Token(ISSUED, ISSUED + 3600, sub="u_9"),
}


def question(case: Case) -> Question:
    caller = CALLERS.get(case.caller) or Caller(CallerKind.SERVICE, "app", scopes=case.scopes)
    subject = None
    if case.lifetime is not Lifetime.ABSENT:
        state, ends = STATES[case.lifetime]
        expires_at = None if ends is None else int(ends * 1000)
        revoked_at = ISSUED if case.token is Shown.REVOKED else None
        subject = Subject("asset-01", OWNERS[case.owner], case.visibility, state, expires_at, revoked_at)
    return Question(caller, case.action, subject, TOKENS[case.token], NOW)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_cell_has_its_reason(case: Case) -> None:
    outcome = explain(question(case), STANDARD_RULES).outcome
    assert (isinstance(outcome, Grant), outcome.reason) == (case.granted, case.reason)


def test_the_matrix_leaves_no_cell_out() -> None:
    existing = [case for case in CASES if case.lifetime is not Lifetime.ABSENT]
    cells = {(c.caller, c.owner, c.visibility, c.lifetime, c.action, c.token) for c in existing}
    reads_and_actions = len(Shown) + len(Action) - 1
    assert len(cells) == len(Who) * len(OwnedBy) * len(Visibility) * len(STATES) * reads_and_actions


def told(case: Case) -> Reason | None:
    """What the caller hears in place of a grant."""
    try:
        decide(question(case), STANDARD_RULES)
    except Denied as denied:
        return denied.reason
    return None


STRANGERS: Final = [Who.ANONYMOUS, Who.GUEST, Who.USER, Who.USER_WITH_COOKIE, Who.SERVICE_WITHOUT_SCOPE]
ASKED: Final = [(Action.READ, token) for token in (Shown.NONE, Shown.EXPIRED, Shown.FOREIGN)] + [
    (action, Shown.NONE) for action in Action if action is not Action.READ
]


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize(("action", "token"), ASKED)
def test_a_stranger_hears_the_same_whatever_there_is(who: Who, action: Action, token: Shown) -> None:
    mine = [case for case in CASES if (case.caller, case.action, case.token) == (who, action, token)]
    private = [case for case in mine if case.owner is OwnedBy.SYSTEM and case.visibility is Visibility.PRIVATE]
    absent = [case for case in mine if case.lifetime is Lifetime.ABSENT]
    assert {case.lifetime for case in private + absent} == set(Lifetime)
    assert len({told(case) for case in private + absent}) == 1
