"""Conditional requests, beyond the rows of the delivery table."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.conditions import (
    UNCONDITIONAL,
    Conditionals,
    Validators,
    conditionals_of,
    is_range_wanted,
    is_unchanged,
    joined,
)
from gateway.errors import PreconditionFailed
from tests.support.grants import NOW

HAS = Validators('"ours"', 1_700_000_000)
TAGS = st.text(alphabet="ours,W/*\u00e9\U0001f600", max_size=8).map(lambda opaque: f'"{opaque}"')
MARKS = st.sampled_from(["", "W/"])
SEPARATORS = st.sampled_from([",", ", ", " ,", " , ,", ",,\t"])


@given(st.lists(st.tuples(MARKS, TAGS | st.just(HAS.etag), SEPARATORS), max_size=6))
def test_a_list_matches_just_when_one_of_its_tags_does(members: list[tuple[str, str, str]]) -> None:
    header = "".join(mark + tag + separator for mark, tag, separator in members)
    weakly = any(tag == HAS.etag for _, tag, _ in members)
    strongly = any(tag == HAS.etag and not mark for mark, tag, _ in members)
    assert is_unchanged(Conditionals(if_none_match=header), HAS, NOW) is weakly
    if strongly:
        assert is_unchanged(Conditionals(if_match=header), HAS, NOW) is False
    else:
        with pytest.raises(PreconditionFailed):
            is_unchanged(Conditionals(if_match=header), HAS, NOW)


@given(st.text())
def test_if_range_is_true_for_no_text_but_the_validators(text: str) -> None:
    assert is_range_wanted(text, HAS, NOW) is (text.strip(" \t") in {HAS.etag, "Tue, 14 Nov 2023 22:13:20 GMT"})


def test_without_conditions_nothing_is_unchanged_and_a_range_is_heeded() -> None:
    assert is_unchanged(UNCONDITIONAL, HAS, NOW) is False
    assert is_range_wanted(None, HAS, NOW) is True


@pytest.mark.parametrize("text", ['"', '"a"', '"a",', ", ", "W/", " ", '"a" '])
def test_a_header_of_half_a_million_characters_takes_no_time(text: str) -> None:
    header = text * (500_000 // len(text))
    started = time.process_time()
    is_unchanged(Conditionals(if_none_match=header, if_range=header), HAS, NOW)
    is_range_wanted(header, HAS, NOW)
    assert time.process_time() - started < 2.0


def test_lines_of_one_name_become_one_list_whatever_their_case() -> None:
    fields = joined([("If-None-Match", '"a"'), ("Range", "bytes=0-1"), ("if-none-match", '"b"')])
    assert conditionals_of(fields) == Conditionals(range="bytes=0-1", if_none_match='"a", "b"')
