"""Which URLs are fetched at all, judged before anything is resolved."""

from __future__ import annotations

import pytest

from gateway.fetching.failures import FetchFailed, Reason
from gateway.fetching.places import judged

HOSTS = ("replicate.delivery", "*.fal.media", "127.0.0.1:9000", "[2001:db8::1]:9001")

GOOD = [
    "https://replicate.delivery/a/b.png",
    "https://REPLICATE.delivery:443/a",
    "https://v3.fal.media/files/b/koala/x.png",
    "https://a.b.fal.media/",
    "https://127.0.0.1:9000/x",
    "https://[2001:db8::1]:9001/x",
]
BAD = [
    ("https://evil.example/", Reason.HOST_NOT_ALLOWED),
    ("https://fal.media/", Reason.HOST_NOT_ALLOWED),
    ("https://xfal.media/", Reason.HOST_NOT_ALLOWED),
    ("https://fal.media.evil.example/", Reason.HOST_NOT_ALLOWED),
    ("https://x.replicate.delivery/", Reason.HOST_NOT_ALLOWED),
    ("https://replicate.delivery:8443/", Reason.HOST_NOT_ALLOWED),
    ("https://replicate.delivery:22/", Reason.HOST_NOT_ALLOWED),
    ("https://127.0.0.1/", Reason.HOST_NOT_ALLOWED),
    ("https://replicate.delivery./", Reason.URL_INVALID),
    ("https://user@replicate.delivery/", Reason.URL_INVALID),
    ("https://user:secret@replicate.delivery/", Reason.URL_INVALID),
    ("https://replicate.delivery@evil.example/", Reason.URL_INVALID),
    ("https://evil.example\\@replicate.delivery/", Reason.URL_INVALID),
    ("https://replicate.delivery/a b", Reason.URL_INVALID),
    ("https://replicate.delivery/\r\nHost: evil.example", Reason.URL_INVALID),
    ("https://replicate.delivery:99999/", Reason.URL_INVALID),
    ("https://replicate.delivery/" + "a" * 10_000, Reason.URL_INVALID),
    ("https://[::1/", Reason.URL_INVALID),
    ("https:///a", Reason.URL_INVALID),
    ("//replicate.delivery/a", Reason.SCHEME_NOT_ALLOWED),
    ("http://replicate.delivery/a", Reason.SCHEME_NOT_ALLOWED),
    ("file:///etc/passwd", Reason.SCHEME_NOT_ALLOWED),
    ("gs://bucket/a", Reason.SCHEME_NOT_ALLOWED),
    ("gopher://replicate.delivery/", Reason.SCHEME_NOT_ALLOWED),
    ("data:image/png;base64,AAAA", Reason.SCHEME_NOT_ALLOWED),
    ("", Reason.SCHEME_NOT_ALLOWED),
]


@pytest.mark.parametrize("url", GOOD)
def test_results_are_fetched_from_the_hosts_of_the_list(url: str) -> None:
    assert judged(url, HOSTS, allow_http=False).scheme == "https"


@pytest.mark.parametrize(("url", "reason"), BAD)
def test_anything_else_is_refused(url: str, reason: Reason) -> None:
    with pytest.raises(FetchFailed) as raised:
        judged(url, HOSTS, allow_http=False)
    assert raised.value.reason is reason
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("host", ["*", "localhost"])
def test_where_http_is_allowed_so_are_the_ports_of_test_servers(host: str) -> None:
    for url in ("http://localhost/", "http://localhost:8080/", "https://localhost:8443/"):
        assert judged(url, [host], allow_http=True)
    with pytest.raises(FetchFailed):
        judged("http://localhost:22/", [host], allow_http=True)


def test_a_signed_query_is_left_as_its_maker_wrote_it() -> None:
    url = "https://v3.fal.media/a%2Fb?sig=%2b%2F%3d&x=a+b%20c#part"
    assert str(judged(url, HOSTS, allow_http=False)) == url.removesuffix("#part")
