"""The ownership matrix over HTTP: every cell asked by a caller with a real credential, on every combination."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Final, NamedTuple

import orjson
import pytest
import pytest_asyncio

from policies.model import Action, Reason, Visibility
from tests.support.callers import Cast, service_settings
from tests.support.engines import Overrides
from tests.support.gateway import PNG, Running
from tests.support.ownership import WHY_NOT_LIVE, Case, Lifetime, OwnedBy, Shown, Who, cases
from tests.support.raw import Answer, Connection, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")


def over_http(case: Case) -> Case:
    """PATCH asks whether they may change the asset before it reads what they want to change."""
    if case.reason is Reason.GUEST_MAY_NOT_PUBLISH and case.lifetime in WHY_NOT_LIVE:
        return replace(case, reason=WHY_NOT_LIVE[case.lifetime])
    return case


CASES: Final = tuple(map(over_http, cases()))
STRANGERS: Final = [Who.ANONYMOUS, Who.GUEST, Who.USER, Who.USER_WITH_COOKIE, Who.SERVICE_WITHOUT_SCOPE]

# What a denial is to its caller.
TOLD: Final = {
    Reason.NO_RULE_ALLOWED: (404, "not_found"),
    Reason.SIGN_IN_REQUIRED: (401, "sign_in_required"),
    Reason.SCOPE_MISSING: (403, "scope_missing"),
    Reason.GUEST_MAY_NOT_PUBLISH: (403, "purpose_not_allowed"),
    Reason.TOKEN_EXPIRED: (403, "token_expired"),
    Reason.TOKEN_REVOKED: (403, "token_invalid"),
    Reason.TOKEN_OF_ANOTHER_USER: (403, "token_invalid"),
    Reason.ASSET_EXPIRED: (410, "asset_expired"),
    Reason.ASSET_DELETED: (410, "asset_deleted"),
    Reason.ASSET_NOT_READY: (404, "not_found"),
}
# What is told to those whom nothing lets in, whatever really decided.
VAGUE: Final = {Reason.NO_RULE_ALLOWED, Reason.SIGN_IN_REQUIRED, Reason.SCOPE_MISSING, Reason.TOKEN_EXPIRED}
BATCHES: Final = {Action.SIGN, Action.RESOLVE}
BODIES: Final = {Action.UPDATE: {"filename": "new.png"}, Action.PUBLISH: {"visibility": "public"}}
METHODS: Final = {
    Action.READ: ("GET", ""),
    Action.SIGN: ("POST", "sign"),
    Action.RESOLVE: ("POST", "resolve"),
    Action.INFO: ("GET", "/info"),
    Action.UPDATE: ("PATCH", ""),
    Action.PUBLISH: ("PATCH", ""),
    Action.DELETE: ("DELETE", ""),
    Action.REVOKE: ("POST", "/revoke"),
}


class Heard(NamedTuple):
    """An answer, and what the log says of it."""

    asset_id: str
    answer: Answer
    reason: str | None


@pytest.fixture(scope="module")
def more_settings() -> Overrides:
    return service_settings()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cast(engines: Running) -> Cast:
    return await Cast.gather(engines)


async def perform(cast: Cast, case: Case, connection: Connection) -> Heard:
    asset_id = await cast.asset(case)
    method, rest = METHODS[case.action]
    target = f"/api/storage/assets/{rest if case.action in BATCHES else asset_id + rest}"
    token = cast.token(case, asset_id)
    body = {
        Action.SIGN: {"assetIds": [asset_id]},
        Action.RESOLVE: {"document": f"asset://{asset_id}"},
        **BODIES,
    }.get(case.action)
    answer = await connection.ask(
        method,
        f"{target}?token={token}" if token else target,
        [*cast.headers(case).items()],
        orjson.dumps(body) if body else b"",
    )
    facts = await cast.gateway.journal.facts(answer.headers["X-Request-Id"])
    return Heard(asset_id, answer, facts["reason"])


def in_place(case: Case) -> bool:
    """In a batch each asset has an answer of its own; that nobody has signed in is said of the whole."""
    return case.action in BATCHES and case.reason is not Reason.SIGN_IN_REQUIRED


def expected(case: Case) -> tuple[int, str | None]:
    """The status and the error code."""
    if case.granted:
        return 200, None
    status, error = TOLD[case.reason]
    if in_place(case):
        return (200 if case.action is Action.SIGN else 422), error
    return status, error


def told(case: Case, answer: Answer, data: bytes = PNG) -> tuple[int, str | None]:
    if case.action is Action.READ and answer.status == 200:
        return 200, None if answer.body == data else "other bytes"
    document = answer.document
    if case.action is Action.SIGN and answer.status == 200:
        return 200, document["data"]["results"][0].get("error")
    if case.action is Action.RESOLVE and answer.status == 422:
        return 422, document["fields"].get("")
    return answer.status, document.get("error")


def logged(case: Case) -> str | None:
    """The reason that the operator reads: what really decided, though the caller is told less."""
    if case.action in BATCHES:
        if not in_place(case):
            return case.reason.value
        return "invalid_request" if case.action is Action.RESOLVE and not case.granted else None
    if case.action is Action.REVOKE and case.granted:
        return None
    hidden = not case.granted and case.reason in VAGUE and case.lifetime in WHY_NOT_LIVE
    return (WHY_NOT_LIVE[case.lifetime] if hidden else case.reason).value


@pytest.mark.parametrize("owner", OwnedBy)
@pytest.mark.parametrize("who", Who)
async def test_each_cell_has_its_answer_and_its_reason(cast: Cast, who: Who, owner: OwnedBy) -> None:
    """Reads are asked twice: what was decided may be remembered, and must be no other then."""
    wrong = {}
    mine = [case for case in CASES if (case.caller, case.owner) == (who, owner)]
    assert mine or owner is not OwnedBy.USER
    async with connected(cast.gateway.url) as connection:
        for case in (each for each in mine for _ in range(2 if each.action is Action.READ else 1)):
            heard = await perform(cast, case, connection)
            found = (*told(case, heard.answer), heard.reason)
            if found != (*expected(case), logged(case)):
                wrong[str(case)] = f"{found}, not {(*expected(case), logged(case))}"
    assert wrong == {}


def shape(heard: Heard) -> tuple[int, frozenset[tuple[str, str]], bytes]:
    """What an answer tells, without what differs in every one: the request's id, the moment, the id that was asked."""
    lines = frozenset((name, value) for name, value in heard.answer.lines if name not in {"X-Request-Id", "Date"})
    request_id = heard.answer.headers["X-Request-Id"].encode()
    body = heard.answer.body.replace(request_id, b"-").replace(heard.asset_id.encode(), b"-")
    return heard.answer.status, lines, body


