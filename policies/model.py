"""The words a decision is made of: who asks, for what, about which asset, and what was decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final, NamedTuple


class CallerKind(StrEnum):
    ANONYMOUS = "anonymous"
    GUEST = "guest"
    USER = "user"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as their credentials prove it.

    `id` is the user id, the guest session's hash or the service's name. A user who also carries a guest cookie has that
    session's hash in `guest`: holding the cookie proves the session just as it did before signing in. After `until`
    (seconds since 1970) the credential has to be judged again.
    """

    kind: CallerKind
    id: str = ""
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    guest: str | None = None
    by_cookie: bool = False
    address: str | None = None
    until: float | None = None

    @property
    def owner(self) -> str | None:
        """The owner string of what this caller uploads: `user:<id>`, `guest:<hash>` or None."""
        if self.kind in {CallerKind.USER, CallerKind.GUEST}:
            return f"{self.kind}:{self.id}"
        return None


ANONYMOUS = Caller(CallerKind.ANONYMOUS)


class Action(StrEnum):
    """What can be asked about one asset."""

    READ = "read"
    SIGN = "sign"
    RESOLVE = "resolve"
    INFO = "info"
    UPDATE = "update"
    PUBLISH = "publish"
    DELETE = "delete"
    REVOKE = "revoke"


class State(StrEnum):
    """Where an asset is in its life. `PENDING` has a record and perhaps some bytes, and nobody may read it."""

    PENDING = "pending"
    READY = "ready"
    EXPIRED = "expired"
    DELETED = "deleted"


READY: Final = State.READY  # looking a member up in its class is slow on the path of every read (Python 3.11)


class Visibility(StrEnum):
    PRIVATE = "private"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Subject:
    """The facts of an asset that a decision may read. `locator` and `version` name its bytes to the storage.

    `expires_at` is in milliseconds since 1970 or None; `revoked_at` in whole seconds since 1970 or None; `size` in
    bytes, or None where nobody needs it.
    """

    asset_id: str
    owner: str
    visibility: Visibility
    state: State
    expires_at: int | None = None
    revoked_at: int | None = None
    purpose: str = ""
    locator: str = ""
    version: str = ""
    size: int | None = None

    def is_live(self, now: float) -> bool:
        """Tell whether the asset is ready and unexpired at `now`, in seconds since 1970."""
        return self.state is READY and (self.expires_at is None or now < self.expires_at / 1000)


@dataclass(frozen=True, slots=True)
class Token:
    """The claims of an access token whose MAC was right (contract, section 5). Times in whole seconds since 1970."""

    iat: int
    exp: int
    dl: str | int | None = None
    sub: str | None = None
    ip: str | None = None


class Question(NamedTuple):
    """May `caller` do `action` with `subject` (None: no such asset) at `now` (seconds since 1970)?"""

    caller: Caller
    action: Action
    subject: Subject | None
    token: Token | None
    now: float


class Effect(Enum):
    """How much a verdict weighs.

    `WITHHOLD` is the reason given when no rule allows; `DENY` outweighs every yes; `DENY_QUIETLY` does so too, but its
    reason is told only to those whom another rule would have let in.
    """

    ALLOW = "allow"
    WITHHOLD = "withhold"
    DENY = "deny"
    DENY_QUIETLY = "deny quietly"


class Reason(StrEnum):
    """The closed list of reasons: every grant and every denial carries one, in logs, metrics and `explain`."""

    PUBLIC = "public"
    TOKEN = "token"  # noqa: S105 - a reason's name, no secret
    OWNER = "owner"
    GUEST_SESSION = "guest_session"
    SERVICE_SCOPE = "service_scope"
    RULE_ALLOWED = "rule_allowed"

    NO_RULE_ALLOWED = "no_rule_allowed"
    SIGN_IN_REQUIRED = "sign_in_required"
    SCOPE_MISSING = "scope_missing"
    PURPOSE_NOT_ALLOWED = "purpose_not_allowed"
    GUEST_MAY_NOT_PUBLISH = "guest_may_not_publish"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    TOKEN_OF_ANOTHER_USER = "token_of_another_user"  # noqa: S105
    TOKEN_OF_ANOTHER_NETWORK = "token_of_another_network"  # noqa: S105
    ASSET_EXPIRED = "asset_expired"
    ASSET_DELETED = "asset_deleted"
    ASSET_NOT_READY = "asset_not_ready"
    RULE_DENIED = "rule_denied"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule says. `read` names the request's headers that it looked at, for `Vary`."""

    effect: Effect
    reason: Reason
    read: tuple[str, ...] = ()


Rule = Callable[[Question], Verdict | None]


@dataclass(frozen=True, slots=True)
class Grant:
    """The proof that a policy allowed a caller one action on one asset. Only `policies.engine` makes one.

    `until` is when it ends by itself, in seconds since 1970, or None; `read` are the request headers it depends on.
    """

    action: Action
    subject: Subject
    caller: Caller
    reason: Reason
    rule: str
    token: Token | None = None
    until: float | None = None
    read: tuple[str, ...] = ()


class Denied(Exception):
    """No. `reason` is what may be told to this caller, `cause` what really decided: for logs and `explain` alone."""

    def __init__(self, reason: Reason, rule: str = "", cause: Reason | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.rule = rule
        self.cause = cause or reason


@dataclass(frozen=True, slots=True)
class Explanation:
    """What every rule said about a question, and the outcome."""

    question: Question
    verdicts: tuple[tuple[str, Verdict | None], ...]
    outcome: Grant | Denied = field(compare=False)
