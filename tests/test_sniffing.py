from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sniffing import SNIFFED_BYTES, media_type_of

ZEROS = bytes(64)


def ftyp(*brands: bytes) -> bytes:
    """The first box of the ISO base media format: the major brand, a version, the compatible brands."""
    return (16 + 4 * len(brands[1:])).to_bytes(4) + b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:]) + ZEROS


def gif(flags: int, block: bytes, version: bytes = b"GIF89a") -> bytes:
    table = bytes(3 * 2 ** ((flags & 7) + 1)) if flags & 0x80 else b""
    return version + b"\x40\0\x30\0" + bytes([flags]) + b"\0\0" + table + block


def packets(start: bytes, length: int) -> bytes:
    return (start + bytes(length - len(start))) * 4


TYPES: list[tuple[str, bytes, str]] = [
    ("PNG", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + ZEROS, "image/png"),
    ("JPEG", b"\xff\xd8\xff\xe0\0\x10JFIF\0" + ZEROS, "image/jpeg"),
    ("GIF with a colour table", gif(0xF7, b"!\xff\x0b"), "image/gif"),
    ("GIF without one", gif(0x00, b",\0\0"), "image/gif"),
    ("the older GIF", gif(0x80, b",\0\0", b"GIF87a"), "image/gif"),
    ("WebP", b"RIFF\xb0\2\0\0WEBPVP8 " + ZEROS, "image/webp"),
    ("BMP", b"BM6$\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0" + ZEROS, "image/bmp"),
    ("TIFF", b"II*\0\x75\x1d\0\0" + ZEROS, "image/tiff"),
    ("JPEG XL", b"\xff\x0a\xcb\x06" + ZEROS, "image/jxl"),
    ("JPEG XL in a container", b"\0\0\0\x0cJXL \r\n\x87\n" + ZEROS, "image/jxl"),
    ("AVIF", ftyp(b"avif", b"mif1", b"miaf"), "image/avif"),
    ("AVIF that moves", ftyp(b"avis", b"avif", b"msf1"), "image/avif"),
    ("AVIF by its compatible brand", ftyp(b"mif1", b"avif"), "image/avif"),
    ("HEIC", ftyp(b"heic", b"mif1"), "image/heic"),
    ("HEIC of ten bits", ftyp(b"heix", b"mif1", b"heix"), "image/heic"),
    ("HEIC that moves", ftyp(b"hevc", b"msf1"), "image/heic"),
    ("icon", b"\0\0\1\0\1\0\x40\x30" + ZEROS, "image/vnd.microsoft.icon"),
    ("MP4", ftyp(b"isom", b"isom", b"iso2", b"avc1", b"mp41"), "video/mp4"),
    ("fragmented MP4", ftyp(b"iso5", b"iso5", b"iso6", b"mp41"), "video/mp4"),
    ("MP4 of a phone", ftyp(b"mp42", b"mp42", b"isom"), "video/mp4"),
    ("QuickTime", ftyp(b"qt  ", b"qt  "), "video/quicktime"),
    ("QuickTime of a phone that says mp42 as well", ftyp(b"qt  ", b"mp42"), "video/quicktime"),
    ("M4A", ftyp(b"M4A ", b"M4A ", b"mp42", b"isom"), "audio/mp4"),
    ("WebM", bytes.fromhex("1a45dfa3 9f 42868101 42f78101 42f28104 42f38108 428284 7765626d") + ZEROS, "video/webm"),
    (
        "Matroska",
        bytes.fromhex("1a45dfa3 a3 42868101 42f78101 42f28104 42f38108 428288 6d6174726f736b61") + ZEROS,
        "video/x-matroska",
    ),
    ("AVI", b"RIFF8X\0\0AVI LIST" + ZEROS, "video/x-msvideo"),
    ("MPEG transport stream", packets(b"G@\x11\x10", 188), "video/mp2t"),
    ("the same of a camera", packets(b"\x0e\xbf\x46\x22G@\x11\x10", 192), "video/mp2t"),
    ("Ogg film", b"OggS\0\2" + bytes(22) + b"\x80theora" + ZEROS, "video/ogg"),
    ("Ogg sound", b"OggS\0\2" + bytes(22) + b"\1vorbis" + ZEROS, "audio/ogg"),
    ("MP3 with a tag", b"ID3\4\0\0\0\0\0\x23TSSE" + ZEROS, "audio/mpeg"),
    ("MP3 without", b"\xff\xfb\x50\xc4" + ZEROS, "audio/mpeg"),
    ("AAC", b"\xff\xf1\x50\x40" + ZEROS, "audio/aac"),
    ("FLAC", b"fLaC\0\0\0\x22" + ZEROS, "audio/flac"),
    ("WAV", b"RIFF\xc6\x3e\0\0WAVEfmt " + ZEROS, "audio/wav"),
    ("WAV of many gigabytes", b"RF64\xff\xff\xff\xffWAVEds64" + ZEROS, "audio/wav"),
    ("AIFF", b"FORM\0\0\x3e\xaeAIFFCOMM" + ZEROS, "audio/aiff"),
    ("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
    ("SVG behind a prolog", b'<?xml version="1.0"?>\n<!-- hello -->\n<svg/>', "image/svg+xml"),
    ("HTML", b"\n\n<!doctype HTML><title>x</title>", "text/html"),
    ("HTML of a script alone", b"<script>alert(1)</script>", "text/html"),
    ("XML", b'<?xml version="1.0"?><a/>', "application/xml"),
    ("text", "Hello, Gr\u00fc\u00dfe".encode(), "text/plain"),
    ("text that is cut off within a character", b"x" * 20 + "\u00fc".encode()[:1], "text/plain"),
    ("text that begins like a bitmap", b"BMW is a car, and this is a text", "text/plain"),
    ("text that begins like a drawing", b"AC1032 is a room number", "text/plain"),
    ("text that begins like a tag", b"ID3v2 is a format of tags", "text/plain"),
    ("text that begins like a sound", b"M4A is a format of sounds", "text/plain"),
    ("a script that begins like a picture", b"GIF89a/*<script>*/=1;alert(1)//" + b" " * 800, "text/html"),
    ("nothing known", b"\0\1\2\3" * 9, "application/octet-stream"),
    ("nothing", b"", "text/plain"),
]


@pytest.mark.parametrize(("head", "media_type"), [case[1:] for case in TYPES], ids=[case[0] for case in TYPES])
def test_the_type_is_told_from_the_first_bytes(head: bytes, media_type: str) -> None:
    assert media_type_of(head) == media_type


@given(st.binary(max_size=SNIFFED_BYTES))
def test_every_head_has_one_type_in_lower_case(head: bytes) -> None:
    family, slash, name = media_type_of(head).partition("/")
    assert slash
    assert (family + name).islower()


@given(st.sampled_from([case[1] for case in TYPES]), st.integers(0, 80))
def test_a_head_cut_off_anywhere_has_a_type(head: bytes, length: int) -> None:
    assert "/" in media_type_of(head[:length])


@given(st.sampled_from([b"<svg", b"<html", b"<script", b"<!DOCTYPE html"]), st.text(" \t\r\n", max_size=40))
def test_markup_is_never_a_picture_that_is_shown(mark: bytes, space: str) -> None:
    assert media_type_of(space.encode() + mark + b">x") in {"image/svg+xml", "text/html"}
