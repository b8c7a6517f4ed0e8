"""Decisions are remembered as long as they are good, in bounded memory."""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import replace

import pytest

from gateway.delivery.conditions import UNCONDITIONAL
from gateway.delivery.plan import DeliveryRules, represent
from gateway.model import Asset
from gateway.web.express import memory
from gateway.web.express.memory import Asked, Decided, Decisions, Lately, Prepared, Ready
from gateway.web.express.requests import Head
from gateway.web.observed import ASSET_ROUTE, Facts
from policies.engine import decide
from policies.model import Action, Caller, CallerKind, Question, State, Token, Visibility
from policies.rules import STANDARD_RULES

NOW = 1_700_000_000.0
OWNER = Caller(CallerKind.USER, "u_1")
RULES = DeliveryRules("same-site", 300, 60)
HEAD = Head(None, None, None, None, None, None, UNCONDITIONAL)


class Records(dict[str, Asset]):
    """The memory of records, in which a test changes them."""

    def peek(self, asset_id: str) -> Asset | None:
        return self.get(asset_id)


def asset(asset_id: str = "abcdefgh", expires_at: int | None = None) -> Asset:
    return Asset(
        id=asset_id,
        owner="user:u_1",
        visibility=Visibility.PRIVATE,
        purpose="avatar",
        source="upload",
        state=State.READY,
        media_type="image/png",
        size=3,
        sha256="0" * 64,
        object_key=asset_id,
        object_version="1",
        created_at=int(NOW * 1000),
        updated_at=int(NOW * 1000),
        expires_at=expires_at,
    )


def decided(record: Asset, caller: Caller = OWNER, token: Token | None = None) -> Decided:
    grant = decide(Question(caller, Action.READ, record.subject, token, NOW), STANDARD_RULES)
    return Decided(record, grant, caller, represent(record, RULES))


def asked(record: Asset, cookie: str | None = None) -> Asked:
    return f"GET /api/storage/assets/{record.id} HTTP/1.1".encode(), None, cookie


@pytest.mark.parametrize(
    ("record", "caller", "token", "ends"),
    [
        (asset(), OWNER, None, None),
        (asset(), replace(OWNER, until=NOW + 10), None, NOW + 10),
        (asset(expires_at=int(NOW * 1000) + 20_000), OWNER, None, NOW + 20),
        (asset(), OWNER, Token(int(NOW), int(NOW) + 30), NOW + 30),
        (asset(), Caller(CallerKind.ANONYMOUS), Token(int(NOW), int(NOW) + 30), NOW + 30),
        (asset(expires_at=int(NOW * 1000) + 20_000), replace(OWNER, until=NOW + 10), Token(0, int(NOW) + 5), NOW + 5),
    ],
    ids=["nothing", "the credential", "the asset", "the token beside", "the token", "the first of all"],
)
def test_a_decision_ends_with_what_it_rests_on(
    record: Asset, caller: Caller, token: Token | None, ends: float | None
) -> None:
    decisions, made = Decisions(Records({record.id: record})), decided(record, caller, token)
    decisions.keep(asked(record), made)
    if ends is None:
        assert decisions.recall(asked(record), NOW + 1e9) is made
        return
    assert decisions.recall(asked(record), ends - 0.001) is made
    assert decisions.recall(asked(record), ends) is None


@pytest.mark.parametrize(
    "other",
    [
        (b"GET /api/storage/assets/abcdefgh?token=v1.a.b.c HTTP/1.1", None, None),
        (b"HEAD /api/storage/assets/abcdefgh HTTP/1.1", None, None),
        (b"GET /api/storage/assets/abcdefgh HTTP/1.1", "Bearer x", None),
        (b"GET /api/storage/assets/abcdefgh HTTP/1.1", None, ""),
        (b"GET /api/storage/assets/abcdefgh HTTP/1.1", None, "a=b"),
    ],
)
def test_another_question_has_no_answer_yet(other: Asked) -> None:
    record = asset()
    decisions = Decisions(Records({record.id: record}))
    decisions.keep(asked(record), decided(record))
    assert decisions.recall(other, NOW) is None


