"""Every kind of address that a socket must not be connected to, and its neighbours that it may."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fetching.addresses import refusal

REFUSED = [
    ("0.0.0.0", "unspecified"),  # noqa: S104 - judged, not bound
    ("0.1.2.3", "unspecified"),
    ("10.0.0.1", "private"),
    ("10.255.255.255", "private"),
    ("100.64.0.0", "carrier-grade NAT"),
    ("100.127.255.255", "carrier-grade NAT"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("169.254.169.254", "link-local"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.8", "reserved"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4 relay"),
    ("192.168.1.1", "private"),
    ("198.18.0.1", "benchmarking"),
    ("198.19.255.255", "benchmarking"),
    ("198.51.100.7", "documentation"),
    ("203.0.113.7", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("fec0::1", "site-local"),
    ("fc00::1", "private"),
    ("fd12:3456::1", "private"),
    ("ff02::1", "multicast"),
    ("100::1", "discard"),
    ("2001:db8::1", "documentation"),
    ("3fff::1", "documentation"),
    ("2001:10::1", "reserved"),
    ("5f00::1", "reserved"),
    ("4000::1", "reserved"),
    ("200::1", "reserved"),
    # IPv4 inside IPv6
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:10.0.0.1", "private"),
    ("::ffff:169.254.169.254", "link-local"),
    ("::ffff:7f00:1", "loopback"),
    ("::127.0.0.1", "IPv4-compatible"),
    ("::8.8.8.8", "IPv4-compatible"),
    ("::ffff:0:127.0.0.1", "reserved"),  # IPv4-translated, RFC 2765
    ("2002:7f00:1::", "6to4"),
    ("2002:808:808::1", "6to4"),
    ("64:ff9b::127.0.0.1", "loopback"),
    ("64:ff9b::10.0.0.1", "private"),
    ("64:ff9b::a9fe:a9fe", "link-local"),
    ("64:ff9b:1::8.8.8.8", "local NAT64"),
    ("64:ff9b:1:abcd::1", "local NAT64"),
    ("64:ff9b:2::1", "reserved"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
    ("2a00:1450::5efe:10.0.0.1", "ISATAP"),
    ("2a00:1450::200:5efe:8.8.8.8", "ISATAP"),
    # what is no address
    ("", "no address"),
    ("localhost", "no address"),
    ("127.1", "no address"),
    ("0x7f000001", "no address"),
    ("2130706433", "no address"),
    ("010.0.0.1", "no address"),
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]


@pytest.mark.parametrize(("address", "kind"), REFUSED)
def test_no_socket_is_connected_to(address: str, kind: str) -> None:
    assert refusal(address) == kind


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_connected_to(address: str) -> None:
    assert refusal(address) is None


@pytest.mark.parametrize(
    ("address", "network", "allowed"),
    [
        ("127.0.0.1", "127.0.0.0/8", True),
        ("127.0.0.1", "127.0.0.2/32", False),
        ("::ffff:127.0.0.1", "127.0.0.0/8", True),
        ("64:ff9b::10.1.2.3", "10.1.0.0/16", True),
        ("::1", "::1/128", True),
        ("::1", "127.0.0.0/8", False),
        ("fd00::1", "fd00::/8", True),
        ("10.0.0.1", "::/0", False),
    ],
)
def test_the_operator_can_exempt_a_network(address: str, network: str, allowed: bool) -> None:
    assert (refusal(address, [ip_network(network)]) is None) is allowed


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_like_the_one_inside(address: object) -> None:
    assert refusal(f"::ffff:{address}") == refusal(f"64:ff9b::{address}") == refusal(str(address))


@given(st.ip_addresses(v=4, network=IPv4Network("10.0.0.0/8")))
def test_no_form_of_a_private_address_gets_through(address: object) -> None:
    first, second = (f"{int(part):x}" for part in (int(str(address).split(".")[0]), 0))
    forms = [f"::{address}", f"::ffff:{address}", f"64:ff9b::{address}", f"64:ff9b:1::{address}"]
    forms += [f"2002:{first}{second.zfill(2)}::1", f"2a00::5efe:{address}", f"2a00::200:5efe:{address}"]
    assert None not in [refusal(form) for form in forms]
