"""Service keys: whose they are, and what is no key."""

from __future__ import annotations

import hashlib
import math

import pytest

from gateway.errors import CannotStart, CredentialInvalid
from gateway.identity import Identified
from gateway.identity.service import ServiceKeys
from gateway.settings import Service

KEY = "ag_" + "k" * 43
OTHER = "ag_" + "o" * 43


def service(key: str, *scopes: str) -> Service:
    return Service(key_sha256=hashlib.sha256(key.encode()).hexdigest(), scopes=scopes)


KEYS = ServiceKeys({"app": service(KEY, "sign", "read"), "worker": service(OTHER)})


def test_a_key_names_its_service_and_scopes() -> None:
    assert KEYS.identify(KEY) == Identified("app", math.inf, scopes=frozenset({"sign", "read"}))
    assert KEYS.identify(OTHER) == Identified("worker", math.inf)


BAD = {
    "nothing": "",
    "the prefix": "ag_",
    "without its prefix": KEY[3:],
    "one letter less": KEY[:-1],
    "one letter more": KEY + "k",
    "in capitals": KEY.upper(),
    "a space behind": KEY + " ",
    "its own hash": hashlib.sha256(KEY.encode()).hexdigest(),
    "letters beyond ASCII": "ag_é",
    "bytes that are no text": "ag_\udcff",
}


@pytest.mark.parametrize("key", BAD.values(), ids=BAD)
def test_anything_else_is_refused_with_a_challenge(key: str) -> None:
    with pytest.raises(CredentialInvalid) as refusal:
        KEYS.identify(key)
    assert "WWW-Authenticate" in refusal.value.headers


def test_without_services_no_key_is_good() -> None:
    with pytest.raises(CredentialInvalid):
        ServiceKeys({}).identify(KEY)


def test_two_services_cannot_share_a_key() -> None:
    with pytest.raises(CannotStart, match="same key"):
        ServiceKeys({"a": service(KEY), "b": service(KEY)})
