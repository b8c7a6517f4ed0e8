"""HTTP dates (RFC 9110, section 5.6.7), read and written alike under every locale."""

from __future__ import annotations

import re
import time
from datetime import date
from typing import Final

Rest = tuple[int, int, int, int, int]  # month, day, hour, minute, second: a moment of some year

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}
_MONTH_NAMES: Final = tuple(_MONTHS)
_DAY_NAMES: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_NAME = f"(?:{'|'.join(_DAY_NAMES)})"
_LONG_DAY_NAME = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"

# The names are case-sensitive, and a day of the week that is not the date's own is overlooked, as nginx does.
_FORMS: Final = (
    re.compile(f"{_DAY_NAME}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),  # IMF-fixdate
    re.compile(f"{_LONG_DAY_NAME}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),  # RFC 850
    re.compile(f"{_DAY_NAME} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"),  # asctime
)
_TWO_DIGITS = 2
_CENTURY = 100  # years
_HALF_CENTURY = 50  # years
_DAY = 86400  # seconds
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_LAST_HOUR, _LAST_MINUTE, _LEAP_SECOND = 23, 59, 60


def format_http_date(seconds: int) -> str:
    """Write whole seconds since 1970 as IMF-fixdate, the one form that is sent."""
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    return f"{_DAY_NAMES[weekday]}, {day:02} {_MONTH_NAMES[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


def parse_http_date(text: str, now: float) -> int | None:
    """Read any of the three forms as seconds since 1970. None: it is no HTTP date, or no day of the calendar.

    `now` decides the century of a year of two digits.
    """
    for form in _FORMS:
        if found := form.fullmatch(text):
            day, hour, minute, second = (int(found[part]) for part in ("day", "hour", "minute", "second"))
            rest = (_MONTHS[found["month"]], day, hour, minute, second)
            return _seconds(_full_year(found["year"], rest, now), rest)
    return None


def _full_year(digits: str, rest: Rest, now: float) -> int:
    """Complete a year of two digits: more than 50 years in the future means the last century's (section 5.6.7)."""
    year = int(digits)
    if len(digits) > _TWO_DIGITS:
        return year
    today = time.gmtime(now)
    year += today.tm_year - today.tm_year % _CENTURY
    return year - _CENTURY if (year - _HALF_CENTURY, *rest) > today[:6] else year


def _seconds(year: int, rest: Rest) -> int | None:
    month, day, hour, minute, second = rest
    if hour > _LAST_HOUR or minute > _LAST_MINUTE or second > _LEAP_SECOND:
        return None
    try:
        days = date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    return days * _DAY + hour * 3600 + minute * 60 + second