def test_a_record_that_was_read_anew_ends_its_decisions_even_if_it_says_the_same() -> None:
    record = asset()
    records = Records({record.id: record})
    decisions = Decisions(records)
    decisions.keep(asked(record), decided(record))
    records[record.id] = replace(record)
    assert decisions.recall(asked(record), NOW) is None
    records[record.id] = record
    assert decisions.recall(asked(record), NOW) is None  # it was dropped, not only withheld


def test_without_the_record_in_memory_there_is_no_decision() -> None:
    record = asset()
    records = Records({record.id: record})
    decisions = Decisions(records)
    decisions.keep(asked(record), decided(record))
    del records[record.id]
    assert decisions.recall(asked(record), NOW) is None


def test_without_a_memory_of_records_nothing_is_kept() -> None:
    record, decisions = asset(), Decisions(None)
    decisions.keep(asked(record), decided(record))
    assert not decisions.is_open
    assert decisions.recall(asked(record), NOW) is None


def test_a_token_for_one_address_is_judged_every_time() -> None:
    record = asset()
    decisions, caller = Decisions(Records({record.id: record})), replace(OWNER, address="192.0.2.1")
    decisions.keep(asked(record), decided(record, caller, Token(int(NOW), int(NOW) + 30, ip="192.0.2.1")))
    assert decisions.recall(asked(record), NOW) is None


def test_what_the_lane_would_not_read_is_not_kept() -> None:
    record = asset()
    decisions, line = Decisions(Records({record.id: record})), b"GET /api/storage/assets/abcdefgh?x=y HTTP/1.1"
    decisions.keep((line, None, None), decided(record))
    assert decisions.recall((line, None, None), NOW) is None


def test_what_was_not_asked_for_the_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 6 * memory.DECISION_SIZE)
    records = [asset(f"abcdefgh{number}") for number in range(4)]
    decisions = Decisions(Records({record.id: record for record in records}))
    for record in records[:3]:
        decisions.keep(asked(record), decided(record))
        assert decisions.recall(asked(records[0]), NOW) is not None
    decisions.keep(asked(records[3]), decided(records[3]))
    kept = [decisions.recall(asked(record), NOW) is not None for record in records]
    assert kept[0]
    assert kept[3]
    assert not all(kept)


def test_long_cookies_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 30_000)
    records = [asset(f"abcdefgh{number}") for number in range(10)]
    decisions = Decisions(Records({record.id: record for record in records}))
    for _ in range(3):
        for record in records:
            decisions.keep(asked(record, "x" * 7_000), decided(record))
    kept = [decisions.recall(asked(record, "x" * 7_000), NOW) is not None for record in records]
    assert kept[-1]
    assert sum(kept) <= 3


def ready(data: bytes) -> tuple[Ready, weakref.ref[memoryview]]:
    """An answer, and what tells whether the bytes that it shows are held by anybody."""
    view = memoryview(data)
    facts = Facts("GET", "/", ASSET_ROUTE, 200, "owner", len(data), None, "user", None)
    return Ready(decided(asset()), HEAD, Prepared(b"", view, facts)), weakref.ref(view)


async def test_an_answer_is_good_for_its_second_and_holds_no_bytes_in_the_next() -> None:
    lately = Lately()
    answer, held = ready(b"bytes")
    assert lately.get(b"GET /a", NOW) is None
    lately.keep(b"GET /a", answer)
    assert lately.get(b"GET /a", NOW + 0.9) is answer
    assert lately.get(b"GET /b", NOW) is None
    del answer
    assert lately.get(b"GET /b", NOW + 1) is None
    assert held() is None


async def test_an_answer_lets_go_of_its_bytes_where_nobody_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LET_GO_AFTER", 0.0)
    lately = Lately()
    answer, held = ready(b"bytes")
    lately.keep(b"GET /a", answer)
    del answer
    assert held() is not None
    async with asyncio.timeout(10):
        while held() is not None:  # noqa: ASYNC110 - the loop's own timer is what it waits for
            await asyncio.sleep(0)


async def test_the_answers_of_one_second_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_LATELY", 2)
    lately, requests = Lately(), [b"x" * (memory.LONGEST_KEPT + 1), b"GET /a", b"GET /b", b"GET /c"]
    for request in requests:
        lately.keep(request, ready(b"bytes")[0])
    assert [lately.get(request, 0.0) is not None for request in requests] == [False, True, True, False]
