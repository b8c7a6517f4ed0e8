"""What the lane takes for a plain request, and how much of a body it sees coming."""

from __future__ import annotations

import pytest

from gateway.web.express.requests import LONGEST, MOST_LINES, body_owed, is_read, plain

PATH = b"/api/storage/assets/abcdefgh"
HEAD = b"GET " + PATH + b" HTTP/1.1\r\nHost: gateway.test\r\n"


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (HEAD + b"\r\n", {}),
        (HEAD + b"Range: \t bytes=0-1 \t\r\n\r\n", {"range": "bytes=0-1"}),
        (HEAD + b"RANGE:bytes=0-1\r\n\r\n", {"range": "bytes=0-1"}),
        (HEAD + b"Accept: a\r\nAccept: b\r\nX:\r\n\r\n", {}),
        (HEAD + b"Connection: Keep-Alive\r\n\r\n", {}),
        (HEAD + b'Cookie: a=b: c\r\nIf-None-Match: "x"\r\n\r\n', {"cookie": "a=b: c", "if_none_match": '"x"'}),
        (
            HEAD + b"User-Agent: x\r\nOrigin: y\r\nAuthorization: z\r\n\r\n",
            {"agent": "x", "origin": "y", "authorization": "z"},
        ),
        (HEAD + b"X-Request-Id: a\r\nX-Forwarded-For: b\r\n\r\n", {"request_id": "a", "forwarded": "b"}),
    ],
)
def test_a_plain_request_is_read(data: bytes, fields: dict[str, str]) -> None:
    for _ in range(2):  # read, and recalled
        found = plain(data)
        assert found is not None
        line, head = found
        assert line == b"GET " + PATH + b" HTTP/1.1"
        assert is_read(line)
        told = {name: getattr(head, name) for name in head.__slots__ if name != "asked"} | head.asked._asdict()
        assert {name: value for name, value in told.items() if value is not None} == fields


def test_the_token_is_part_of_the_line_as_it_was_sent() -> None:
    line = b"HEAD " + PATH + b"?token=v1.k1.a-b_c.d HTTP/1.1"
    found = plain(line + b"\r\nHost: a\r\n\r\n")
    assert found is not None
    assert found[0] == line
    assert is_read(line)


LEFT = {
    "no end": HEAD,
    "two requests": (HEAD + b"\r\n") * 2,
    "something behind": HEAD + b"\r\nx",
    "an empty line before": b"\r\n" + HEAD + b"\r\n",
    "an empty line behind": HEAD + b"\r\n\r\n",
    "another method": b"DELETE " + PATH + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "another route": b"GET " + PATH + b"/info HTTP/1.1\r\nHost: a\r\n\r\n",
    "a short id": b"GET " + PATH[:-1] + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "an id that begins with a dash": b"GET " + PATH[:-8] + b"-abcdefgh HTTP/1.1\r\nHost: a\r\n\r\n",
    "two tokens": b"GET " + PATH + b"?token=a&token=b HTTP/1.1\r\nHost: a\r\n\r\n",
    "an empty token": b"GET " + PATH + b"?token= HTTP/1.1\r\nHost: a\r\n\r\n",
    "a whole URL": b"GET http://a" + PATH + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0": b"GET " + PATH + b" HTTP/1.0\r\nHost: a\r\n\r\n",
    "no Host": b"GET " + PATH + b" HTTP/1.1\r\n\r\n",
    "an empty Host": b"GET " + PATH + b" HTTP/1.1\r\nHost:\r\n\r\n",
    "a Host that is none": b"GET " + PATH + b" HTTP/1.1\r\nHost: a b\r\n\r\n",
    "two Hosts": HEAD + b"Host: gateway.test\r\n\r\n",
    "two credentials": HEAD + b"Authorization: a\r\nauthorization: a\r\n\r\n",
    "two Ranges": HEAD + b"Range: bytes=0-1\r\nRange: bytes=2-3\r\n\r\n",
    "two types": HEAD + b"Content-Type: a/b\r\nContent-Type: a/b\r\n\r\n",
    "the end of the connection": HEAD + b"Connection: close\r\n\r\n",
    "the end for a proxy": HEAD + b"Proxy-Connection: close\r\n\r\n",
    "a body": HEAD + b"Content-Length: 1\r\n\r\n",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
    "an expectation": HEAD + b"Expect: 100-continue\r\n\r\n",
    "another protocol": HEAD + b"Upgrade: h2c\r\n\r\n",
    "a folded line": HEAD + b"X: a\r\n b\r\n\r\n",
    "a space before the colon": HEAD + b"X : a\r\n\r\n",
    "a line without colon": HEAD + b"X\r\n\r\n",
    "a line without name": HEAD + b": a\r\n\r\n",
    "a bare line feed": HEAD + b"X: a\nY: b\r\n\r\n",
    "a bare carriage return": HEAD + b"X: a\rb\r\n\r\n",
    "a NUL": HEAD + b"X: a\0\r\n\r\n",
    "no ASCII": HEAD + b"X: \xc3\x9f\r\n\r\n",
    "too long": HEAD + b"X: " + b"a" * LONGEST + b"\r\n\r\n",
    "too many lines": HEAD + b"X: a\r\n" * MOST_LINES + b"\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_plain_is_left_to_the_handlers(name: str) -> None:
    found = plain(LEFT[name])
    assert found is None or not is_read(found[0])


POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    ("data", "owed"),
    [
        (POST + b"\r\n", 0),
        (POST + b"Content-Length: 0\r\n\r\n", 0),
        (POST + b"Content-Length: 5\r\n\r\n", 5),
        (POST + b"content-length:\t5 \r\nX: y\r\n\r\nab", 3),
        (POST + b"Content-Length: 5\r\n\r\nabcde", 0),
        (POST + b"X-Content-Length: 5\r\n\r\n", 0),
        (POST + b"X: Content-Length: 5\r\n\r\n", 0),
        (POST + b"Content-Length: 5\r\n\r\nabcdef", None),  # a next request behind it
        (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", None),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
        (POST + b"Content-Length: 5\r\ntransfer-encoding: chunked\r\n\r\n", None),
        (POST + b"Upgrade: h2c\r\n\r\n", None),
        (POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", None),
        (POST + b"\r\nGET / HTTP/1.1\r\n", None),
        (POST, None),
        (b"\r\n", None),
        (b"", None),
    ],
)
def test_what_is_still_to_come_of_a_body_is_known_or_nobody_can_tell(data: bytes, owed: int | None) -> None:
    assert body_owed(data) == owed
