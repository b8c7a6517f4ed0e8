"""The one place that decides: asks every rule, weighs their verdicts, and makes the grant."""

from __future__ import annotations

from collections.abc import Sequence

from policies.model import Denied, Effect, Explanation, Grant, Question, Reason, Rule, Verdict

MILLISECOND = 0.001  # seconds


def decide(question: Question, rules: Sequence[Rule]) -> Grant:
    """Return the grant, or raise `Denied`. Without a yes the answer is no; one no outweighs every yes."""
    allowed: tuple[Rule, Verdict] | None = None
    withheld: tuple[Rule, Verdict] | None = None
    denied: tuple[Rule, Verdict] | None = None
    for rule in rules:
        verdict = rule(question)
        if verdict is None:
            continue
        if verdict.effect is Effect.ALLOW:
            allowed = allowed or (rule, verdict)
        elif verdict.effect is Effect.WITHHOLD:
            withheld = withheld or (rule, verdict)
        elif denied is None or denied[1].effect is Effect.DENY_QUIETLY:
            denied = (rule, verdict)
    if denied is not None:
        raise _refusal(denied, allowed, withheld)
    if allowed is None or question.subject is None:
        reason, name = (withheld[1].reason, name_of(withheld[0])) if withheld else (Reason.NO_RULE_ALLOWED, "")
        raise Denied(reason, name)
    rule, verdict = allowed
    return Grant(
        question.action,
        question.subject,
        question.caller,
        verdict.reason,
        name_of(rule),
        question.token,
        _until(question, verdict),
        verdict.read,
    )


def explain(question: Question, rules: Sequence[Rule]) -> Explanation:
    """Run the same decision without acting on it, and keep what every rule said."""
    verdicts = tuple((name_of(rule), rule(question)) for rule in rules)
    try:
        return Explanation(question, verdicts, decide(question, rules))
    except Denied as denied:
        return Explanation(question, verdicts, denied)


def name_of(rule: Rule) -> str:
    """Name a rule as people read it: `owner` for `policies.rules.owner.rule`, the dotted path for an operator's own."""
    module = getattr(rule, "__module__", "")
    prefix, _, last = module.rpartition(".")
    return last if prefix == "policies.rules" else f"{module}:{getattr(rule, '__name__', rule)}"


def _refusal(
    denied: tuple[Rule, Verdict], allowed: tuple[Rule, Verdict] | None, withheld: tuple[Rule, Verdict] | None
) -> Denied:
    rule, verdict = denied
    if verdict.effect is Effect.DENY or allowed is not None:
        return Denied(verdict.reason, name_of(rule))
    # A stranger must not learn from the reason that the asset exists.
    told = withheld[1].reason if withheld else Reason.NO_RULE_ALLOWED
    return Denied(told, name_of(rule), cause=verdict.reason)


def _until(question: Question, verdict: Verdict) -> float | None:
    ends = []
    if question.subject is not None and question.subject.expires_at is not None:
        ends.append(question.subject.expires_at * MILLISECOND)
    if verdict.reason is Reason.TOKEN and question.token is not None:
        ends.append(float(question.token.exp))
    return min(ends, default=None)
