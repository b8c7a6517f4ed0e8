"""What ends a permission ends it for the lane in the same moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import jwt
import pytest

from tests.support.gateway import JWT_SECRET, PNG, Running, guest_headers, running, service_headers, user_headers
from tests.support.raw import ask, connected
from tests.web.express.twins import watched

HOUR = 3600  # seconds
Headers = dict[str, str]


class Reading(NamedTuple):
    """A read that is allowed, and what it takes to end that."""

    path: str
    headers: Headers
    end: Callable[[], Awaitable[None]]


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with running({"server.express": True}) as gateway:
        yield gateway


def of(asset_id: str) -> str:
    return f"/api/storage/assets/{asset_id}"


async def done(gateway: Running, method: str, path: str, headers: Headers, body: bytes = b"") -> None:
    answer = await ask(gateway.url, method, path, [*headers.items(), ("Content-Type", "application/json")], body)
    assert answer.status == 200, answer


async def a_revocation(gateway: Running) -> Reading:
    asset_id = await gateway.asset()
    path = await gateway.sign(asset_id)
    return Reading(path, {}, lambda: done(gateway, "POST", f"{of(asset_id)}/revoke", user_headers()))


async def a_deletion(gateway: Running) -> Reading:
    path = of(await gateway.asset())
    return Reading(path, user_headers(), lambda: done(gateway, "DELETE", path, user_headers()))


async def a_deletion_by_a_service(gateway: Running) -> Reading:
    path = of(await gateway.asset())
    return Reading(path, service_headers(), lambda: done(gateway, "DELETE", path, service_headers()))


async def a_change_of_visibility(gateway: Running) -> Reading:
    path = of(await gateway.asset(visibility="public"))
    return Reading(path, {}, lambda: done(gateway, "PATCH", path, user_headers(), b'{"visibility": "private"}'))


async def a_claim(gateway: Running) -> Reading:
    uploaded = await gateway.upload(("purpose", "reference_image"), ("files", "a.png", PNG))
    guest = guest_headers(uploaded)
    path = of((await uploaded.json())["data"]["assetId"])
    claim = "/api/storage/assets/claim"
    return Reading(path, guest, lambda: done(gateway, "POST", claim, {**user_headers(), **guest}))


async def moved(gateway: Running, seconds: float) -> None:
    gateway.clock.move(seconds)


async def the_end_of_a_token(gateway: Running) -> Reading:
    path = await gateway.sign(await gateway.asset(), expiresInSeconds=HOUR, window=1)
    return Reading(path, {}, lambda: moved(gateway, HOUR + 1))


async def the_end_of_a_jwt(gateway: Running) -> Reading:
    claims = {"sub": "u_1", "exp": int(gateway.clock()) + HOUR}
    headers = {"Authorization": f"Bearer {jwt.encode(claims, JWT_SECRET, 'HS256')}"}
    return Reading(of(await gateway.asset()), headers, lambda: moved(gateway, HOUR))


async def the_end_of_a_guests_asset(gateway: Running) -> Reading:
    uploaded = await gateway.upload(("purpose", "reference_image"), ("files", "a.png", PNG))
    path = of((await uploaded.json())["data"]["assetId"])
    return Reading(path, guest_headers(uploaded), lambda: moved(gateway, 25 * HOUR))


# What ends a read, and the status that it has from then on.
ENDS = [
    (a_revocation, 403),
    (a_deletion, 410),
    (a_deletion_by_a_service, 410),
    (a_change_of_visibility, 404),
    (a_claim, 404),
    (the_end_of_a_token, 403),
    (the_end_of_a_jwt, 401),
    (the_end_of_a_guests_asset, 410),
]


@pytest.mark.parametrize(("begin", "status"), ENDS)
async def test_it_ends_the_reads_of_the_lane(
    gateway: Running, begin: Callable[[Running], Awaitable[Reading]], status: int
) -> None:
    reading = await begin(gateway)
    lines = tuple(reading.headers.items())
    async with connected(gateway.url) as connection:
        with watched() as taken:
            for _ in range(3):
                assert (await connection.ask("GET", reading.path, lines)).status == 200
        assert len(taken.answered) >= 2
        await reading.end()
        with watched() as taken:
            assert (await connection.ask("GET", reading.path, lines)).status == status
        assert taken.answered == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404),
        (user_headers("u_2"), 404),
        ({"Authorization": f"{service_headers()['Authorization']}x"}, 401),
        (service_headers("sign"), 403),
        ({"Authorization": service_headers()["Authorization"].replace("Bearer", "Basic")}, 401),
    ],
    ids=["nobody", "another user", "another key", "a key without the scope", "another scheme"],
)
async def test_what_one_may_read_by_the_lane_another_may_not(gateway: Running, headers: Headers, status: int) -> None:
    path = of(await gateway.asset())
    async with connected(gateway.url) as connection:
        for allowed in (user_headers(), service_headers(), user_headers(), service_headers()):
            assert (await connection.ask("GET", path, tuple(allowed.items()))).status == 200
        assert (await connection.ask("GET", path, tuple(headers.items()))).status == status
