"""Who holds a good token of an asset may read it; a token that is not theirs or was revoked is refused to everyone.

What it says does not depend on the asset being there, so that a token tells nothing about an asset that is not.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from policies.model import Action, Caller, CallerKind, Effect, Question, Reason, Verdict

READ: Final = Action.READ
USER: Final = CallerKind.USER
ALLOW: Final = Verdict(Effect.ALLOW, Reason.TOKEN)
ALLOW_BOUND: Final = Verdict(Effect.ALLOW, Reason.TOKEN, read=("Authorization", "Cookie"))
EXPIRED: Final = Verdict(Effect.WITHHOLD, Reason.TOKEN_EXPIRED)
REVOKED: Final = Verdict(Effect.DENY, Reason.TOKEN_REVOKED)
ANOTHER_USER: Final = Verdict(Effect.DENY, Reason.TOKEN_OF_ANOTHER_USER)
ANOTHER_NETWORK: Final = Verdict(Effect.DENY, Reason.TOKEN_OF_ANOTHER_NETWORK)

MAPPED_PREFIX: Final = 96  # bits of ::ffff:0:0/96 before the IPv4 address (RFC 4291, section 2.5.5.2)


def rule(question: Question) -> Verdict | None:
    token = question.token
    if token is None or question.action is not READ:
        return None
    if token.sub is not None and not _is_user(question.caller, token.sub):
        return ANOTHER_USER
    if token.ip is not None and not _is_within(question.caller.address, token.ip):
        return ANOTHER_NETWORK
    subject = question.subject
    if subject is not None and subject.revoked_at is not None and token.iat <= subject.revoked_at:
        return REVOKED
    if token.exp <= question.now:
        return EXPIRED
    return ALLOW if token.sub is None else ALLOW_BOUND


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """Read an address or CIDR, an IPv4-mapped one as the IPv4 that it means. Raises ValueError."""
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= MAPPED_PREFIX:
        inner = network.network_address.ipv4_mapped
        if inner is not None:
            return IPv4Network((inner, network.prefixlen - MAPPED_PREFIX))
    return network


def _is_user(caller: Caller, user_id: str) -> bool:
    return caller.kind is USER and caller.id == user_id


@lru_cache(maxsize=4096)  # parsing both costs more than the whole decision, and clients come again
def _is_within(address: str | None, network: str) -> bool:
    try:
        found = ip_address(address or "")
        wanted = parse_network(network)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found) in wanted
