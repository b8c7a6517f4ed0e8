"""Random conversations: plain reads that are remembered, with everything between them that a client may send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hypothesis import strategies as st

from tests.support.delivery import CASES, Known
from tests.support.wire import chunked
from tests.web.express.twins import Chunk, request

Lines = tuple[tuple[str, str], ...]
SIGN = "/api/storage/assets/sign"
EXTRA: tuple[tuple[str, str], ...] = (
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
    ("Accept", "image/avif,image/webp,*/*;q=0.8"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Connection", "keep-alive"),
    ("connection", "Keep-Alive"),
    ("Origin", "https://app.example.com"),
    ("Origin", "https://other.example.com"),
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Request-Id", "of-the-client-1"),
    ("Referer", "https://app.example.com/a?b"),
    ("Sec-Fetch-Site", "same-origin"),
    ("X-Empty", ""),
    ("Cookie", "theme=dark"),
)
# Lines that make a request one for the handlers, or none at all.
ODD_LINES = (
    *(b"Connection: close", b"Connection: keep-alive, close", b"Connection: Upgrade", b"Proxy-Connection: close"),
    *(b"Host: another.test", b"Host:", b"User-Agent: a\r\nUser-Agent: b", b"Content-Type: a/b\r\nContent-Type: a/b"),
    *(
        b"Authorization: Bearer x.y.z",
        b"Authorization: Basic YTpi",
        b"Cookie: assetgate_guest=v1.x.y",
        b"Cookie: a=\xff",
    ),
    *(b"Range: bytes=0-1\r\nRange: bytes=2-3", b'If-None-Match: *\r\nIf-None-Match: "a"', b'If-Match: "\xff"'),
    *(b"Expect: 100-continue", b"Expect: nonsense", b"Upgrade: h2c", b"TE: trailers", b"Trailer: X"),
    *(b"Content-Length: 0", b"Content-Length: +0", b"Content-Length: 1, 1", b"Transfer-Encoding: identity"),
    *(
        b"Transfer-Encoding: chunked\r\n\r\n0",
        b"Sec-WebSocket-Key1: a",
        b"X: a\r\n folded",
        b"X : a",
        b": a",
        b"no colon",
    ),
    *(b"X: a\0b", b"X: \xf0\x9f\xa6\x9c", b"X: a\x7fb", b"X: a\nY: b", b"X: a\rb", b"X\xff: a", b"X: " + b"y" * 9000),
    *(
        b"Max-Forwards: 1\r\nMax-Forwards: 1",
        b"Etag: a\r\nETag: b",
        b"X: y\r\n" * 150 + b"Z: y",
        b"X:y\r\n" * 1999 + b"Z:y",
    ),
)
HOSTS = (
    b"",
    b"Host\r\n",
    b"Host: a b\r\n",
    b"Host: [::1]:80\r\n",
    b"Host: gateway.test:99999999\r\n",
    b"Host: a/b\r\n",
)
GARBAGE = (
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b"hello\r\n\r\n",
    b"\x16\x03\x01",
    b"GET",
    b"GET /healthz HTTP/9.9\r\n\r\n",
)

METHODS = (b"get", b"POST", b"OPTIONS", b"PUT", b"TRACE", b"G ET", b"")
VERSIONS = (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"")
SHAPES = (b"http://gateway.test%s", b"%s?", b"%s#a", b"//gateway.test%s", b"%s/", b"%s?token=", b"%s&a=b", b"%s%%41")
ENDS = (b"\n", b"\r", b"\r\r\n", b" \r\n", b"\t\r\n")


def oddities(plain: bytes) -> Iterator[bytes]:
    """Write a plain request in all the ways that are not plain, or no HTTP at all."""
    first, _, rest = plain.partition(b"\r\n")
    method, target, version = first.split(b" ")
    yield from (plain[:-2] + line + b"\r\n\r\n" for line in ODD_LINES)
    yield from (first + b"\r\n" + line + b"\r\n" + rest for line in ODD_LINES)
    yield from (plain.replace(b"Host: gateway.test\r\n", line) for line in HOSTS)
    yield from (b" ".join([odd, target, version]) + b"\r\n" + rest for odd in METHODS)
    yield from (b" ".join([method, target, odd]) + b"\r\n" + rest for odd in VERSIONS)
    yield from (b" ".join([method, shape % target, version]) + b"\r\n" + rest for shape in SHAPES)
    yield from (plain.replace(b"\r\n", end) for end in ENDS)
    yield from (plain + odd for odd in GARBAGE)
    yield from (odd + plain for odd in GARBAGE)


@st.composite
def fuzzed(draw: st.DrawFn, plain: bytes) -> bytes:
    """Change, add or leave out a byte anywhere."""
    at, byte = draw(st.integers(0, len(plain) - 1)), draw(st.binary(max_size=2))
    return plain[:at] + byte + plain[at + draw(st.integers(0, 1)) :]


@st.composite
def plain_reads(draw: st.DrawFn, reads: Sequence[tuple[str, Lines]], known: Known) -> bytes:
    """One read of an asset that somebody may or may not see, perhaps with a condition or a range."""
    target, credential = draw(st.sampled_from(reads))
    case = draw(st.none() | st.sampled_from(CASES))
    conditions = case.headers(known) if case is not None else []
    extra = draw(st.lists(st.sampled_from(EXTRA), max_size=4, unique_by=lambda line: line[0].lower()))
    names = {name for name, _ in credential}
    extra = [line for line in extra if line[0] not in names and line[0] not in dict(conditions)]
    method = case.method if case is not None else draw(st.sampled_from(["GET", "GET", "GET", "HEAD"]))
    return request(method, target, *credential, *conditions, *extra)


@st.composite
def posts(draw: st.DrawFn, key: Lines, asset_id: str) -> bytes:
    """A request with a body: of known length or in chunks, by somebody who may and who may not."""
    credential = draw(st.sampled_from([key, ()]))
    target = draw(st.sampled_from([SIGN, "/api/storage/assets/claim", "/no/such/route"]))
    body = draw(
        st.sampled_from(
            [b'{"assetIds": ["%s"]}' % asset_id.encode(), b"{", b"", b"x" * 70_000, b"GET / HTTP/1.1\r\n\r\n"]
        )
    )
    lines = (*credential, ("Content-Type", "application/json"))
    if draw(st.booleans()):
        return request("POST", target, *lines, body=body)
    data = (chunked(body) if body else b"") + b"0\r\n\r\n"
    return request("POST", target, *lines, ("Transfer-Encoding", "chunked")) + data


@st.composite
def conversations(draw: st.DrawFn, reads: st.SearchStrategy[bytes], posted: st.SearchStrategy[bytes]) -> list[Chunk]:
    """Requests in a row: each sent when the one before is answered or right behind it, whole or in small pieces."""
    chunks: list[Chunk] = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["read", "read", "read", "again", "pipelined", "post", "odd"]))
        step = draw(st.sampled_from([None, None, None, 1, 7, 64]))
        if kind == "again" and chunks:
            chunks.append(chunks[-1])
        elif kind == "pipelined":
            data = b"".join(draw(st.lists(reads | posted, min_size=2, max_size=4)))
            chunks.append(Chunk(data, waits=draw(st.booleans()), step=None if len(data) > 2000 else step))
        elif kind == "odd":
            plain = draw(reads)
            data = draw(st.sampled_from(list(oddities(plain))) | fuzzed(plain))
            # Nobody can tell what comes before an error if it stands in one chunk with it.
            chunks.append(Chunk(data, step=None if len(data) > 2000 else step))
        else:
            data = draw(posted if kind == "post" else reads)
            chunks.append(Chunk(data, waits=draw(st.booleans()), step=None if len(data) > 2000 else step))
    return chunks
