"""The delivery table: requests for one asset and the answers they must get, from the pure plan or over HTTP alike."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate

SMALLEST = 2_000  # bytes that the asset of the table must have at least, for its literal positions to lie inside

# No answer but a 206 or 416 has a Content-Range.
WHOLE: Mapping[str, str | None] = {"Content-Length": "{size}", "Content-Range": None, "ETag": "{etag}"}
UNCHANGED: Mapping[str, str | None] = {"ETag": "{etag}", "Content-Range": None, "Content-Type": None}
OUTSIDE: Mapping[str, str | None] = {"Content-Range": "bytes */{size}"}
FAILED: Mapping[str, str | None] = {"Content-Range": None}

CHECKED = {
    "ETag": "{etag}",
    "Last-Modified": "{modified}",
    "Accept-Ranges": "bytes",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


@dataclass(frozen=True)
class Known:
    """The asset as its first answer showed it: what the placeholders of the table stand for."""

    size: int
    etag: str
    modified: int  # seconds since 1970

    def fill(self, text: str) -> str:
        return text.format_map(self._words())

    def _words(self) -> dict[str, object]:
        then = datetime.fromtimestamp(self.modified, UTC)
        return {
            "size": self.size,
            "last": self.size - 1,
            "tail": self.size - 500,
            "etag": self.etag,
            "hash": self.etag.strip('"'),
            "modified": formatdate(self.modified, usegmt=True),
            "earlier": formatdate(self.modified - 1, usegmt=True),
            "later": formatdate(self.modified + 1, usegmt=True),
            "rfc850": then.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
            "asctime": time.asctime(then.timetuple()),
        }


@dataclass(frozen=True)
class Case:
    """A request and its answer. A header expected to be None must be absent."""

    name: str
    sent: tuple[tuple[str, str], ...]
    status: int
    expected: Mapping[str, str | None] = field(default_factory=dict)
    method: str = "GET"

    def headers(self, known: Known) -> list[tuple[str, str]]:
        """The header lines to send, in order; a name can stand there twice."""
        return [(name, known.fill(value)) for name, value in self.sent]

    def body(self, known: Known, content: bytes) -> bytes:
        """The bytes of `content` that the answer must have; those of an error's own body are not looked at."""
        if self.method == "HEAD" or self.status not in {200, 206}:
            return b""
        if self.status == 200:
            return content
        first, _, last = known.fill(self.expected["Content-Range"] or "")[6:].partition("/")[0].partition("-")
        return content[int(first) : int(last) + 1]

    def faults(self, known: Known, status: int, headers: Mapping[str, str], length: int | None = None) -> list[str]:
        """What is wrong with an answer; `headers` is looked up by the names as the table writes them."""
        found = [] if status == self.status else [f"status {status}, not {self.status}"]
        expected = dict(self.expected) | (CHECKED if self.status in {200, 206} else {})
        for name, value in expected.items():
            wanted, got = None if value is None else known.fill(value), headers.get(name)
            if wanted != got:
                found.append(f"{name}: {got!r}, not {wanted!r}")
        if length is not None and self.status == 206 and headers.get("Content-Length") != str(length):
            found.append(f"Content-Length: {headers.get('Content-Length')!r}, not {length}")
        return found


def whole(name: str, *sent: tuple[str, str]) -> Case:
    return Case(name, sent, 200, WHOLE)


def part(name: str, span: str, *sent: tuple[str, str]) -> Case:
    return Case(name, sent, 206, {"Content-Range": f"bytes {span}/{{size}}"})


def outside(name: str, *sent: tuple[str, str]) -> Case:
    return Case(name, sent, 416, OUTSIDE)


def unchanged(name: str, *sent: tuple[str, str]) -> Case:
    return Case(name, sent, 304, UNCHANGED)


def failed(name: str, *sent: tuple[str, str]) -> Case:
    return Case(name, sent, 412, FAILED)


