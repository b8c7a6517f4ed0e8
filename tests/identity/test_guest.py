"""Guest sessions: made by the server, known to the records by a hash, and never made up by a client."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools

import pytest

from gateway.errors import CannotStart, CredentialInvalid
from gateway.identity.guest import COOKIE_NAME, GuestSessions, clear_cookie_header
from gateway.settings import Guests, SigningKey

NEW = SigningKey("new", b"n" * 32)
OLD = SigningKey("old", b"o" * 32)
SETTINGS = Guests(ttl=86_400.0, max_files=20, max_bytes=1000)
_counter = itertools.count(1)


def counted(size: int) -> bytes:
    """Randomness that never repeats and that a test can tell."""
    return next(_counter).to_bytes(size, "big")


def sessions(*keys: SigningKey) -> GuestSessions:
    return GuestSessions(keys, SETTINGS, counted)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_an_issued_cookie_proves_its_session() -> None:
    guests = sessions(NEW)
    value, session = guests.issue()
    assert guests.identify(value) == session
    assert len(session) == 32
    assert session not in value


def test_every_guest_has_a_session_of_their_own() -> None:
    guests = sessions(NEW)
    assert len({guests.issue() for _ in range(100)}) == 100


def test_the_value_is_what_the_documents_say() -> None:
    value, session = GuestSessions([NEW], SETTINGS, bytes).issue()
    key = hmac.digest(NEW.key, b"assetgate.guest.v1", "sha256")
    random = "A" * 22
    assert value == f"v1.{random}.{base64url(hmac.digest(key, f'v1.{random}'.encode(), 'sha256'))}"
    assert session == hashlib.sha256(bytes(16)).hexdigest()[:32]


def test_a_session_outlives_the_key_that_began_it_once_renewed() -> None:
    value, session = sessions(OLD).issue()
    both = sessions(NEW, OLD)
    assert both.identify(value) == session
    renewed = both.renew(value)
    assert sessions(NEW).identify(renewed) == session
    with pytest.raises(CredentialInvalid):
        sessions(NEW).identify(value)


GOOD, _ = sessions(NEW).issue()
VERSION, RANDOM, MAC = GOOD.split(".")
LAST_BITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
BAD = {
    "nothing": "",
    "another version": f"v2.{RANDOM}.{MAC}",
    "no MAC": f"v1.{RANDOM}.",
    "another MAC": f"v1.{RANDOM}.{'A' * 43}",
    "another session under the MAC": f"v1.{'A' * 22}.{MAC}",
    "a key that is not ours": sessions(OLD).issue()[0],
    "signed with the key itself": f"v1.{RANDOM}.{base64url(hmac.digest(NEW.key, f'v1.{RANDOM}'.encode(), 'sha256'))}",
    "padding": GOOD + "=",
    "another spelling of the MAC": GOOD[:-1] + LAST_BITS[LAST_BITS.index(GOOD[-1]) ^ 1],
    "another spelling of the session": f"v1.{RANDOM[:-1]}{LAST_BITS[LAST_BITS.index(RANDOM[-1]) ^ 1]}.{MAC}",
    "a line break behind": GOOD + "\n",
    "quotes around": f'"{GOOD}"',
    "letters beyond ASCII": GOOD[:-1] + "é",
    "ten megabytes": "v1." + "A" * 10_000_000,
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_a_bad_cookie_is_a_bad_credential_and_no_new_guest(value: str) -> None:
    guests = sessions(NEW)
    for look in (guests.identify, guests.renew):
        with pytest.raises(CredentialInvalid) as refusal:
            look(value)
        assert "WWW-Authenticate" in refusal.value.headers


def test_the_cookie_is_kept_from_scripts_and_other_sites() -> None:
    guests = sessions(NEW)
    expected = "assetgate_guest=v; Max-Age=86400; Path=/; HttpOnly; SameSite=Lax"
    assert COOKIE_NAME == "assetgate_guest"
    assert guests.set_cookie_header("v", secure=False) == expected
    assert guests.set_cookie_header("v", secure=True) == f"{expected}; Secure"


def test_a_browser_can_be_told_to_forget() -> None:
    assert clear_cookie_header(secure=True) == "assetgate_guest=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure"


def test_without_a_signing_key_there_are_no_guests() -> None:
    with pytest.raises(CannotStart, match=r"signing\.keys"):
        sessions()
