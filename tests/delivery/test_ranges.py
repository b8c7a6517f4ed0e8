"""The one byte range that a Range header asks for."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.ranges import parse_range
from gateway.errors import RangeNotSatisfiable

SIZES = st.integers(0, 300)
POSITIONS = st.one_of(st.integers(0, 310), st.integers(0, 10**40))
OUTSIDE = "outside"


def outcome(header: str, size: int) -> range | str | None:
    try:
        return parse_range(header, size)
    except RangeNotSatisfiable:
        return OUTSIDE


@given(SIZES, POSITIONS, st.none() | POSITIONS)
def test_first_and_last_position_give_the_bytes_that_counting_one_by_one_gives(
    size: int, first: int, last: int | None
) -> None:
    # The reference counts every byte of the object, and knows nothing of clamping.
    counted = [at for at in range(size) if at >= first and (last is None or at <= last)]
    found = outcome(f"bytes={first}-{'' if last is None else last}", size)
    if last is not None and last < first:
        assert found is None
    elif not counted:
        assert found == OUTSIDE
    else:
        assert isinstance(found, range)
        assert list(found) == counted


@given(st.integers(1, 300), POSITIONS)
def test_a_suffix_gives_the_bytes_that_counting_from_the_end_gives(size: int, length: int) -> None:
    content = bytes(at % 256 for at in range(size))
    counted = [at for at in range(size) if size - at <= length]
    found = outcome(f"bytes=-{length}", size)
    if not counted:
        assert found == OUTSIDE
    else:
        assert isinstance(found, range)
        assert content[found.start : found.stop] == bytes(content[at] for at in counted)


@given(st.text(), SIZES)
def test_any_text_at_all_is_ignored_or_lies_inside_or_is_refused(header: str, size: int) -> None:
    found = outcome(header, size)
    assert found is None or found == OUTSIDE or (isinstance(found, range) and 0 <= found.start < found.stop <= size)


@given(st.text(alphabet="0123456789-,= \t;bytes"), SIZES)
def test_a_range_is_found_only_where_there_is_exactly_one(rest: str, size: int) -> None:
    specs = [spec.strip(" \t") for spec in rest.split(",")]
    if len([spec for spec in specs if spec]) != 1:
        assert outcome(f"bytes={rest}", size) is None


@pytest.mark.parametrize("text", ["9" * 500_000, " " * 500_000, "," * 500_000, "0" * 500_000 + "x", "1-" * 250_000])
@pytest.mark.parametrize("form", ["bytes={}-", "bytes=0-{}", "bytes=-{}", "bytes={}", "{}"])
def test_half_a_million_characters_take_no_time(form: str, text: str) -> None:
    header = form.format(text)
    started = time.process_time()
    outcome(header, 5_000)
    assert time.process_time() - started < 1.0


def test_the_refusal_names_the_size() -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        parse_range("bytes=5000-", 5_000)
    assert refused.value.headers == {"Content-Range": "bytes */5000"}


def test_absent_is_none() -> None:
    assert parse_range(None, 5_000) is None
