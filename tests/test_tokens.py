"""Access tokens: the vectors of the contract, what else must be refused, and times that stay the same."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway import tokens
from gateway.errors import Forbidden, of_denied
from gateway.settings import SigningKey, parse_signing_keys
from policies.engine import decide
from policies.model import Action, Caller, CallerKind, Denied, Question, State, Subject, Token, Visibility
from policies.rules import STANDARD_RULES

VECTORS: Final = json.loads((Path(__file__).parent / "vectors" / "tokens.json").read_text(encoding="utf-8"))
KEYS: Final = {key.kid: key.key for key in parse_signing_keys(",".join(map(":".join, VECTORS["keys"].items())))}
KEY: Final = SigningKey("k1", KEYS["k1"])
ASSET: Final = "3f0d8f5a-0b1e-4c55-9a53-6f1f5f0e7c11"
NOW: Final = 1_795_305_600
DAY: Final = 86400  # seconds


def outcome(vector: dict[str, Any]) -> str:
    """Read as a client with this token does: check it, then decide."""
    subject = Subject(vector["assetId"], "user:nobody-here", Visibility.PRIVATE, State.READY)
    kind = CallerKind.USER if "user" in vector else CallerKind.ANONYMOUS
    caller = Caller(kind, vector.get("user", ""), address=vector.get("ip"))
    try:
        token = tokens.verify(vector["token"], vector["assetId"], KEYS, vector["now"])
        decide(Question(caller, Action.READ, subject, token, vector["now"]), STANDARD_RULES)
    except Forbidden as error:
        return error.error
    except Denied as denied:
        return of_denied(denied).error
    return "ok"


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_each_vector_of_the_contract_is_answered_as_expected(vector: dict[str, Any]) -> None:
    assert outcome(vector) == vector["expect"]


def signed(claims: bytes | str, kid: str = "k1") -> str:
    """Sign anything at all, as a client with the key and the contract's ten lines could."""
    encoded = claims if isinstance(claims, str) else base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
    message = f"assetgate.asset.v1\n{kid}\n{ASSET}\n{encoded}".encode()
    mac = hmac.new(KEYS[kid], message, hashlib.sha256).digest()
    return f"v1.{kid}.{encoded}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def claims(**more: object) -> bytes:
    return json.dumps({"iat": NOW - 10, "exp": NOW + 600, **more}).encode()


REFUSED: Final[dict[str, bytes | str]] = {
    "iat is true": claims(iat=True),
    "iat is null": claims(iat=None),
    "iat beyond what numbers hold": claims(iat=10**30),
    "exp is infinite": b'{"iat":1795305590,"exp":Infinity}',
    "exp is not a number": b'{"iat":1795305590,"exp":NaN}',
    "iat 61 seconds ahead": claims(iat=NOW + 61),
    "dl is 2": claims(dl=2),
    "dl is true": claims(dl=True),
    "dl is 1.0": claims(dl=1.0),
    "dl is empty": claims(dl=""),
    "dl is a list": claims(dl=["a"]),
    "dl holds half a surrogate pair": claims(dl="\ud800"),
    "sub is a number": claims(sub=7),
    "sub is empty": claims(sub=""),
    "ip is a number": claims(ip=3405803785),
    "ip is no address": claims(ip="localhost"),
    "ip is empty": claims(ip=""),
    "ip has a prefix too long": claims(ip="203.0.113.0/33"),
    "duplicate keys, equal values": b'{"iat":1795305590,"iat":1795305590,"exp":1795306190}',
    "an object within": claims(x={"a": 1}),
    "two documents": claims() + b"{}",
    "UTF-16": claims().decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + claims(),
    "not UTF-8": b'{"iat":1795305590,"exp":1795306190,"sub":"\xff"}',
    "nested beyond what a parser follows": b"[" * 3000,
    "null": b"null",
    "no bytes": b"",
    "base64 with spare bits set": signed(claims())[6:].partition(".")[0][:-1] + "1",
    "base64 with a line end": base64.urlsafe_b64encode(claims()).rstrip(b"=").decode() + "\n",
    "base64 of the other alphabet": base64.b64encode(claims(sub="??>>")).rstrip(b"=").decode(),
    "longer than is looked at": claims(sub="x" * 4096),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_signed_but_wrong_is_refused_in_the_same_words(name: str) -> None:
    with pytest.raises(Forbidden) as refusal:
        tokens.verify(signed(REFUSED[name]), ASSET, KEYS, NOW)
    assert (refusal.value.error, refusal.value.detail) == ("token_invalid", "The token is not valid")


@pytest.mark.parametrize("text", ["v1.k1.é.é", "v1.k1.\ud800.a", "." * 5000, "v1.k1." + "A" * 100_000 + ".A", "v1"])
def test_what_is_no_token_is_refused_before_any_key_is_used(text: str) -> None:
    with pytest.raises(Forbidden):
        tokens.verify(text, ASSET, KEYS, NOW)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"iat": NOW + 60}, Token(NOW + 60, NOW + 600)),
        ({"dl": 1}, Token(NOW - 10, NOW + 600, dl=1)),
        ({"dl": "clip é.mp4"}, Token(NOW - 10, NOW + 600, dl="clip é.mp4")),
        ({"ip": "2001:db8::/32"}, Token(NOW - 10, NOW + 600, ip="2001:db8::/32")),
        ({"exp": NOW - 5}, Token(NOW - 10, NOW - 5)),
    ],
)
def test_what_any_client_may_sign_is_read(more: dict[str, object], expected: Token) -> None:
    assert tokens.verify(signed(claims(**more)), ASSET, KEYS, NOW) == expected


