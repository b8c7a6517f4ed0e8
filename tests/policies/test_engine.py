"""How verdicts are weighed, and what a grant carries."""

from __future__ import annotations

from itertools import permutations
from typing import Final

import pytest

from policies.engine import decide, explain, name_of
from policies.model import (
    ANONYMOUS,
    Action,
    Caller,
    CallerKind,
    Denied,
    Effect,
    Grant,
    Question,
    Reason,
    Rule,
    State,
    Subject,
    Token,
    Verdict,
    Visibility,
)
from policies.rules import STANDARD_RULES
from tests.support.ownership import ALL_SCOPES, SCOPES

NOW: Final = 1_795_305_600.0
ASSET: Final = Subject("asset-01", "user:u_1", Visibility.PRIVATE, State.READY)
USER: Final = Caller(CallerKind.USER, "u_1")
READ: Final = Question(ANONYMOUS, Action.READ, ASSET, None, NOW)


def says(effect: Effect, reason: Reason) -> Rule:
    """Make a rule of an operator's own that always says the same."""
    return lambda _: Verdict(effect, reason)


def silent(_: Question) -> Verdict | None:
    return None


YES: Final = says(Effect.ALLOW, Reason.RULE_ALLOWED)
NOT_YET: Final = says(Effect.WITHHOLD, Reason.SIGN_IN_REQUIRED)
NO: Final = says(Effect.DENY, Reason.RULE_DENIED)
HUSHED: Final = says(Effect.DENY_QUIETLY, Reason.ASSET_DELETED)


@pytest.mark.parametrize(
    ("rules", "told", "cause"),
    [
        ([], Reason.NO_RULE_ALLOWED, Reason.NO_RULE_ALLOWED),
        ([silent], Reason.NO_RULE_ALLOWED, Reason.NO_RULE_ALLOWED),
        ([NOT_YET], Reason.SIGN_IN_REQUIRED, Reason.SIGN_IN_REQUIRED),
        ([YES, YES, NO], Reason.RULE_DENIED, Reason.RULE_DENIED),
        ([NOT_YET, NO], Reason.RULE_DENIED, Reason.RULE_DENIED),
        ([YES, HUSHED], Reason.ASSET_DELETED, Reason.ASSET_DELETED),
        ([HUSHED], Reason.NO_RULE_ALLOWED, Reason.ASSET_DELETED),
        ([NOT_YET, HUSHED], Reason.SIGN_IN_REQUIRED, Reason.ASSET_DELETED),
        ([YES, HUSHED, NO], Reason.RULE_DENIED, Reason.RULE_DENIED),
    ],
)
def test_one_no_outweighs_every_yes_in_any_order(rules: list[Rule], told: Reason, cause: Reason) -> None:
    for order in permutations(rules):
        with pytest.raises(Denied) as refusal:
            decide(READ, order)
        assert (refusal.value.reason, refusal.value.cause) == (told, cause)


def test_a_yes_outweighs_what_is_withheld_in_any_order() -> None:
    for order in permutations([YES, NOT_YET, silent]):
        assert decide(READ, order).reason is Reason.RULE_ALLOWED


def test_the_first_yes_and_the_first_quiet_no_give_the_reason() -> None:
    later = says(Effect.ALLOW, Reason.OWNER)
    assert decide(READ, [YES, later]).reason is Reason.RULE_ALLOWED
    with pytest.raises(Denied) as refusal:
        decide(READ, [YES, HUSHED, says(Effect.DENY_QUIETLY, Reason.ASSET_EXPIRED)])
    assert refusal.value.reason is Reason.ASSET_DELETED


@pytest.mark.parametrize("rules", [[YES], [YES, NOT_YET]])
def test_nothing_is_granted_of_an_asset_that_is_not_there(rules: list[Rule]) -> None:
    with pytest.raises(Denied):
        decide(Question(USER, Action.READ, None, None, NOW), rules)