def head(name: str, status: int, *sent: tuple[str, str]) -> Case:
    expected = {200: WHOLE, 304: UNCHANGED, 412: FAILED}[status]
    return Case(name, sent, status, expected, "HEAD")


def _range(value: str) -> tuple[str, str]:
    return "Range", value


RANGES = (
    whole("no Range at all"),
    part("the first byte", "0-0", _range("bytes=0-0")),
    part("the first five bytes", "0-4", _range("bytes=0-4")),
    part("bytes in the middle", "1000-1499", _range("bytes=1000-1499")),
    part("from a position to the end", "1000-{last}", _range("bytes=1000-")),
    part("the last byte by its position", "{last}-{last}", _range("bytes={last}-")),
    part("the last five hundred bytes", "{tail}-{last}", _range("bytes=-500")),
    part("a full cover with open end stays 206", "0-{last}", _range("bytes=0-")),
    part("a full cover to the last byte stays 206", "0-{last}", _range("bytes=0-{last}")),
    part("a full cover by suffix stays 206", "0-{last}", _range("bytes=-{size}")),
    part("a last position past the end is shortened", "0-{last}", _range("bytes=0-99999999999")),
    part("a suffix longer than the object is all of it", "0-{last}", _range("bytes=-99999999999")),
    part("a last position of hundreds of digits is shortened", "5-{last}", _range("bytes=5-" + "9" * 600)),
    part("a last position of thousands of digits is shortened", "5-{last}", _range("bytes=5-" + "9" * 5000)),
    part("a suffix of thousands of digits is all of it", "0-{last}", _range("bytes=-" + "9" * 5000)),
    part("leading zeros do not count", "7-9", _range("bytes=" + "0" * 100 + "7-" + "0" * 5000 + "9")),
    part("the unit in capitals is the same unit", "0-1", _range("BYTES=0-1")),
    part("the unit in mixed case is the same unit", "0-1", _range("Bytes=0-1")),
    part("white space around the value", "0-1", _range(" bytes=0-1\t ")),
    part("white space around the one range", "0-1", _range("bytes= 0-1 ")),
    part("empty members of the list do not count", "0-1", _range("bytes=, ,0-1,")),
    outside("a first position at the size", _range("bytes={size}-")),
    outside("a first position past the end", _range("bytes=99999999999-")),
    outside("both positions past the end", _range("bytes=99999999998-99999999999")),
    outside("a first position of hundreds of digits", _range("bytes=" + "9" * 600 + "-")),
    outside("both positions of thousands of digits", _range("bytes=" + "8" * 5000 + "-" + "9" * 5000)),
    outside("no bytes by suffix", _range("bytes=-0")),
    outside("no bytes by a suffix of many zeros", _range("bytes=-" + "0" * 5000)),
    whole("two ranges", _range("bytes=0-1,5-6")),
    whole("two overlapping ranges", _range("bytes=0-100,50-150")),
    whole("a list of hundreds of ranges", _range("bytes=" + ",".join(f"{at}-{at}" for at in range(0, 1000, 2)))),
    whole("a list with a range that is outside", _range("bytes=0-1,{size}-")),
    whole("two Range lines are a list", _range("bytes=0-1"), _range("bytes=5-6")),
    whole("an unknown unit", _range("items=0-1")),
    whole("a unit that only begins as ours", _range("bytesx=0-1")),
    whole("the last position before the first", _range("bytes=5-2")),
    whole("the last before the first with thousands of digits", _range("bytes=" + "9" * 5000 + "-" + "8" * 5000)),
    whole("no number", _range("bytes=abc")),
    whole("no range", _range("bytes=")),
    whole("only commas", _range("bytes=,,,")),
    whole("only a dash", _range("bytes=-")),
    whole("no unit", _range("0-1")),
    whole("an empty value", _range("")),
    whole("a negative first position", _range("bytes=-1-5")),
    whole("a sign before the number", _range("bytes=+0-1")),
    whole("an underscore in the number", _range("bytes=1_0-20")),
    whole("hexadecimal", _range("bytes=0x0-0x5")),
    whole("a fraction", _range("bytes=0.0-1.0")),
    whole("white space inside the range", _range("bytes=0 - 1")),
    whole("white space before the equals sign", _range("bytes =0-1")),
    whole("digits of another script", _range("bytes=\u0660-\u0661")),
    whole("full-width digits", _range("bytes=\uff10-\uff11")),
    whole("a unit with a long s, which lower-cases to an s", _range("byte\u017f=0-1")),
)

