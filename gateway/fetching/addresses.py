"""Judges an address that a socket is about to connect to: public, or the name of what it is instead.

Sources: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890), RFC 6052 and 8215 (NAT64), RFC 3056
(6to4), RFC 4380 (Teredo), RFC 5214 (ISATAP), RFC 4291 (mapped and compatible). A table, not `is_global`: that changes
with the Python version, and knows nothing of IPv4 inside IPv6.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_IPV4: Final[Sequence[tuple[IPv4Network, str]]] = [
    (IPv4Network(network), name)
    for network, name in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
]
# The first that matches counts. What is left of IPv6 and lies outside 2000::/3 is not given out to anyone.
_IPV6: Final[Sequence[tuple[IPv6Network, str]]] = [
    (IPv6Network(network), name)
    for network, name in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "reserved"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
]
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_ISATAP: Final = (bytes.fromhex("00005efe"), bytes.fromhex("02005efe"))  # of the interface identifier, either u bit


def refusal(text: str, exempt: Sequence[Network] = ()) -> str | None:
    """Return None for an address that may be connected to, else what kind of address it is.

    The deprecated ways of putting IPv4 into IPv6 are refused whatever is inside: no public server lives there. Mapped
    addresses and the well-known NAT64 prefix, by which networks without IPv4 reach all of it, count as what is inside.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return "no address"
    inner = _inside(address)
    if any(_within(one, network) for one in (address, inner) for network in exempt):
        return None
    if isinstance(inner, IPv4Address):
        return next((name for network, name in _IPV4 if inner in network), None)
    return _refusal_of_ipv6(inner)


def _inside(address: Address) -> Address:
    """Return the IPv4 address that a mapped or NAT64 address stands for, else the address itself."""
    if isinstance(address, IPv6Address) and (address in _MAPPED or address in _NAT64):
        return IPv4Address(address.packed[-4:])
    return address


def _refusal_of_ipv6(address: IPv6Address) -> str | None:
    for network, name in _IPV6:
        if address in network:
            return name
    if address not in _GLOBAL_UNICAST:
        return "reserved"
    return "ISATAP" if address.packed[8:12] in _ISATAP else None


def _within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network
