"""Signing, resolving and revoking, with real records and real tokens."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway import tokens
from gateway.clock import iso
from gateway.errors import Unprocessable
from gateway.metadata import Metadata
from gateway.metadata.memory import open_metadata
from gateway.model import Asset
from gateway.settings import SigningKey
from gateway.settings.reading import load
from gateway.sharing import LARGEST_BATCH, Sharing
from policies.engine import decide
from policies.model import ANONYMOUS, Action, Caller, CallerKind, Denied, Question, Reason, State, Token, Visibility
from policies.purposes import Purpose
from policies.rules import STANDARD_RULES

NOW: Final = 1_795_305_600  # a whole minute
DAY: Final = 86400  # seconds
KEY: Final = SigningKey("k1", bytes(range(32)))
KEYS: Final = {"k1": KEY.key}
PURPOSES: Final = {
    "post_image": Purpose("post_image", ("image/*",), 1, url_ttl=600.0),
    "archive": Purpose("archive", ("image/*",), 1, url_ttl=30.0 * DAY),
}
USER: Final = Caller(CallerKind.USER, "u_1")
STRANGER: Final = Caller(CallerKind.USER, "u_2")
SIGNER: Final = Caller(CallerKind.SERVICE, "app", scopes=frozenset({"sign"}))
RESOLVER: Final = Caller(CallerKind.SERVICE, "app", scopes=frozenset({"resolve"}))
MINE: Final = "asset-of-mine"
OTHER: Final = "another-of-mine"
THEIRS: Final = "asset-of-theirs"
GONE: Final = "asset-deleted"
BRIEF: Final = "asset-expiring"


def asset(asset_id: str, owner: str = "user:u_1", **more: Any) -> Asset:
    facts: dict[str, Any] = {"purpose": "post_image", "state": State.READY, "created_at": NOW * 1000} | more
    return Asset(
        id=asset_id,
        owner=owner,
        visibility=Visibility.PRIVATE,
        source="upload",
        media_type="image/png",
        size=1,
        sha256="0" * 64,
        object_key=f"as/{asset_id}",
        updated_at=NOW * 1000,
        **facts,
    )


@dataclass
class Time:
    """A clock that a test sets."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
async def metadata(clock: Time) -> AsyncIterator[Metadata]:
    records = await open_metadata(load(None, {"ASSETGATE_METADATA": "memory://"}).settings, clock)
    for record in (
        asset(MINE),
        asset(OTHER),
        asset(THEIRS, "user:u_9"),
        asset(GONE, state=State.DELETED, deleted_at=NOW * 1000),
        asset(BRIEF, expires_at=(NOW + 90) * 1000 + 999),
        asset("asset-archived", purpose="archive"),
        asset("asset-of-old-purpose", purpose="no_longer_there"),
    ):
        await records.add(record)
    yield records
    await records.close()


@pytest.fixture
def sharing(metadata: Metadata, clock: Time) -> Sharing:
    return Sharing(metadata, [KEY], PURPOSES, STANDARD_RULES, clock)


def token_in(url: str, asset_id: str, now: float = NOW) -> Token:
    """Read the token of a signed URL as the gateway does."""
    parts = urlsplit(url)
    assert parts.path == f"/api/storage/assets/{asset_id}"
    return tokens.verify(parse_qs(parts.query)["token"][0], asset_id, KEYS, now)


async def test_each_id_is_answered_in_the_order_asked(sharing: Sharing) -> None:
    asked = [THEIRS, MINE, "no-such-asset", "../etc", GONE, "", MINE]
    results = await sharing.sign(USER, asked)
    assert [result["assetId"] for result in results] == asked
    assert [result.get("error") for result in results] == [
        "not_found", None, "not_found", "not_found", "asset_deleted", "not_found", None,
    ]  # fmt: skip
    assert results[1] == results[6]


async def test_a_signed_url_lets_a_stranger_read_and_says_when_it_ends(sharing: Sharing, metadata: Metadata) -> None:
    [result] = await sharing.sign(USER, [MINE], base="https://media.example.com")
    assert result["assetRef"] == f"asset://{MINE}"
    assert result["url"].startswith("https://media.example.com/api/storage/assets/")
    token = token_in(result["url"], MINE)
    assert result["expiresAt"] == iso(token.exp * 1000)
    subject = (await metadata.get([MINE]))[MINE].subject
    assert decide(Question(ANONYMOUS, Action.READ, subject, token, NOW), STANDARD_RULES).reason is Reason.TOKEN


async def test_a_url_stays_the_same_within_its_window(sharing: Sharing, clock: Time) -> None:
    first = await sharing.sign(USER, [MINE])
    clock.now += 59.9
    assert await sharing.sign(USER, [MINE]) == first
    assert await sharing.sign(USER, [MINE], window=0) != first
    clock.now += 0.1
    assert await sharing.sign(USER, [MINE]) != first