@pytest.mark.parametrize("who", STRANGERS)
async def test_a_stranger_reads_the_same_words_whatever_there_is(cast: Cast, who: Who) -> None:
    asked = [case for case in CASES if case.caller is who and case.visibility is Visibility.PRIVATE]
    apart = [case for case in asked if case.owner is OwnedBy.SYSTEM or case.lifetime is Lifetime.ABSENT]
    shapes = defaultdict(set)
    async with connected(cast.gateway.url) as connection:
        for case in apart:
            if case.token not in {Shown.VALID, Shown.REVOKED}:  # these tell more: their holders may know
                shapes[case.action, case.token].add(shape(await perform(cast, case, connection)))
    assert len(shapes) == len(Action) - 1 + 3
    assert {asked: found for asked, found in shapes.items() if len(found) > 1} == {}


async def test_head_is_answered_as_get_is(cast: Cast) -> None:
    reads = [case for case in CASES if case.action is Action.READ and case.owner is OwnedBy.GUEST]
    wrong = {}
    async with connected(cast.gateway.url) as connection:
        for case in reads:
            asset_id = await cast.asset(case)
            token = cast.token(case, asset_id)
            target = f"/api/storage/assets/{asset_id}" + (f"?token={token}" if token else "")
            answer = await connection.ask("HEAD", target, [*cast.headers(case).items()])
            if answer.status != expected(case)[0]:
                wrong[str(case)] = answer.status
    assert wrong == {}
