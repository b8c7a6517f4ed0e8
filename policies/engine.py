"""The one place that decides: asks every rule, weighs their verdicts, and makes the grant."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from policies.model import Denied, Effect, Explanation, Grant, Question, Reason, Rule, Subject, Token, Verdict

# Bound once: looking a member up in its class is slow on the path of every read (Python 3.11).
ALLOW: Final = Effect.ALLOW
WITHHOLD: Final = Effect.WITHHOLD
DENY: Final = Effect.DENY
TOKEN: Final = Reason.TOKEN

Said = tuple[Rule, Verdict]


def decide(question: Question, rules: Sequence[Rule]) -> Grant:
    """Return the grant, or raise `Denied`. Without a yes the answer is no; one no outweighs every yes."""
    subject, rule, verdict = weigh(question, rules)
    return Grant(
        question.action,
        subject,
        question.caller,
        verdict.reason,
        name_of(rule),
        question.token,
        _until(subject, question.token if verdict.reason is TOKEN else None),
        verdict.read,
    )


def weigh(question: Question, rules: Sequence[Rule]) -> tuple[Subject, Rule, Verdict]:
    """Decide for one who opens nothing: return the facts, and who allowed it how, or raise `Denied`.

    Making the grant costs more than asking every rule, which counts where a thousand are asked for at once.
    """
    allowed: Said | None = None
    withheld: Said | None = None
    denied: Said | None = None
    for rule in rules:
        verdict = rule(question)
        if verdict is None:
            continue
        if verdict.effect is ALLOW:
            allowed = allowed or (rule, verdict)
        elif verdict.effect is WITHHOLD:
            withheld = withheld or (rule, verdict)
        elif denied is None or (verdict.effect is DENY and denied[1].effect is not DENY):
            denied = (rule, verdict)
    if denied is not None:
        raise _refusal(denied, allowed, withheld)
    if allowed is None or question.subject is None:
        raise _no_yes(withheld)
    rule, verdict = allowed
    return question.subject, rule, verdict


def explain(question: Question, rules: Sequence[Rule]) -> Explanation:
    """Run the same decision without acting on it, and keep what every rule said."""
    verdicts = tuple((name_of(rule), rule(question)) for rule in rules)
    try:
        return Explanation(question, verdicts, decide(question, rules))
    except Denied as denied:
        return Explanation(question, verdicts, denied)


@lru_cache(maxsize=256)  # asked on every grant, of the same few rules
def name_of(rule: Rule) -> str:
    """Name a rule as people read it: `owner` for `policies.rules.owner.rule`, the dotted path for an operator's own."""
    module = getattr(rule, "__module__", "")
    prefix, _, last = module.rpartition(".")
    return last if prefix == "policies.rules" else f"{module}:{getattr(rule, '__name__', rule)}"


def _refusal(denied: Said, allowed: Said | None, withheld: Said | None) -> Denied:
    rule, verdict = denied
    if verdict.effect is DENY or allowed is not None:
        return Denied(verdict.reason, name_of(rule))
    # A stranger must not learn from the reason that the asset exists.
    return Denied(_no_yes(withheld).reason, name_of(rule), cause=verdict.reason)


def _no_yes(withheld: Said | None) -> Denied:
    return Denied(withheld[1].reason, name_of(withheld[0])) if withheld else Denied(Reason.NO_RULE_ALLOWED)


def _until(subject: Subject, token: Token | None) -> float | None:
    """When the grant ends by itself: with the asset, or with the token that gave it."""
    asset_ends = None if subject.expires_at is None else subject.expires_at / 1000
    if token is None:
        return asset_ends
    return float(token.exp) if asset_ends is None else min(asset_ends, float(token.exp))
