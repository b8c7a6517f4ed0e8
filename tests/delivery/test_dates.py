"""HTTP dates in their three forms."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.dates import format_http_date, parse_http_date
from tests.support.grants import NOW

EXAMPLE = 784_111_777  # the moment of the examples in RFC 9110, section 5.6.7
LATEST = 253_402_300_799  # the last second of the year 9999


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE),
        ("Sunday, 06-Nov-94 08:49:37 GMT", EXAMPLE),
        ("Sun Nov  6 08:49:37 1994", EXAMPLE),
        ("Sun Nov 06 08:49:37 1994", EXAMPLE),
        ("Mon, 06 Nov 1994 08:49:37 GMT", EXAMPLE),  # that day was a Sunday
        ("Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LATEST),
        ("Mon, 01 Jan 0001 00:00:00 GMT", -62_135_596_800),
    ],
)
def test_the_three_forms_are_read(text: str, seconds: int) -> None:
    assert parse_http_date(text, NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "784111777",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "sun, 06 nov 1994 08:49:37 gmt",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Son, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Okt 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, 29 Feb 2023 00:00:00 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sat, 01 Jan 0000 00:00:00 GMT",
        "Fri, 31 Dec 99999999999 23:59:59 GMT",
        "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 99999999999",
    ],
)
def test_what_is_no_http_date_is_none(text: str) -> None:
    assert parse_http_date(text, NOW) is None


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("Friday, 15-Jan-77 07:59:59 GMT", 2077),
        ("Friday, 15-Jan-77 08:00:00 GMT", 2077),
        ("Friday, 15-Jan-77 08:00:01 GMT", 1977),
        ("Friday, 15-Jan-78 00:00:00 GMT", 1978),
        ("Friday, 15-Jan-99 00:00:00 GMT", 1999),
        ("Friday, 15-Jan-00 00:00:00 GMT", 2000),
    ],
)
def test_a_year_of_two_digits_lies_at_most_fifty_years_ahead(text: str, year: int) -> None:
    now = datetime(2027, 1, 15, 8, 0, 0, tzinfo=UTC).timestamp()
    assert datetime.fromtimestamp(parse_http_date(text, now) or 0, UTC).year == year


@given(st.integers(0, LATEST))
def test_a_date_that_was_written_is_read_as_the_same_second(seconds: int) -> None:
    assert parse_http_date(format_http_date(seconds), NOW) == seconds
    assert parsedate_to_datetime(format_http_date(seconds)).timestamp() == seconds


@given(st.text() | st.text(alphabet="SunNov, 0123456789:-GMT"))
def test_any_text_at_all_is_a_date_or_none(text: str) -> None:
    assert isinstance(parse_http_date(text, NOW), int | None)
