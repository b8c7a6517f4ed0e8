"""The ownership matrix: who may do what with whose asset, and what each is told, written down cell by cell.

Nothing here is computed by the rules. The tables are the expectation; `cases()` spells them out one case a cell, for
a test of the decision and for tests over HTTP alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from policies.model import Action, Reason, Visibility


class Who(StrEnum):
    """The callers. `USER_WITH_COOKIE` is a third user whose browser still holds the owning guest's cookie."""

    ANONYMOUS = "anonymous"
    GUEST = "guest"
    OTHER_GUEST = "other guest"
    USER = "user"
    OTHER_USER = "other user"
    USER_WITH_COOKIE = "user + cookie"
    SERVICE = "service"
    SERVICE_WITHOUT_SCOPE = "service without"


class OwnedBy(StrEnum):
    USER = "user"
    GUEST = "guest"
    SYSTEM = "system"


class Lifetime(StrEnum):
    """`PAST` is a ready asset past its expiry that no sweep has met; `ABSENT` has no record at all."""

    READY = "ready"
    EXPIRING = "expiring"
    PAST = "past"
    EXPIRED = "expired"
    DELETED = "deleted"
    PENDING = "pending"
    ABSENT = "absent"


class Shown(StrEnum):
    """The token that the caller brings to a read. `FOREIGN` is bound to a user who is none of the callers."""

    NONE = "none"
    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Case:
    """One cell. `reason` is that of the grant when `granted`, else what the caller is told.

    `scopes` are those of a service; with `token` REVOKED the asset was revoked after the token was issued.
    """

    caller: Who
    owner: OwnedBy
    visibility: Visibility
    lifetime: Lifetime
    action: Action
    token: Shown
    scopes: frozenset[str]
    granted: bool
    reason: Reason

    def __str__(self) -> str:
        asked = f"{self.action} with {self.token} token" if self.action is Action.READ else self.action
        return f"{self.caller}: {asked}: {self.owner}'s {self.visibility} {self.lifetime}"


@dataclass(frozen=True, slots=True)
class Cell:
    """What one code of the tables means, of a live asset and of one that is not; None: the reason why it is not."""

    live: Reason
    ended: Reason | None


CODES: Final = {
    # let in, and so told what became of the asset
    "own": Cell(Reason.OWNER, None),
    "gst": Cell(Reason.GUEST_SESSION, None),
    "svc": Cell(Reason.SERVICE_SCOPE, None),
    "tok": Cell(Reason.TOKEN, None),
    "pub": Cell(Reason.PUBLIC, None),
    # let in by its being public alone: once it is not live, told no more than of any other
    "pub/404": Cell(Reason.PUBLIC, Reason.NO_RULE_ALLOWED),
    "pub/exp": Cell(Reason.PUBLIC, Reason.TOKEN_EXPIRED),
    "pub/scp": Cell(Reason.PUBLIC, Reason.SCOPE_MISSING),
    # not let in, whatever became of it
    "404": Cell(Reason.NO_RULE_ALLOWED, Reason.NO_RULE_ALLOWED),
    "401": Cell(Reason.SIGN_IN_REQUIRED, Reason.SIGN_IN_REQUIRED),
    "scp": Cell(Reason.SCOPE_MISSING, Reason.SCOPE_MISSING),
    "gmp": Cell(Reason.GUEST_MAY_NOT_PUBLISH, Reason.GUEST_MAY_NOT_PUBLISH),
    "exp": Cell(Reason.TOKEN_EXPIRED, Reason.TOKEN_EXPIRED),
    "rev": Cell(Reason.TOKEN_REVOKED, Reason.TOKEN_REVOKED),
    "for": Cell(Reason.TOKEN_OF_ANOTHER_USER, Reason.TOKEN_OF_ANOTHER_USER),
}
YES: Final = {Reason.OWNER, Reason.GUEST_SESSION, Reason.SERVICE_SCOPE, Reason.TOKEN, Reason.PUBLIC}

# Reads, by the token shown. Every stranger's row is the same, whoever owns the asset.
READS: Final = """
                           private                           public
caller           owner   | none valid expired revoked foreign | none    valid expired revoked foreign
anonymous        any     | 404  tok   exp     rev     for     | pub/404 pub   pub/exp rev     for
guest            guest   | gst  tok   gst     rev     for     | pub     pub   pub     rev     for
guest            other   | 404  tok   exp     rev     for     | pub/404 pub   pub/exp rev     for
other guest      any     | 404  tok   exp     rev     for     | pub/404 pub   pub/exp rev     for
user             user    | own  tok   own     rev     for     | pub     pub   pub     rev     for
user             other   | 404  tok   exp     rev     for     | pub/404 pub   pub/exp rev     for
other user       any     | 404  tok   exp     rev     for     | pub/404 pub   pub/exp rev     for
user + cookie    guest   | gst  tok   gst     rev     for     | pub     pub   pub     rev     for
user + cookie    other   | 404  tok   exp     rev     for     | pub/404 pub   pub/exp rev     for
service          any     | svc  tok   svc     rev     for     | pub     pub   pub     rev     for
service without  any     | scp  tok   exp     rev     for     | pub/scp pub   pub/exp rev     for
"""

