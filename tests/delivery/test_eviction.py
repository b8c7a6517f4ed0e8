"""S3-FIFO by itself, and the ledger by which several workers have the same queues."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.delivery import ledger as ledger_module
from gateway.delivery.eviction import Queues
from gateway.delivery.ledger import Contended, Ledger, Noted, Step

CAPACITY = 100


def name(number: int) -> bytes:
    return number.to_bytes(28, "big")


def insert(queues: Queues, number: int, size: int = 1) -> list[int]:
    evicted = [int.from_bytes(gone, "big") for gone, out in queues.make_room(size, CAPACITY) if out]
    queues.add(name(number), size)
    return evicted


def test_what_nobody_asks_for_again_leaves_first() -> None:
    queues = Queues()
    for number in range(CAPACITY):
        insert(queues, number)
    queues.hit(name(0), 2)
    assert [insert(queues, number) for number in range(100, 103)] == [[1], [2], [3]]
    assert name(0) in queues.main


def test_one_more_look_is_not_yet_worth_keeping() -> None:
    queues = Queues()
    for number in range(CAPACITY):
        insert(queues, number)
    queues.hit(name(0), 1)
    assert insert(queues, 100) == [0]


def test_what_comes_back_soon_after_it_left_goes_to_the_main_queue() -> None:
    queues = Queues()
    for number in range(CAPACITY + 1):
        insert(queues, number)
    assert queues.find(name(0)) is None
    insert(queues, 0)
    assert name(0) in queues.main


def test_a_scan_passes_through_the_small_queue_and_moves_nothing_else() -> None:
    queues = Queues()
    for number in range(80):
        insert(queues, number)
        queues.hit(name(number), 3)
    for number in range(1000, 1200):
        insert(queues, number)  # the popular ones go on to the main queue
        for hot in range(80):
            queues.hit(name(hot), 1)
    for number in range(2000, 12_000):
        insert(queues, number)
    assert sum(queues.find(name(number)) is not None for number in range(80)) == 80


def test_popularity_of_old_wears_off() -> None:
    queues = Queues()
    for number in range(CAPACITY):
        insert(queues, number)
        queues.hit(name(number), 3)
    for number in range(1000, 3000):
        insert(queues, number)
        queues.hit(name(number), 2)
    assert not any(queues.find(name(number)) for number in range(CAPACITY))


def test_more_of_the_popular_is_served_than_by_the_least_recently_used() -> None:
    """On Zipf's law with scans in between, the hit ratio is well above that of a cache that a scan can flush."""
    rng = random.Random(7)  # noqa: S311 - no secret
    weights = [1 / rank for rank in range(1, 1001)]
    popular = rng.choices(range(1000), weights, k=30_000)
    scan = itertools.count(10_000)
    queues, recent = Queues(), dict[int, None]()
    hits = [0, 0]
    for turn, wanted in enumerate(popular):
        for number in (wanted, *(itertools.islice(scan, 200) if turn % 400 == 0 else ())):
            hits[0] += queues.find(name(number)) is not None
            queues.hit(name(number), 1) if queues.find(name(number)) else insert(queues, number)
            hits[1] += number in recent
            recent.pop(number, None)
            recent[number] = None
            if len(recent) > CAPACITY:
                del recent[next(iter(recent))]
    assert hits[0] > 1.1 * hits[1]


@given(steps=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60), st.booleans()), max_size=200))
def test_the_bytes_never_exceed_the_bound_and_are_counted_right(steps: list[tuple[int, int, bool]]) -> None:
    queues = Queues()
    for number, size, asked in steps:
        if asked:
            queues.hit(name(number), 1)
        elif queues.find(name(number)) is None:
            insert(queues, number, size)
        assert queues.total <= CAPACITY
        assert queues.small_bytes == sum(entry.size for entry in queues.small.values())
        assert queues.main_bytes == sum(entry.size for entry in queues.main.values())
        assert not set(queues.ghosts) & (set(queues.small) | set(queues.main))


@contextmanager
def ledgers(folder: Path, count: int) -> Iterator[list[Ledger]]:
    opened = [Ledger(folder, CAPACITY) for _ in range(count)]
    opened[0].rebuild({})
    for each in opened:
        each.open()
    yield opened
    for each in opened:
        each.close()


def state(ledger: Ledger) -> object:
    with ledger.locked(wait=True):
        queues = ledger.queues
        return [
            [(key, entry.size, entry.hits) for key, entry in queue.items()] for queue in (queues.small, queues.main)
        ]


_operation = st.tuples(
    st.integers(0, 2), st.sampled_from(["reserve", "hit", "remove", "rewrite"]), st.integers(0, 30), st.integers(1, 30)
)


@settings(max_examples=30, deadline=None, database=None)
@given(operations=st.lists(_operation, max_size=60))
def test_all_workers_have_the_same_queues_whoever_did_what(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[int, str, int, int]]
) -> None:
    with ledgers(tmp_path_factory.mktemp("ledgers"), 3) as workers:
        for who, what, number, size in operations:
            _do(workers[who], what, name(number), size)
        assert state(workers[0]) == state(workers[1]) == state(workers[2])
        assert workers[0].queues.total <= CAPACITY


def _do(ledger: Ledger, what: str, which: bytes, size: int) -> None:
    if what == "hit":
        ledger.note_later(Noted(Step.HIT, which, hits=1))
    elif what == "remove":
        ledger.note_later(Noted(Step.REMOVE, which))
    with ledger.locked(wait=True):
        if what == "rewrite":
            ledger.rewrite()
        elif what == "reserve" and not ledger.queues.find(which):
            ledger.make_room(size)
            ledger.note_room(which, size)


def test_a_long_journal_is_rewritten_and_nobody_loses_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_FEW", 20)
    with ledgers(tmp_path, 2) as [one, two]:
        for number in range(500):
            _do(one, "reserve", name(number), 10)
            if number % 90 == 0:
                assert state(two) == state(one)
        assert (tmp_path / ".journal").stat().st_size < 10_000
        assert state(two) == state(one)


def test_a_deletion_reaches_every_worker_and_what_was_begun_before_it(tmp_path: Path) -> None:
    with ledgers(tmp_path, 2) as [one, two]:
        began = one.position
        with two.locked(wait=True):
            two.note(Noted(Step.DROP, name(1)), Noted(Step.REMOVE, name(2)))
        with one.locked(wait=True):
            assert one.is_dropped_since(name(1)[:16], began)
            assert not one.is_dropped_since(name(1)[:16], one.position)
            assert list(one.gone) == [name(2)]


def test_who_does_not_want_to_wait_is_told_that_the_lock_is_held(tmp_path: Path) -> None:
    with ledgers(tmp_path, 2) as [one, two], one.locked(wait=True):
        with pytest.raises(Contended), two.locked(wait=False):
            pytest.fail("it was held")
        with pytest.raises(Contended), one.locked(wait=False):
            pytest.fail("it was held")


def test_a_journal_tells_the_next_start_what_was_popular(tmp_path: Path) -> None:
    with ledgers(tmp_path, 1) as [one]:
        for number in range(4):
            _do(one, "reserve", name(number), 10)
        _do(one, "hit", name(1), 0)
        before = state(one)
    with closing(Ledger(tmp_path, CAPACITY)) as again:
        again.rebuild({name(number): 10 for number in (3, 2, 1, 0)})
        assert state(again) == before
        again.rebuild({name(1): 10, name(9): 10})
        assert state(again) == [[(name(1), 10, 1), (name(9), 10, 0)], []]