@pytest.mark.parametrize(
    ("asset_id", "asked", "exp"),
    [
        (MINE, None, NOW + 660),
        (MINE, 30, NOW + 60),
        (MINE, 7 * DAY, NOW + 7 * DAY),
        ("asset-archived", None, NOW + 7 * DAY),
        ("asset-of-old-purpose", None, NOW + 3660),
        (BRIEF, None, NOW + 90),
        (BRIEF, 10, NOW + 20),
    ],
)
async def test_how_long_a_token_lives(sharing: Sharing, asset_id: str, asked: float | None, exp: int) -> None:
    [result] = await sharing.sign(USER, [asset_id], expires_in=asked)
    assert token_in(result["url"], asset_id).exp == exp


async def test_each_asset_of_a_batch_lives_as_its_own_purpose_says(sharing: Sharing) -> None:
    asked = [MINE, "asset-archived", BRIEF]
    results = await sharing.sign(USER, asked)
    ends = [token_in(result["url"], asset_id).exp - NOW for result, asset_id in zip(results, asked, strict=True)]
    assert ends == [660, 7 * DAY, 90]


@pytest.mark.parametrize(("download", "claim"), [(None, None), (False, None), (True, 1), ("cliché.mp4", "cliché.mp4")])
async def test_a_download_is_part_of_the_token(sharing: Sharing, download: str | bool | None, claim: object) -> None:
    [result] = await sharing.sign(USER, [MINE], download=download)
    assert token_in(result["url"], MINE).dl == claim


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"expires_in": 7 * DAY + 1}, "expiresInSeconds"),
        ({"expires_in": 0}, "expiresInSeconds"),
        ({"expires_in": float("nan")}, "expiresInSeconds"),
        ({"window": -1}, "window"),
        ({"window": DAY + 1}, "window"),
        ({"download": ""}, "download"),
        ({"download": "x" * 256}, "download"),
    ],
)
async def test_what_cannot_be_signed_is_named(sharing: Sharing, wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(Unprocessable) as refusal:
        await sharing.sign(USER, [MINE], **wrong)
    assert list(refusal.value.fields) == [field]


async def test_more_than_a_batch_is_refused(sharing: Sharing) -> None:
    assert len(await sharing.sign(USER, [MINE] * LARGEST_BATCH)) == LARGEST_BATCH
    with pytest.raises(Unprocessable):
        await sharing.sign(USER, [MINE] * (LARGEST_BATCH + 1))


@pytest.mark.parametrize(
    ("caller", "error"),
    [
        (ANONYMOUS, "sign_in_required"),
        (STRANGER, "not_found"),
        (RESOLVER, "scope_missing"),
        (SIGNER, None),
    ],
)
async def test_who_may_not_sign_hears_the_same_of_every_asset(
    sharing: Sharing, caller: Caller, error: str | None
) -> None:
    there, absent = await sharing.sign(caller, [MINE, "no-such-asset"])
    assert there.get("error") == error
    assert absent.get("error") == (error or "not_found")


async def test_a_document_is_copied_with_urls_in_the_place_of_its_references(sharing: Sharing) -> None:
    document = {
        f"asset://{MINE}": "a key is no value",
        "cover": f"asset://{MINE}",
        "body": f"![one](asset://{MINE}) and <asset://{OTHER}>, asset://{MINE}.",
        "parts": [1, None, True, 1.5, [f"asset://{OTHER}"], {"text": "asset://short, no reference"}],
    }
    before = copy.deepcopy(document)
    first, second = [result["url"] for result in await sharing.sign(USER, [MINE, OTHER])]
    assert await sharing.resolve(USER, document) == {
        f"asset://{MINE}": "a key is no value",
        "cover": first,
        "body": f"![one]({first}) and <{second}>, {first}.",
        "parts": [1, None, True, 1.5, [second], {"text": "asset://short, no reference"}],
    }
    assert document == before


@pytest.mark.parametrize(
    "text",
    [
        f"my-asset://{MINE}",
        f"see_asset://{MINE}",
        f"ASSET://{MINE}",
        "asset://" + "x" * 65,
        "asset://-begins-with-a-hyphen",
        f"asset:/{MINE}",
    ],
)
async def test_what_only_looks_like_a_reference_is_left_alone(sharing: Sharing, text: str) -> None:
    assert await sharing.resolve(USER, [text, f"before {text} after"]) == [text, f"before {text} after"]


@pytest.mark.parametrize("value", [None, 1, "", "text", [], {}, [[]]])
async def test_a_document_without_references_comes_back_as_it_is(sharing: Sharing, value: Any) -> None:
    assert await sharing.resolve(ANONYMOUS, value) == value


DENIED: Final = {
    "a/b~c": f"asset://{THEIRS}",
    "list": [f"asset://{MINE}", f"see asset://{GONE} and asset://{MINE}"],
}


async def test_refused_references_are_named_by_their_place(sharing: Sharing) -> None:
    with pytest.raises(Unprocessable) as refusal:
        await sharing.resolve(USER, DENIED, on_denied="error")
    assert refusal.value.fields == {"/a~1b~0c": "not_found", "/list/1": "asset_deleted"}
    with pytest.raises(Unprocessable) as refusal:
        await sharing.resolve(USER, f"asset://{THEIRS}")
    assert refusal.value.fields == {"": "not_found"}


@pytest.mark.parametrize(("on_denied", "left"), [("null", None), ("keep", f"asset://{THEIRS}")])
async def test_refused_references_become_null_or_stay(sharing: Sharing, on_denied: Any, left: str | None) -> None:
    [url] = [result["url"] for result in await sharing.sign(USER, [MINE])]
    resolved = await sharing.resolve(USER, DENIED, on_denied=on_denied)
    assert resolved == {"a/b~c": left, "list": [url, f"see asset://{GONE} and {url}"]}


async def test_a_service_needs_only_the_scope_resolve(sharing: Sharing) -> None:
    resolved = await sharing.resolve(RESOLVER, f"asset://{THEIRS}", expires_in=30, base="https://m.example")
    assert resolved.startswith("https://m.example/")
    assert token_in(resolved, THEIRS).exp == NOW + 60


async def test_a_document_nested_deep_is_walked_without_recursion(sharing: Sharing) -> None:
    document: Any = f"asset://{MINE}"
    for _ in range(50_000):
        document = [document]
    resolved = await sharing.resolve(USER, document)
    while isinstance(resolved, list):
        [resolved] = resolved
    assert token_in(resolved, MINE)


async def test_a_report_of_deep_places_stays_bounded(sharing: Sharing) -> None:
    document: Any = f"asset://{THEIRS}"
    for _ in range(200):
        document = {"k" * 1000: document, "x": f"asset://{THEIRS}"}
    with pytest.raises(Unprocessable) as refusal:
        await sharing.resolve(USER, document)
    assert sum(map(len, refusal.value.fields)) < 500_000


async def test_a_document_may_refer_to_a_batch_of_assets_however_often(sharing: Sharing) -> None:
    references = [f"asset://asset-{number:04}" for number in range(LARGEST_BATCH)]
    assert len(await sharing.resolve(USER, references * 3, on_denied="null")) == 3 * LARGEST_BATCH
    with pytest.raises(Unprocessable) as refusal:
        await sharing.resolve(USER, [*references, f"asset://{MINE}"], on_denied="null")
    assert list(refusal.value.fields) == ["document"]


async def read_reason(metadata: Metadata, url: str, now: float) -> Reason:
    subject = (await metadata.get([MINE]))[MINE].subject
    try:
        token = token_in(url, MINE, now)
        return decide(Question(ANONYMOUS, Action.READ, subject, token, now), STANDARD_RULES).reason
    except Denied as denied:
        return denied.reason


async def test_revoking_kills_what_was_issued_and_nothing_that_is_issued_after(
    sharing: Sharing, metadata: Metadata, clock: Time
) -> None:
    urls = []
    for _ in range(3):  # all within one second, each revocation kills what was signed since the last
        [result] = await sharing.sign(USER, [MINE])
        urls.append(result["url"])
        assert await read_reason(metadata, urls[-1], clock.now) is Reason.TOKEN
        await sharing.revoke(USER, MINE)
        assert [await read_reason(metadata, url, clock.now) for url in urls] == [Reason.TOKEN_REVOKED] * len(urls)
    [result] = await sharing.sign(USER, [MINE])
    assert await read_reason(metadata, result["url"], clock.now) is Reason.TOKEN


async def test_revoking_says_up_to_when(sharing: Sharing, clock: Time) -> None:
    clock.now = NOW + 10.7
    assert await sharing.revoke(SIGNER, MINE) == NOW + 10
    clock.now = NOW + 20.0
    assert await sharing.revoke(SIGNER, MINE) == NOW + 20


async def test_a_hundred_revocations_at_once_leave_new_tokens_good(
    sharing: Sharing, metadata: Metadata, clock: Time
) -> None:
    for _ in range(100):
        await sharing.revoke(USER, MINE)
    [result] = await sharing.sign(USER, [MINE])
    assert await read_reason(metadata, result["url"], clock.now) is Reason.TOKEN


@pytest.mark.parametrize(
    ("caller", "asset_id", "reason"),
    [
        (ANONYMOUS, MINE, Reason.SIGN_IN_REQUIRED),
        (STRANGER, MINE, Reason.NO_RULE_ALLOWED),
        (RESOLVER, MINE, Reason.SCOPE_MISSING),
        (USER, "no-such-asset", Reason.NO_RULE_ALLOWED),
        (USER, "../etc", Reason.NO_RULE_ALLOWED),
        (USER, GONE, Reason.ASSET_DELETED),
    ],
)
async def test_who_may_not_revoke_is_refused(sharing: Sharing, caller: Caller, asset_id: str, reason: Reason) -> None:
    with pytest.raises(Denied) as refusal:
        await sharing.revoke(caller, asset_id)
    assert refusal.value.reason is reason