# Everything else; visibility and tokens change nothing here.
ACTIONS: Final = """
caller           owner   | sign resolve info update publish delete revoke
anonymous        any     | 401  401     401  401    401     401    401
guest            guest   | gst  gst     gst  gst    gmp     gst    gst
guest            other   | 404  404     404  404    404     404    404
other guest      any     | 404  404     404  404    404     404    404
user             user    | own  own     own  own    own     own    own
user             other   | 404  404     404  404    404     404    404
other user       any     | 404  404     404  404    404     404    404
user + cookie    guest   | gst  gst     gst  gst    gmp     gst    gst
user + cookie    other   | 404  404     404  404    404     404    404
service          any     | svc  svc     svc  svc    svc     svc    svc
service without  any     | scp  scp     scp  scp    scp     scp    scp
"""

# What those are told who would have been let in.
WHY_NOT_LIVE: Final = {
    Lifetime.PAST: Reason.ASSET_EXPIRED,
    Lifetime.EXPIRED: Reason.ASSET_EXPIRED,
    Lifetime.DELETED: Reason.ASSET_DELETED,
    Lifetime.PENDING: Reason.ASSET_NOT_READY,
}

ALL_SCOPES: Final = frozenset({"sign", "upload", "read", "resolve", "tasks", "admin"})
# Each is enough by itself; a service without them all has every other one.
SCOPES: Final = {
    Action.READ: ("read",),
    Action.INFO: ("read",),
    Action.SIGN: ("sign",),
    Action.REVOKE: ("sign",),
    Action.RESOLVE: ("sign", "resolve"),
    Action.UPDATE: ("upload", "admin"),
    Action.PUBLISH: ("upload", "admin"),
    Action.DELETE: ("upload", "admin"),
}

# An id that no asset has: nobody is told more or less than of a stranger's private asset.
ABSENT: Final = """
caller           owner   | none valid expired foreign | sign resolve info update publish delete revoke
anonymous        absent  | 404  404   exp     for     | 401  401     401  401    401     401    401
guest            absent  | 404  404   exp     for     | 404  404     404  404    404     404    404
user             absent  | 404  404   exp     for     | 404  404     404  404    404     404    404
user + cookie    absent  | 404  404   exp     for     | 404  404     404  404    404     404    404
service          absent  | 404  404   exp     for     | 404  404     404  404    404     404    404
service without  absent  | scp  scp   exp     for     | scp  scp     scp  scp    scp     scp    scp
"""


def cases() -> Iterator[Case]:
    """Spell out every cell of the tables, with every owner, visibility and lifetime that it stands for."""
    for who, owner, codes in _rows(READS):
        for visibility, of_visibility in zip(Visibility, (codes[:5], codes[5:]), strict=True):
            for token, code in zip(Shown, of_visibility, strict=True):
                yield from _lives(who, owner, visibility, Action.READ, token, code)
    for who, owner, codes in _rows(ACTIONS):
        for action, code in zip(_OTHER_ACTIONS, codes, strict=True):
            for visibility in Visibility:
                yield from _lives(who, owner, visibility, action, Shown.NONE, code)
    reads = (Shown.NONE, Shown.VALID, Shown.EXPIRED, Shown.FOREIGN)
    columns = [(Action.READ, token) for token in reads] + [(action, Shown.NONE) for action in _OTHER_ACTIONS]
    for who, owner, codes in _rows(ABSENT):
        for (action, token), code in zip(columns, codes, strict=True):
            yield from _scoped(who, owner, Visibility.PRIVATE, Lifetime.ABSENT, action, token, CODES[code].live)


_OTHER_ACTIONS: Final = tuple(map(Action, ("sign", "resolve", "info", "update", "publish", "delete", "revoke")))


def _rows(table: str) -> Iterator[tuple[Who, OwnedBy, list[str]]]:
    """Read a table: `any` stands for all owners, `other` for those without a row of the caller's own."""
    named: set[tuple[str, str]] = set()
    for line in table.strip().splitlines():
        left, _, cells = line.partition("|")
        who, *owner = re.split(r"\s{2,}", left.strip())
        if who not in set(Who):
            continue  # a heading
        named.add((who, owner[0]))
        codes = cells.replace("|", " ").split()
        for owned_by in OwnedBy:
            if owner[0] in {owned_by, "any"} or (owner[0] == "other" and (who, owned_by) not in named):
                yield Who(who), owned_by, codes
        if owner[0] == "absent":
            yield Who(who), OwnedBy.USER, codes


def _lives(who: Who, owner: OwnedBy, visibility: Visibility, action: Action, token: Shown, code: str) -> Iterator[Case]:
    cell = CODES[code]
    for lifetime in Lifetime:
        if lifetime in {Lifetime.READY, Lifetime.EXPIRING}:
            yield from _scoped(who, owner, visibility, lifetime, action, token, cell.live)
        elif lifetime in WHY_NOT_LIVE:
            reason = cell.ended or WHY_NOT_LIVE[lifetime]
            yield from _scoped(who, owner, visibility, lifetime, action, token, reason)


def _scoped(
    who: Who,
    owner: OwnedBy,
    visibility: Visibility,
    lifetime: Lifetime,
    action: Action,
    token: Shown,
    reason: Reason,
) -> Iterator[Case]:
    """Give a case for each scope that is enough, for a service; else the one."""
    keys: list[frozenset[str]] = [frozenset()]
    if who is Who.SERVICE:
        keys = [frozenset({scope}) for scope in SCOPES[action]]
    elif who is Who.SERVICE_WITHOUT_SCOPE:
        keys = [ALL_SCOPES.difference(SCOPES[action])]
    for scopes in keys:
        yield Case(who, owner, visibility, lifetime, action, token, scopes, reason in YES, reason)
