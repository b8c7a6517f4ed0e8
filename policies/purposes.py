"""What each purpose allows: who may upload for it, which types, and who owns what comes in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from policies.model import Caller, CallerKind, Denied, Reason, Visibility

SYSTEM: Final = "system"  # the owner of what belongs to no caller
ROOM: Final = "purposes"  # stands for the rule's name in a denial


@dataclass(frozen=True, slots=True)
class Purpose:
    """The limits of one purpose, as the settings have them: `types` are media types or patterns such as `image/*`.

    `owner` is `caller` or `system`, `url_ttl` is in seconds, `delivery` is a mode or None for the general one.
    """

    name: str
    types: tuple[str, ...]
    max_bytes: int
    guests: bool = False
    visibility: Visibility = Visibility.PRIVATE
    owner: str = "caller"
    roles: frozenset[str] = frozenset()
    url_ttl: float = 3600.0
    delivery: str | None = None


def may_upload(caller: Caller, purpose: Purpose, visibility: Visibility | None = None) -> str:
    """Return the owner to record for what `caller` uploads, or raise `Denied`. `visibility`: what they asked for.

    Nobody and services own nothing themselves: theirs is the system's, unless a service names an owner. Make the guest
    session of an anonymous caller first, so that the owner is theirs.
    """
    _CHECKS[caller.kind](caller, purpose)
    if visibility is Visibility.PUBLIC and caller.kind in _SESSIONS:
        raise Denied(Reason.GUEST_MAY_NOT_PUBLISH, ROOM)
    if purpose.owner == SYSTEM:
        return SYSTEM
    return caller.owner or SYSTEM


def open_to(caller: Caller, purposes: Iterable[Purpose]) -> list[Purpose]:
    """Return the purposes that `caller` may upload for. Raises `Denied` when there is none."""
    found: list[Purpose] = []
    closed = Denied(Reason.PURPOSE_NOT_ALLOWED, ROOM)
    for purpose in purposes:
        try:
            may_upload(caller, purpose)
        except Denied as denied:
            closed = denied
        else:
            found.append(purpose)
    if not found:
        raise closed
    return found


def default_visibility(caller: Caller, purpose: Purpose) -> Visibility:
    """Give the visibility of an upload that asked for none: the purpose's, but what guests upload stays private."""
    return Visibility.PRIVATE if caller.kind in _SESSIONS else purpose.visibility


def allows_type(purpose: Purpose, media_type: str) -> bool:
    """Tell whether the purpose takes files of this type. SVG can run scripts, so no pattern covers it."""
    found = media_type.partition(";")[0].strip().lower()
    if found in purpose.types:
        return True
    if found.startswith("image/svg"):
        return False
    family, slash, _ = found.partition("/")
    return f"{family}{slash}*" in purpose.types


def _check_anonymous(_: Caller, purpose: Purpose) -> None:
    if not purpose.guests or purpose.roles:
        raise Denied(Reason.SIGN_IN_REQUIRED, ROOM)


def _check_guest(_: Caller, purpose: Purpose) -> None:
    if not purpose.guests or purpose.roles:
        raise Denied(Reason.PURPOSE_NOT_ALLOWED, ROOM)


def _check_user(caller: Caller, purpose: Purpose) -> None:
    if purpose.roles and caller.roles.isdisjoint(purpose.roles):
        raise Denied(Reason.PURPOSE_NOT_ALLOWED, ROOM)


def _check_service(caller: Caller, _: Purpose) -> None:
    if "upload" not in caller.scopes:
        raise Denied(Reason.SCOPE_MISSING, ROOM)


_SESSIONS: Final = frozenset({CallerKind.ANONYMOUS, CallerKind.GUEST})
_CHECKS: Final = {
    CallerKind.ANONYMOUS: _check_anonymous,
    CallerKind.GUEST: _check_guest,
    CallerKind.USER: _check_user,
    CallerKind.SERVICE: _check_service,
}