TAG_A_B = '"a", "b"'

CONDITIONS = (
    # If-None-Match (RFC 9110, section 13.1.2): weak comparison
    unchanged("If-None-Match with the tag", ("If-None-Match", "{etag}")),
    unchanged("If-None-Match with the weak tag", ("If-None-Match", "W/{etag}")),
    unchanged("If-None-Match with a star", ("If-None-Match", "*")),
    unchanged("If-None-Match with the tag last in a list", ("If-None-Match", TAG_A_B + ", {etag}")),
    unchanged("If-None-Match with odd commas", ("If-None-Match", ' ,, "a",\t,W/{etag} , ')),
    unchanged("If-None-Match with commas inside another tag", ("If-None-Match", '"a,b", {etag}')),
    unchanged("If-None-Match on two lines", ("If-None-Match", '"a"'), ("If-None-Match", "{etag}")),
    unchanged("If-None-Match outweighs a Range", ("If-None-Match", "{etag}"), _range("bytes=0-1")),
    unchanged("If-None-Match outweighs a Range outside", ("If-None-Match", "{etag}"), _range("bytes={size}-")),
    whole("If-None-Match with other tags", ("If-None-Match", TAG_A_B)),
    whole("If-None-Match with the tag inside another tag", ("If-None-Match", '"a,{hash},b"')),
    whole("If-None-Match with an empty tag", ("If-None-Match", '""')),
    whole("If-None-Match without quotes", ("If-None-Match", "{hash}")),
    whole("If-None-Match with an open quote", ("If-None-Match", '"')),
    whole("If-None-Match with a weak mark in lower case", ("If-None-Match", "w/{etag}")),
    whole("If-None-Match with the tag behind what is no list", ("If-None-Match", '"a" {etag}')),
    whole("If-None-Match with a star in a list", ("If-None-Match", '"a", *')),
    whole("If-None-Match with nothing", ("If-None-Match", "")),
    part("a Range when If-None-Match does not match", "0-1", ("If-None-Match", '"a"'), _range("bytes=0-1")),
    whole(
        "If-None-Match that does not match makes If-Modified-Since count no more",
        ("If-None-Match", '"a"'),
        ("If-Modified-Since", "{modified}"),
    ),
    # If-Modified-Since (section 13.1.3)
    unchanged("If-Modified-Since at the date", ("If-Modified-Since", "{modified}")),
    unchanged("If-Modified-Since in the RFC 850 form", ("If-Modified-Since", "{rfc850}")),
    unchanged("If-Modified-Since in the asctime form", ("If-Modified-Since", "{asctime}")),
    unchanged("If-Modified-Since after the date", ("If-Modified-Since", "{later}")),
    unchanged("If-Modified-Since in the year 9999", ("If-Modified-Since", "Fri, 31 Dec 9999 23:59:59 GMT")),
    whole("If-Modified-Since a second before", ("If-Modified-Since", "{earlier}")),
    whole("If-Modified-Since in the year 99999999999", ("If-Modified-Since", "Fri, 31 Dec 99999999999 23:59:59 GMT")),
    whole("If-Modified-Since on 30 February", ("If-Modified-Since", "Tue, 30 Feb 2100 00:00:00 GMT")),
    whole("If-Modified-Since at 25 o'clock", ("If-Modified-Since", "Fri, 31 Dec 9999 25:00:00 GMT")),
    whole("If-Modified-Since in another time zone", ("If-Modified-Since", "Fri, 31 Dec 9999 23:59:59 CET")),
    whole("If-Modified-Since with an offset", ("If-Modified-Since", "Fri, 31 Dec 9999 23:59:59 +0000")),
    whole("If-Modified-Since as a number", ("If-Modified-Since", "99999999999")),
    whole("If-Modified-Since with nothing", ("If-Modified-Since", "")),
    whole("If-Modified-Since twice", ("If-Modified-Since", "{modified}"), ("If-Modified-Since", "{modified}")),
    # If-Match (section 13.1.1): strong comparison
    whole("If-Match with the tag", ("If-Match", "{etag}")),
    whole("If-Match with a star", ("If-Match", " * ")),
    whole("If-Match with the tag in a list", ("If-Match", TAG_A_B + ",{etag}")),
    part("a Range when If-Match matches", "5-9", ("If-Match", "{etag}"), _range("bytes=5-9")),
    failed("If-Match with the weak tag", ("If-Match", "W/{etag}")),
    failed("If-Match with other tags", ("If-Match", TAG_A_B)),
    failed("If-Match without quotes", ("If-Match", "{hash}")),
    failed("If-Match with nothing", ("If-Match", "")),
    failed("If-Match outweighs a Range outside", ("If-Match", '"a"'), _range("bytes={size}-")),
    failed("If-Match outweighs If-None-Match", ("If-Match", '"a"'), ("If-None-Match", "{etag}")),
    unchanged("If-Match and If-None-Match that both match", ("If-Match", "{etag}"), ("If-None-Match", "{etag}")),
    # If-Unmodified-Since (section 13.1.4)
    whole("If-Unmodified-Since at the date", ("If-Unmodified-Since", "{modified}")),
    whole("If-Unmodified-Since after the date", ("If-Unmodified-Since", "{later}")),
    whole("If-Unmodified-Since that is no date", ("If-Unmodified-Since", "yesterday")),
    whole("If-Unmodified-Since in the year 99999999999", ("If-Unmodified-Since", "Fri, 31 Dec 99999999999 0:0:0 GMT")),
    failed("If-Unmodified-Since a second before", ("If-Unmodified-Since", "{earlier}")),
    failed("If-Unmodified-Since in the asctime form, long before", ("If-Unmodified-Since", "Sun Nov  6 08:49:37 1994")),
    failed("If-Unmodified-Since with a leap second", ("If-Unmodified-Since", "Sat, 31 Dec 2016 23:59:60 GMT")),
    whole(
        "If-Match that matches makes If-Unmodified-Since count no more",
        ("If-Match", "{etag}"),
        ("If-Unmodified-Since", "{earlier}"),
    ),
    unchanged(
        "If-Unmodified-Since that holds leaves If-None-Match to decide",
        ("If-Unmodified-Since", "{modified}"),
        ("If-None-Match", "{etag}"),
    ),
)

