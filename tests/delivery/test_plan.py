"""Which bytes answer a request, with which status and headers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.conditions import Conditionals, conditionals_of, joined
from gateway.delivery.plan import Delivery, DeliveryRules, Method, download_of, plan, represent
from gateway.errors import AssetgateError, PreconditionFailed, RangeNotSatisfiable
from gateway.model import Asset
from policies.model import Grant, Reason, Token
from tests.support.delivery import CASES, Case, Known, name_of
from tests.support.grants import NOW, a_grant, an_asset

RULES = DeliveryRules("same-site", 300, 60)
SIZE = 5_000
ASSET = an_asset(size=SIZE)
CONTENT = bytes(at * 31 % 251 for at in range(SIZE))
KNOWN = Known(SIZE, ASSET.etag, ASSET.created_at // 1000)
OWNERS = a_grant(ASSET, read=("Cookie", "Authorization"))


def deliver(
    *sent: tuple[str, str],
    method: Method = "GET",
    asset: Asset = ASSET,
    grant: Grant = OWNERS,
    now: float = NOW,
) -> Delivery:
    shown = represent(asset, RULES, download_of(grant))
    return plan(shown, method, conditionals_of(joined(sent)), grant, now=now, rules=RULES)


def answer(planned: Callable[[], Delivery]) -> Delivery | AssetgateError:
    try:
        return planned()
    except (PreconditionFailed, RangeNotSatisfiable) as refused:
        return refused


def header(delivery: Delivery, name: str) -> str | None:
    return dict(delivery.headers).get(name)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_row_of_the_delivery_table_is_answered_as_it_says(case: Case) -> None:
    method: Method = "HEAD" if case.method == "HEAD" else "GET"
    delivery = answer(lambda: deliver(*case.headers(KNOWN), method=method))
    if isinstance(delivery, AssetgateError):
        assert not case.faults(KNOWN, delivery.status, delivery.headers)
        return
    body = b"" if delivery.wanted is None else CONTENT[delivery.wanted.start : delivery.wanted.stop]
    assert not case.faults(KNOWN, delivery.status, dict(delivery.headers), len(body))
    assert body == case.body(KNOWN, CONTENT)


def test_the_names_of_the_table_are_all_different() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_an_empty_object_is_sent_whole_and_has_no_part() -> None:
    empty = an_asset(size=0)
    assert deliver(asset=empty).wanted == range(0)
    assert deliver(("Range", "bytes=-5"), asset=empty).status == 200
    with pytest.raises(RangeNotSatisfiable) as refused:
        deliver(("Range", "bytes=0-"), asset=empty)
    assert refused.value.headers == {"Content-Range": "bytes */0"}


def test_head_and_304_want_no_bytes_but_an_empty_get_has_a_body() -> None:
    assert deliver(method="HEAD").wanted is None
    assert deliver(("If-None-Match", ASSET.etag)).wanted is None
    assert deliver(asset=an_asset(size=0)).wanted is not None


def test_head_has_the_headers_of_get() -> None:
    assert deliver(method="HEAD").headers == deliver().headers


def test_last_modified_is_the_second_in_which_the_asset_was_made() -> None:
    written = header(deliver(asset=an_asset(created_at=1_795_204_245_999)), "Last-Modified")
    assert parsedate_to_datetime(written or "").timestamp() == 1_795_204_245


def test_a_304_says_what_caches_need_and_no_more() -> None:
    assert [name for name, _ in deliver(("If-None-Match", "*")).headers] == ["ETag", "Cache-Control", "Vary"]


def test_the_resource_policy_is_the_operators() -> None:
    assert header(deliver(), "Cross-Origin-Resource-Policy") == "same-site"


@pytest.mark.parametrize("reason", [Reason.OWNER, Reason.GUEST_SESSION, Reason.SERVICE_SCOPE, Reason.RULE_ALLOWED])
def test_what_a_credential_opened_is_revalidated_by_its_own_browser_each_time(reason: Reason) -> None:
    assert header(deliver(grant=a_grant(ASSET, reason)), "Cache-Control") == "private, no-cache"


@pytest.mark.parametrize(("after", "left"), [(0.0, 600), (0.5, 599), (599.5, 0), (600.0, 0), (700.0, 0)])
def test_what_a_token_opened_is_kept_for_the_whole_seconds_left_to_it(after: float, left: int) -> None:
    grant = a_grant(ASSET, Reason.TOKEN, token=Token(int(NOW), int(NOW) + 600))
    assert header(deliver(grant=grant, now=NOW + after), "Cache-Control") == f"private, max-age={left}"


def test_a_token_is_kept_no_longer_than_the_asset_lives() -> None:
    expiring = an_asset(expires_at=int(NOW + 30) * 1000)
    grant = a_grant(expiring, Reason.TOKEN, token=Token(int(NOW), int(NOW) + 600))
    assert header(deliver(grant=grant), "Cache-Control") == "private, max-age=30"


@pytest.mark.parametrize(
    ("lives", "caching"),
    [
        (None, "public, max-age=300, stale-while-revalidate=60"),
        (3600, "public, max-age=300, stale-while-revalidate=60"),
        (320, "public, max-age=300, stale-while-revalidate=20"),
        (100, "public, max-age=100, stale-while-revalidate=0"),
        (0, "public, max-age=0, stale-while-revalidate=0"),
    ],
)
def test_public_assets_are_kept_as_long_as_the_operator_says_and_the_asset_lives(
    lives: int | None, caching: str
) -> None:
    asset = an_asset(expires_at=None if lives is None else int(NOW + lives) * 1000)
    assert header(deliver(grant=a_grant(asset, Reason.PUBLIC)), "Cache-Control") == caching


@pytest.mark.parametrize(
    ("reason", "caching"),
    [(Reason.OWNER, "private, no-cache"), (Reason.PUBLIC, "public, max-age=300, stale-while-revalidate=60")],
)
def test_a_token_that_did_not_decide_does_not_settle_the_caching(reason: Reason, caching: str) -> None:
    assert header(deliver(grant=a_grant(ASSET, reason, token=Token(0, 1))), "Cache-Control") == caching


def test_vary_names_what_the_decision_read_and_is_absent_when_it_read_nothing() -> None:
    assert header(deliver(), "Vary") == "Cookie, Authorization"
    assert header(deliver(grant=a_grant(ASSET, Reason.PUBLIC)), "Vary") is None
    assert header(deliver(("Range", "bytes=0-1")), "Vary") == "Cookie, Authorization"


@pytest.mark.parametrize(
    ("dl", "disposition"),
    [
        (None, 'inline; filename="clip.mp4"'),
        (1, 'attachment; filename="clip.mp4"'),
        ("mine.mp4", 'attachment; filename="mine.mp4"'),
    ],
)
def test_the_token_says_whether_the_asset_is_a_download(dl: str | int | None, disposition: str) -> None:
    grant = a_grant(ASSET, Reason.TOKEN, token=Token(int(NOW), int(NOW) + 600, dl=dl))
    assert header(deliver(grant=grant), "Content-Disposition") == disposition


def test_the_fixed_headers_are_the_representations_own_so_that_they_can_be_remembered() -> None:
    shown = represent(ASSET, RULES)
    assert plan(shown, "GET", Conditionals(), OWNERS, now=NOW, rules=RULES).fixed is shown.whole
    assert plan(shown, "GET", Conditionals(range="bytes=0-"), OWNERS, now=NOW, rules=RULES).fixed is shown.partial
    assert plan(shown, "GET", Conditionals(if_none_match="*"), OWNERS, now=NOW, rules=RULES).fixed is shown.unchanged


VALUES = st.one_of(
    st.none(),
    st.text(),
    st.text(alphabet="bytes=0123456789-, \t*"),
    st.text(alphabet='W/"abc,* \t'),
    st.from_regex(r"bytes=[0-9]{0,30}-[0-9]{0,30}\Z"),
    st.sampled_from([ASSET.etag, f"W/{ASSET.etag}", KNOWN.fill("{modified}"), KNOWN.fill("{earlier}")]),
)
ANYTHING = st.builds(Conditionals, VALUES, VALUES, VALUES, VALUES, VALUES, VALUES)


@given(ANYTHING, st.sampled_from(["GET", "HEAD"]), st.integers(0, 3_000))
def test_whatever_the_headers_say_the_answer_is_one_of_five(asked: Conditionals, method: Method, size: int) -> None:
    asset = replace(ASSET, size=size)
    delivery = answer(lambda: plan(represent(asset, RULES), method, asked, OWNERS, now=NOW, rules=RULES))
    if isinstance(delivery, AssetgateError):
        assert delivery.status == 412 or (method == "GET" and asked.range is not None)
        return
    assert delivery.status in {200, 206, 304}
    assert (delivery.wanted is None) == (method == "HEAD" or delivery.status == 304)
    if delivery.wanted is not None:
        assert header(delivery, "Content-Length") == str(len(delivery.wanted))
        assert delivery.wanted.step == 1
        assert 0 <= delivery.wanted.start <= delivery.wanted.stop <= size
    if delivery.status == 206:
        first, last, total = re.findall(r"\d+", header(delivery, "Content-Range") or "")
        assert range(int(first), int(last) + 1) == delivery.wanted
        assert int(total) == size
