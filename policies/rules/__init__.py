"""One rule a file: `rule(Question) -> Verdict | None`. The first that allows gives the grant its reason."""

from __future__ import annotations

from typing import Final

from policies.model import Rule
from policies.rules import guest, lifetime, owner, public, service, token

STANDARD_RULES: Final[tuple[Rule, ...]] = (
    public.rule,
    token.rule,
    service.rule,
    owner.rule,
    guest.rule,
    lifetime.rule,
)