IF_RANGE = (
    part("If-Range with the tag", "0-1", _range("bytes=0-1"), ("If-Range", "{etag}")),
    part("If-Range with the date", "0-1", _range("bytes=0-1"), ("If-Range", "{modified}")),
    part("If-Range with the date in the RFC 850 form", "0-1", _range("bytes=0-1"), ("If-Range", "{rfc850}")),
    outside("If-Range with the tag and a Range outside", _range("bytes={size}-"), ("If-Range", "{etag}")),
    whole("If-Range with a stale tag", _range("bytes=0-1"), ("If-Range", '"x"')),
    whole("If-Range with the weak tag", _range("bytes=0-1"), ("If-Range", "W/{etag}")),
    whole("If-Range with a date before", _range("bytes=0-1"), ("If-Range", "{earlier}")),
    whole("If-Range with an old date", _range("bytes=0-1"), ("If-Range", "Sun, 06 Nov 1994 08:49:37 GMT")),
    whole("If-Range with a date after", _range("bytes=0-1"), ("If-Range", "{later}")),
    whole("If-Range in the year 99999999999", _range("bytes=0-1"), ("If-Range", "Fri, 31 Dec 99999999999 0:0:0 GMT")),
    whole("If-Range with a list", _range("bytes=0-1"), ("If-Range", '{etag}, "a"')),
    whole("If-Range with a star", _range("bytes=0-1"), ("If-Range", "*")),
    whole("If-Range with nothing", _range("bytes=0-1"), ("If-Range", "")),
    whole("If-Range with a stale tag and a Range outside", _range("bytes={size}-"), ("If-Range", '"x"')),
    whole("If-Range without Range", ("If-Range", "{etag}")),
    whole("If-Range with the tag and two ranges", _range("bytes=0-1,5-6"), ("If-Range", "{etag}")),
)