def test_removing_a_key_kills_what_it_signed_and_a_new_one_does_not() -> None:
    old = tokens.mint(KEY, ASSET, Token(NOW, NOW + 600))
    assert tokens.verify(old, ASSET, {"k2": KEYS["k2"], "k1": KEYS["k1"]}, NOW)
    with pytest.raises(Forbidden):
        tokens.verify(old, ASSET, {"k2": KEYS["k2"]}, NOW)


text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=100)
made = st.builds(
    Token,
    iat=st.integers(NOW - 7 * DAY, NOW + 60),
    exp=st.integers(NOW - 7 * DAY, NOW),
    dl=st.none() | st.just(1) | text,
    sub=st.none() | text,
    ip=st.none() | st.ip_addresses().map(str),
)


@given(made)
def test_what_is_minted_is_read_back_the_same(token: Token) -> None:
    assert tokens.verify(tokens.mint(KEY, ASSET, token), ASSET, KEYS, NOW) == token


@given(st.binary(min_size=16, max_size=130))
def test_a_key_of_any_length_signs_as_hmac_does(key: bytes) -> None:
    text = tokens.signer(SigningKey("k9", key), "e30")(ASSET)
    mac = hmac.new(key, f"assetgate.asset.v1\nk9\n{ASSET}\ne30".encode(), hashlib.sha256).digest()
    assert text == f"v1.k9.e30.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


@given(made, st.data())
def test_a_token_with_one_bit_flipped_is_refused(token: Token, data: st.DataObject) -> None:
    good = tokens.mint(KEY, ASSET, token).encode()
    bit = data.draw(st.integers(0, len(good) * 8 - 1))
    broken = bytearray(good)
    broken[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Forbidden):
        tokens.verify(broken.decode("latin-1"), ASSET, KEYS, NOW)


@given(made, st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{7,63}", fullmatch=True))
def test_a_token_is_good_for_its_own_asset_alone(token: Token, other: str) -> None:
    assume(other != ASSET)
    with pytest.raises(Forbidden):
        tokens.verify(tokens.mint(KEY, ASSET, token), other, KEYS, NOW)


def test_claims_encoded_once_serve_many_assets() -> None:
    token = Token(NOW, NOW + 600, dl="a.png")
    sign = tokens.signer(KEY, tokens.encode(token))
    for asset in (ASSET, "another-asset"):
        assert sign(asset) == tokens.mint(KEY, asset, token)


moments = st.floats(NOW, NOW + 10 * DAY)
lives = st.floats(0.5, 7 * DAY)
windows = st.integers(0, DAY)


@given(moments, lives, windows)
def test_a_token_lives_as_long_as_asked_and_at_most_twice(now: float, ttl: float, window: int) -> None:
    iat, exp = tokens.stable_times(now, ttl, window, None)
    assert iat <= now
    assert exp - iat <= tokens.LONGEST_LIFE
    if window:
        assert exp >= min(now + ttl, now + tokens.LONGEST_LIFE - window)
    else:
        assert exp > now + ttl - 1
    assert exp <= now + 2 * max(ttl, 1) + 2


@given(st.integers(NOW, NOW + DAY), lives, st.integers(1, DAY), st.floats(0, 1, exclude_max=True))
def test_within_one_window_the_times_stay_the_same(now: int, ttl: float, window: int, later: float) -> None:
    step = min(window, max(int(-(-ttl // 1)), 1))
    start = now - now % step
    within = min(start + later * step, start + step - 0.001)
    assert tokens.stable_times(within, ttl, window, None) == tokens.stable_times(start, ttl, window, None)


@given(moments, lives, windows, st.integers(-DAY, 0))
def test_after_a_revocation_a_new_token_begins_past_it_and_verifies_at_once(
    now: float, ttl: float, window: int, ago: int
) -> None:
    revoked_at = int(now) + ago
    iat, exp = tokens.stable_times(now, ttl, window, revoked_at)
    assert iat > revoked_at
    token = Token(iat, exp)
    assert tokens.verify(tokens.mint(KEY, ASSET, token), ASSET, KEYS, now) == token


def test_the_default_window_gives_one_url_a_minute() -> None:
    minute = {tokens.stable_times(NOW + second / 2, 600, 60, None) for second in range(120)}
    assert minute == {(NOW, NOW + 660)}
    assert tokens.stable_times(NOW + 60, 600, 60, None) == (NOW + 60, NOW + 720)
