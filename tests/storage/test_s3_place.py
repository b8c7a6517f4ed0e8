from __future__ import annotations

from typing import NamedTuple

import pytest

from gateway.storage.s3_place import Endpoint, Place, endpoint_of, parse_place
from gateway.storage.s3_signing import KEPT, Signer

PLACES = {
    "s3://media": Place("media", ""),
    "s3://media/": Place("media", ""),
    "s3://media/some/prefix": Place("media", "some/prefix/"),
    "s3://media/some/prefix/?region=eu-west-1": Place("media", "some/prefix/", region="eu-west-1"),
    "s3://media?endpoint_url=http://127.0.0.1:9000&addressing=virtual": Place(
        "media", "", "http://127.0.0.1:9000", addressing="virtual"
    ),
    "s3://media/?endpoint_url=https%3A%2F%2Fs3.example.com%2Fbase&region=auto": Place(
        "media", "", "https://s3.example.com/base", "auto"
    ),
}


@pytest.mark.parametrize(("url", "place"), PLACES.items())
def test_a_url_names_bucket_prefix_and_endpoint(url: str, place: Place) -> None:
    assert parse_place(url) == place


WRONG = {
    "s3:media": "no bucket",
    "s3:///prefix": "no bucket",
    "s3://a b": "no bucket",
    "s3://media#fragment": "form",
    "s3://key:secret@media/": "keys do not belong",
    "s3://media?regoin=eu-west-1": "unknown regoin",
    "s3://media?region": "form",
    "s3://media?addressing=both": "addressing",
    "s3://media?endpoint_url=s3.example.com": "endpoint_url",
    "s3://media?endpoint_url=ftp://s3.example.com": "endpoint_url",
    "s3://media?endpoint_url=http://host:port": "endpoint_url",
    "s3://media?endpoint_url=http://key:secret@host": "endpoint_url",
}


@pytest.mark.parametrize(("url", "problem"), WRONG.items())
def test_a_wrong_url_is_refused_without_its_secrets(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        parse_place(url)
    assert "secret" not in str(raised.value)


AWS = "https://s3.eu-west-1.amazonaws.com"
WHERE = [
    ("s3://media", AWS, "https://media.s3.eu-west-1.amazonaws.com/a/b%20c"),
    ("s3://media.example.com", AWS, "https://s3.eu-west-1.amazonaws.com/media.example.com/a/b%20c"),
    ("s3://media?addressing=path", AWS, "https://s3.eu-west-1.amazonaws.com/media/a/b%20c"),
    ("s3://media?endpoint_url=http://127.0.0.1:9000", "http://127.0.0.1:9000", "http://127.0.0.1:9000/media/a/b%20c"),
    ("s3://media?endpoint_url=http://[::1]:9000", "http://[::1]:9000", "http://[::1]:9000/media/a/b%20c"),
    (
        "s3://media?endpoint_url=https://acc.r2.cloudflarestorage.com&addressing=virtual",
        "https://acc.r2.cloudflarestorage.com:443",
        "https://media.acc.r2.cloudflarestorage.com/a/b%20c",
    ),
    (
        "s3://media?endpoint_url=https://x.example/base/s3/",
        "https://x.example/base/s3/",
        "https://x.example/base/s3/media/a/b%20c",
    ),
]


@pytest.mark.parametrize(("setting", "endpoint_url", "url"), WHERE)
def test_an_object_is_where_the_style_says(setting: str, endpoint_url: str, url: str) -> None:
    endpoint = endpoint_of(parse_place(setting), endpoint_url)
    assert endpoint.url + endpoint.path_of("a/b c") == url


class Keys(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None = None


EXAMPLE = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EXAMPLE_MOMENT = 1369353600.0  # 2013-05-24T00:00:00Z
EXAMPLE_ENDPOINT = Endpoint(True, "examplebucket.s3.amazonaws.com", 443, "examplebucket.s3.amazonaws.com", "/")


def test_the_signature_of_the_documentation_comes_out() -> None:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    signer = Signer(EXAMPLE_ENDPOINT, "us-east-1", lambda: EXAMPLE_MOMENT)
    assert signer.url("test.txt", EXAMPLE, 86400, {}) == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


class Watch:
    def __init__(self) -> None:
        self.now = EXAMPLE_MOMENT

    def __call__(self) -> float:
        return self.now


def test_a_target_is_kept_until_it_nears_its_end() -> None:
    watch = Watch()
    signer = Signer(EXAMPLE_ENDPOINT, "us-east-1", watch)
    first = signer.target("a", EXAMPLE)
    watch.now += 2699
    assert signer.target("a", EXAMPLE) == first
    watch.now += 1
    second = signer.target("a", EXAMPLE)
    assert second != first
    watch.now -= 100_000  # a clock that is set back
    assert signer.target("a", EXAMPLE) not in {first, second}


def test_other_credentials_sign_anew() -> None:
    signer = Signer(EXAMPLE_ENDPOINT, "us-east-1", Watch())
    first = signer.target("a", EXAMPLE)
    refreshed = signer.target("a", Keys("OTHER", "secret", "to/ken"))
    assert "Credential=OTHER" in refreshed
    assert "X-Amz-Security-Token=to%2Fken" in refreshed
    assert signer.target("a", EXAMPLE) == first


def test_a_target_that_was_refused_is_forgotten() -> None:
    watch = Watch()
    signer = Signer(EXAMPLE_ENDPOINT, "us-east-1", watch)
    first = signer.target("a", EXAMPLE)
    watch.now += 5
    signer.forget("a")
    assert signer.target("a", EXAMPLE) != first


def test_no_more_targets_are_kept_than_allowed() -> None:
    watch = Watch()
    signer = Signer(EXAMPLE_ENDPOINT, "us-east-1", watch)
    used, unused = signer.target("used", EXAMPLE), signer.target("unused", EXAMPLE)
    watch.now += 1
    for number in range(KEPT - 1):
        signer.target(f"other-{number}", EXAMPLE)
        assert signer.target("used", EXAMPLE) == used
    assert signer.target("unused", EXAMPLE) != unused
