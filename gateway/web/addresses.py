"""Where a request came from, through the proxies that are trusted to say so."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


class Proxies:
    """The proxies of `server.trusted_proxies`; what anyone else says about an address is ignored."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self.trusts = lru_cache(maxsize=4096)(self._trusts)

    def client(self, peer: str | None, forwarded: str | None) -> str | None:
        """The client's address: the peer's, or what trusted proxies say of it in `X-Forwarded-For`, nearest first."""
        if forwarded is None or not self.trusts(peer):
            return peer
        nearest = peer
        for hop in reversed([part.strip() for part in forwarded.split(",")]):
            if parsed(hop) is None:
                return nearest
            nearest = hop
            if not self.trusts(hop):
                break
        return nearest

    def _trusts(self, address: str | None) -> bool:
        found = parsed(address) if address is not None and self._networks else None
        if found is None:
            return False
        plain = getattr(found, "ipv4_mapped", None) or found
        return any(plain in network for network in self._networks)


def parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; None when it is none."""
    try:
        return ip_address(text)
    except ValueError:
        return None