def test_the_order_of_the_standard_rules_decides_about_reasons_alone() -> None:
    caller = Caller(CallerKind.USER, "u_1", guest="hash-1")
    ended = Subject("asset-02", "user:u_1", Visibility.PUBLIC, State.EXPIRED)
    revoked = Subject("asset-03", "user:u_1", Visibility.PUBLIC, State.READY, revoked_at=1000)
    token = Token(900, int(NOW) + 60)
    for subject, granted in ((ASSET, True), (ended, False), (revoked, False)):
        question = Question(caller, Action.READ, subject, token, NOW)
        outcomes = {isinstance(explain(question, order).outcome, Grant) for order in permutations(STANDARD_RULES)}
        assert outcomes == {granted}


def test_explain_shows_what_every_rule_said_and_the_outcome() -> None:
    question = Question(USER, Action.READ, ASSET, Token(1, 2), NOW)
    explanation = explain(question, (*STANDARD_RULES, NO))
    names = [name for name, _ in explanation.verdicts]
    assert names[:6] == ["public", "token", "service", "owner", "guest", "lifetime"]
    said = {name: verdict.reason for name, verdict in explanation.verdicts if verdict}
    assert said["token"] is Reason.TOKEN_EXPIRED
    assert said["owner"] is Reason.OWNER
    assert said[name_of(NO)] is Reason.RULE_DENIED
    assert isinstance(explanation.outcome, Denied)
    assert explanation.outcome.rule == name_of(NO)


def test_an_operators_rule_is_named_by_its_dotted_path() -> None:
    assert name_of(silent) == f"{__name__}:silent"


@pytest.mark.parametrize(
    ("expires_at", "exp", "until"),
    [
        (None, 100, NOW + 100),
        (50_000, 100, NOW + 50),
        (200_000, 100, NOW + 100),
    ],
)
def test_a_grant_by_token_ends_with_the_token_or_the_asset(expires_at: int | None, exp: int, until: float) -> None:
    ends = None if expires_at is None else int(NOW) * 1000 + expires_at
    asset = Subject("asset-01", "user:u_1", Visibility.PRIVATE, State.READY, expires_at=ends)
    token = Token(int(NOW), int(NOW) + exp)
    grant = decide(Question(ANONYMOUS, Action.READ, asset, token, NOW), STANDARD_RULES)
    assert (grant.reason, grant.until, grant.token, grant.rule) == (Reason.TOKEN, until, token, "token")


def test_an_owner_reads_on_through_an_old_url_and_the_grant_does_not_end_with_it() -> None:
    old = Token(int(NOW) - 600, int(NOW) - 1)
    grant = decide(Question(USER, Action.READ, ASSET, old, NOW), STANDARD_RULES)
    assert (grant.reason, grant.until) == (Reason.OWNER, None)


CREDENTIALS: Final = ("Authorization", "Cookie")


@pytest.mark.parametrize(
    ("caller", "visibility", "token", "read"),
    [
        (ANONYMOUS, Visibility.PUBLIC, None, ()),
        (USER, Visibility.PUBLIC, None, ()),
        (ANONYMOUS, Visibility.PRIVATE, Token(1, int(NOW) + 1), ()),
        (USER, Visibility.PRIVATE, Token(1, int(NOW) + 1, sub="u_1"), CREDENTIALS),
        (USER, Visibility.PRIVATE, None, CREDENTIALS),
        (Caller(CallerKind.SERVICE, "app", scopes=frozenset({"read"})), Visibility.PRIVATE, None, CREDENTIALS),
    ],
)
def test_a_grant_names_the_headers_that_it_depends_on(
    caller: Caller, visibility: Visibility, token: Token | None, read: tuple[str, ...]
) -> None:
    asset = Subject("asset-01", "user:u_1", visibility, State.READY)
    assert decide(Question(caller, Action.READ, asset, token, NOW), STANDARD_RULES).read == read


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("scope", sorted(ALL_SCOPES))
def test_a_scope_lets_a_service_do_what_it_names_and_nothing_more(action: Action, scope: str) -> None:
    question = Question(Caller(CallerKind.SERVICE, "app", scopes=frozenset({scope})), action, ASSET, None, NOW)
    outcome = explain(question, STANDARD_RULES).outcome
    assert isinstance(outcome, Grant) == (scope in SCOPES[action])


