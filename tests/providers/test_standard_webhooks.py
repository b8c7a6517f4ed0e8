"""Standard Webhooks: the published vectors, the computed ones, and every malformed header."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.errors import CannotStart, CredentialInvalid
from gateway.providers.standard_webhooks import parse_secrets, verify
from tests.support.providers.opened import VECTORS, body_of, standard_headers_of
from tests.support.providers.signing import SECRET, standard_headers

STANDARD = [name for name, vector in VECTORS.items() if vector.get("scheme") == "standard-webhooks-v1"]
ROTATING = VECTORS["GEM-C2-rotation-header"]["webhook_signature"]
P1 = VECTORS["SW-P1"]


def keys_of(*secrets: str) -> tuple[bytes, ...]:
    return parse_secrets([SecretStr(secret) for secret in secrets], "providers.x.webhook_secrets")


def signature_of(**changes: str) -> dict[str, str]:
    return standard_headers_of(P1) | {f"webhook-{name}": value for name, value in changes.items()}


@pytest.mark.parametrize("name", STANDARD)
def test_every_vector_verifies(name: str) -> None:
    vector = VECTORS[name]
    now = float(vector["webhook_timestamp"])
    headers = standard_headers_of(vector)
    assert verify(keys_of(vector["secret"]), headers, body_of(vector), now) == vector["webhook_id"]
    bare = vector["secret"].removeprefix("whsec_")
    assert verify(keys_of(bare.rstrip("=")), headers, body_of(vector), now) == vector["webhook_id"]


@pytest.mark.parametrize("name", ["GEM-C2-oldkey", "GEM-C2-newkey"])
def test_while_secrets_rotate_either_one_is_good(name: str) -> None:
    vector = VECTORS[name]
    headers = standard_headers_of(vector) | {"webhook-signature": ROTATING}
    assert verify(keys_of(vector["secret"]), headers, body_of(vector), 1795305600)
    both = keys_of(VECTORS["GEM-C2-oldkey"]["secret"], VECTORS["GEM-C2-newkey"]["secret"])
    assert verify(both, standard_headers_of(vector), body_of(vector), 1795305600)


def test_signatures_of_other_versions_are_passed_over() -> None:
    wrong = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
    header = f"{wrong} {wrong.replace('v1', 'v2')} {P1['webhook_signature']}  {wrong} "
    assert verify(keys_of(P1["secret"]), signature_of(signature=header), body_of(P1), 1614265330)


def test_a_body_that_is_no_text_verifies_as_bytes() -> None:
    body = b"\xff\xfe\x00"
    assert verify(keys_of(SECRET), standard_headers("msg_1", 1000, body), body, 1000) == "msg_1"


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": P1["webhook_signature"].replace("OLJ1OE=", "OLJ1OA=")},
        {"signature": P1["webhook_signature"].replace("v1,", "v1a,")},
        {"signature": P1["webhook_signature"].replace("v1,", "v2,")},
        {"signature": P1["webhook_signature"].replace("v1,", "V1,")},
        {"signature": P1["webhook_signature"].removeprefix("v1,")},
        {"signature": P1["webhook_signature"] + "="},
        {"signature": "garbage"},
        {"signature": "v1,abc"},
        {"signature": "v1,aa,bb"},
        {"signature": "  "},
        {"signature": ""},
        {"signature": "v1," * 400_000},
        {"signature": VECTORS["GEM-C3"].get("webhook_signature", "eyJh.eyJp.c2ln")},
        {"id": "msg_another"},
        {"id": ""},
        {"id": "msg_\udc80"},
        {"id": "msg_é"},
        {"timestamp": "1614265331"},
        {"timestamp": "1614265330.0"},
        {"timestamp": " 1614265330"},
        {"timestamp": "01614265330"},
        {"timestamp": "nan"},
        {"timestamp": "1e400"},
        {"timestamp": "-1"},
        {"timestamp": ""},
    ],
)
def test_a_changed_header_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(CredentialInvalid):
        verify(keys_of(P1["secret"]), signature_of(**changes), body_of(P1), 1614265330)


def test_bytes_count_and_not_their_meaning() -> None:
    vector = VECTORS["REP-C1"]
    body = body_of(vector)
    for changed in (body + b"\n", json.dumps(json.loads(body), separators=(",", ":")).encode(), body[:-1], b""):
        assert changed != body
        with pytest.raises(CredentialInvalid):
            verify(keys_of(vector["secret"]), standard_headers_of(vector), changed, 1795305600)


def test_an_empty_list_of_secrets_verifies_nothing() -> None:
    with pytest.raises(CredentialInvalid):
        verify((), standard_headers_of(P1), body_of(P1), 1614265330)


@pytest.mark.parametrize("secret", ["whsec_", "", "whsec_c2hvcnQ", "whsec_!!!!", "whsec_é"])
def test_a_secret_that_protects_nothing_does_not_start(secret: str) -> None:
    with pytest.raises(CannotStart, match=r"providers\.x\.webhook_secrets") as raised:
        keys_of(secret)
    assert secret.removeprefix("whsec_") == "" or secret.removeprefix("whsec_") not in str(raised.value)


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "webhook-id": st.text(max_size=40),
        "Webhook-Timestamp": st.text(max_size=14) | st.integers(999_000, 1_001_000).map(str),
        "webhook-signature": st.text(max_size=80) | st.binary(max_size=40).map(lambda raw: f"v1,{raw.hex()}"),
    },
)


@given(headers=HEADERS, body=st.binary(max_size=200))
def test_no_stranger_causes_another_error(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(CredentialInvalid):
        verify(keys_of(SECRET), headers, body, 1_000_000)


@given(body=st.binary(max_size=200), flip=st.integers(0, 31 * 8))
def test_no_bit_of_a_digest_may_differ(body: bytes, flip: int) -> None:
    headers = standard_headers("msg_1", 1000, body)
    digest = bytearray(base64.b64decode(headers["webhook-signature"].removeprefix("v1,")))
    digest[flip // 8] ^= 1 << flip % 8
    headers["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
    with pytest.raises(CredentialInvalid):
        verify(keys_of(SECRET), headers, body, 1000)