HEADS = (
    head("HEAD", 200),
    head("HEAD knows no Range", 200, _range("bytes=0-1")),
    head("HEAD knows no Range outside", 200, _range("bytes={size}-")),
    head("HEAD with If-Range", 200, _range("bytes=0-1"), ("If-Range", "{etag}")),
    head("HEAD with If-None-Match", 304, ("If-None-Match", "{etag}")),
    head("HEAD with If-Modified-Since", 304, ("If-Modified-Since", "{modified}")),
    head("HEAD with If-Match that does not match", 412, ("If-Match", '"a"')),
    head("HEAD with If-Unmodified-Since before", 412, ("If-Unmodified-Since", "{earlier}")),
)

_CHROMIUM = (("Accept-Encoding", "identity;q=1, *;q=0"), ("Sec-Fetch-Dest", "video"), ("Sec-Fetch-Mode", "no-cors"))
_FFMPEG = (("User-Agent", "Lavf/61.7.100"), ("Accept", "*/*"), ("Icy-MetaData", "1"))
_APPLE = (("Accept-Encoding", "identity"), ("X-Playback-Session-Id", "5C5C7D1E-6C6F-4E2B-8E4D-6A4F3F0C9A11"))

PLAYERS = (
    part("Safari looks at the first two bytes", "0-1", _range("bytes=0-1"), *_APPLE),
    part("Safari then asks for everything as a range", "0-{last}", _range("bytes=0-"), *_APPLE),
    part("AVPlayer asks for everything by its last byte", "0-{last}", _range("bytes=0-{last}"), *_APPLE),
    part("AVPlayer reads on in the middle", "1024-1535", _range("bytes=1024-1535"), *_APPLE),
    part("AVPlayer looks at the tail", "{tail}-{last}", _range("bytes={tail}-{last}"), *_APPLE),
    part("Chromium opens a video", "0-{last}", _range("bytes=0-"), *_CHROMIUM),
    part(
        "Chromium comes back after an abort with If-Range",
        "1500-{last}",
        _range("bytes=1500-"),
        ("If-Range", "{etag}"),
        *_CHROMIUM,
    ),
    whole("Chromium comes back to another version", _range("bytes=1500-"), ("If-Range", '"other"'), *_CHROMIUM),
    part("Chromium resumes by date", "1500-{last}", _range("bytes=1500-"), ("If-Range", "{modified}"), *_CHROMIUM),
    part("ffmpeg opens a file", "0-{last}", _range("bytes=0-"), *_FFMPEG),
    part("ffmpeg jumps to the index at the tail", "{tail}-{last}", _range("bytes={tail}-"), *_FFMPEG),
    part("ffmpeg jumps back to the media", "48-{last}", _range("bytes=48-"), *_FFMPEG),
    part("curl -C - goes on where it stopped", "1234-{last}", _range("bytes=1234-"), ("User-Agent", "curl/8.14.1")),
    outside("curl -C - of a file that is complete", _range("bytes={size}-"), ("User-Agent", "curl/8.14.1")),
    part("wget -c goes on where it stopped", "999-{last}", _range("bytes=999-"), ("User-Agent", "Wget/1.25.0")),
    unchanged(
        "a browser revalidates with both validators",
        ("If-None-Match", "{etag}"),
        ("If-Modified-Since", "{modified}"),
    ),
)

CASES = RANGES + CONDITIONS + IF_RANGE + HEADS + PLAYERS


def name_of(case: Case) -> str:
    return case.name