@pytest.mark.parametrize(
    ("bound_to", "address", "allowed"),
    [
        ("203.0.113.9", "203.0.113.9", True),
        ("203.0.113.9", "203.0.113.10", False),
        ("203.0.113.0/24", "203.0.113.255", True),
        ("203.0.113.0/24", "203.0.114.0", False),
        ("203.0.113.0/24", "::ffff:203.0.113.9", True),
        ("::ffff:203.0.113.0/120", "203.0.113.9", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("203.0.113.0/24", None, False),
        ("203.0.113.0/24", "unknown", False),
    ],
)
def test_a_token_bound_to_a_network_lets_that_network_in(bound_to: str, address: str | None, *, allowed: bool) -> None:
    caller = Caller(CallerKind.USER, "u_1", address=address)  # it refuses its own owner as well
    token = Token(1, int(NOW) + 1, ip=bound_to)
    outcome = explain(Question(caller, Action.READ, ASSET, token, NOW), STANDARD_RULES).outcome
    assert outcome.reason is (Reason.TOKEN if allowed else Reason.TOKEN_OF_ANOTHER_NETWORK)


@pytest.mark.parametrize(
    ("iat", "reason"), [(999, Reason.TOKEN_REVOKED), (1000, Reason.TOKEN_REVOKED), (1001, Reason.TOKEN)]
)
def test_a_revocation_kills_what_was_issued_up_to_that_second(iat: int, reason: Reason) -> None:
    asset = Subject("asset-01", "user:u_1", Visibility.PRIVATE, State.READY, revoked_at=1000)
    question = Question(ANONYMOUS, Action.READ, asset, Token(iat, int(NOW) + 1), NOW)
    assert explain(question, STANDARD_RULES).outcome.reason is reason


@pytest.mark.parametrize(("exp", "reason"), [(NOW, Reason.TOKEN_EXPIRED), (NOW + 1, Reason.TOKEN)])
def test_a_token_is_dead_from_the_second_that_it_names(exp: float, reason: Reason) -> None:
    question = Question(ANONYMOUS, Action.READ, ASSET, Token(1, int(exp)), NOW)
    assert explain(question, STANDARD_RULES).outcome.reason is reason


@pytest.mark.parametrize("kind", [CallerKind.GUEST, CallerKind.SERVICE])
def test_what_is_a_users_is_no_namesakes(kind: CallerKind) -> None:
    namesake = Caller(kind, "u_1", guest="u_1")
    bound = Question(namesake, Action.READ, ASSET, Token(1, int(NOW) + 1, sub="u_1"), NOW)
    assert explain(bound, STANDARD_RULES).outcome.reason is Reason.TOKEN_OF_ANOTHER_USER
    with pytest.raises(Denied):
        decide(Question(namesake, Action.READ, ASSET, None, NOW), STANDARD_RULES)


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.READ])
def test_a_token_neither_opens_nor_closes_anything_but_reading(action: Action) -> None:
    good, foreign = Token(1, int(NOW) + 1), Token(1, int(NOW) + 1, sub="u_9")
    assert decide(Question(USER, action, ASSET, foreign, NOW), STANDARD_RULES).reason is Reason.OWNER
    with pytest.raises(Denied):
        decide(Question(ANONYMOUS, action, ASSET, good, NOW), STANDARD_RULES)


def test_no_rule_of_an_operators_own_lets_a_guest_publish() -> None:
    asset = Subject("asset-01", "guest:hash-1", Visibility.PRIVATE, State.READY)
    question = Question(Caller(CallerKind.GUEST, "hash-1"), Action.PUBLISH, asset, None, NOW)
    assert explain(question, [YES, *STANDARD_RULES]).outcome.reason is Reason.GUEST_MAY_NOT_PUBLISH
