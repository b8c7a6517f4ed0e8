"""Shown in the page or only ever saved, and under which name."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.disposition import INLINE, content_disposition

HEADER = re.compile(
    r"(?P<kind>inline|attachment)"
    r"(?:; filename=\"(?P<plain>[ !#-\[\]-~]*)\"(?:; filename\*=UTF-8''(?P<coded>[A-Za-z0-9!#$&+.^_`|~%-]+))?)?"
)


@pytest.mark.parametrize(
    "media_type",
    [
        *("image/jpeg", "image/png", "image/gif", "image/webp", "image/avif", "image/heic", "IMAGE/PNG"),
        *("video/mp4", "video/webm", "video/quicktime", "video/mp4; codecs=avc1"),
        *("audio/mpeg", "audio/wav", "audio/ogg", "audio/flac"),
    ],
)
def test_media_that_cannot_run_script_is_shown(media_type: str) -> None:
    assert content_disposition(media_type, None) == "inline"


@pytest.mark.parametrize(
    "media_type",
    [
        *("image/svg+xml", "image/svg", "text/html", "application/xhtml+xml", "text/xml", "application/xml"),
        *("application/pdf", "text/plain", "application/javascript", "application/octet-stream", "multipart/mixed"),
        *("image/unheard-of", "video/x-html", "image", "", "image/png/../svg+xml", "text/html; image/png"),
    ],
)
def test_everything_else_is_saved(media_type: str) -> None:
    assert content_disposition(media_type, None) == "attachment"


def test_only_media_types_stand_on_the_list_and_none_of_them_is_xml() -> None:
    assert {media_type.partition("/")[0] for media_type in INLINE} == {"image", "video", "audio"}
    assert not [media_type for media_type in INLINE if "xml" in media_type or "svg" in media_type]


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        (None, "inline"),
        ("", "inline"),
        ("..", "inline"),
        ("///", "inline"),
        ("cat.png", 'inline; filename="cat.png"'),
        ("my cat; really.png", 'inline; filename="my cat; really.png"'),
        ("../../etc/passwd", 'inline; filename=".._.._etc_passwd"'),
        ("C:\\Users\\me\\cat.png", 'inline; filename="C:_Users_me_cat.png"'),
        ("a\r\nSet-Cookie: b=c.png", 'inline; filename="a__Set-Cookie: b=c.png"'),
        ("a\x00\x1f\x7f\x85.png", 'inline; filename="a____.png"'),
        ('say "hi".png', "inline; filename=\"say _hi_.png\"; filename*=UTF-8''say%20%22hi%22.png"),
        ("50%25.png", "inline; filename=\"50_25.png\"; filename*=UTF-8''50%2525.png"),
        ("na\u00efve.png", "inline; filename=\"na_ve.png\"; filename*=UTF-8''na%C3%AFve.png"),
        ("\u732b\U0001f431.png", "inline; filename=\"__.png\"; filename*=UTF-8''%E7%8C%AB%F0%9F%90%B1.png"),
        ("it's.png", 'inline; filename="it\'s.png"'),
        ("it's \u00e9.png", "inline; filename=\"it's _.png\"; filename*=UTF-8''it%27s%20%C3%A9.png"),
        ("half \ud83d.png", 'inline; filename="half _.png"'),
        ("invoice\u202egpj.exe", 'inline; filename="invoice_gpj.exe"'),
        ("a" * 300 + ".png", f'inline; filename="{"a" * 251}.png"'),
    ],
)
def test_the_name_is_made_safe_and_given_in_both_forms_where_needed(filename: str | None, expected: str) -> None:
    assert content_disposition("image/png", filename) == expected


@pytest.mark.parametrize(
    ("filename", "dl", "expected"),
    [
        (None, 1, "attachment"),
        ("cat.png", 1, 'attachment; filename="cat.png"'),
        ("cat.png", "dog.png", 'attachment; filename="dog.png"'),
        (None, "dog.png", 'attachment; filename="dog.png"'),
        ("cat.png", "../", 'attachment; filename="cat.png"'),
        ("cat.png", "", 'attachment; filename="cat.png"'),
    ],
)
def test_a_download_has_the_name_of_the_token_or_else_of_the_asset(
    filename: str | None, dl: str | int, expected: str
) -> None:
    assert content_disposition("image/png", filename, dl) == expected


ANY_CHARACTER = st.characters(exclude_categories=())


@given(st.text(ANY_CHARACTER), st.none() | st.just(1) | st.text(ANY_CHARACTER))
def test_any_name_at_all_gives_a_header_that_cannot_be_broken_out_of(filename: str, dl: str | int | None) -> None:
    found = HEADER.fullmatch(content_disposition("image/png", filename, dl))
    assert found is not None
    assert not re.search(r"[/\\\x00-\x1f\x7f]", unquote(found["coded"] or "", errors="strict"))
    if dl is not None:
        assert found["kind"] == "attachment"
