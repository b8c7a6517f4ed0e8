"""Every caller of the ownership matrix made for real, and assets of every owner in every state of their lives."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Final

from gateway.model import Asset
from gateway.tokens import mint
from policies.model import Action, State, Token, Visibility
from tests.support.gateway import PNG, Running, guest_headers, user_headers
from tests.support.ownership import Case, Lifetime, OwnedBy, Shown, Who, cases

HOUR: Final = 3600  # seconds
ABSENT_ID: Final = "ABSENT-0-a-b-c-d-e-f-0-1-2-3-4-5-6-7"
MUTATING: Final = frozenset({Action.UPDATE, Action.PUBLISH, Action.DELETE, Action.REVOKE})
KEYS: Final = sorted({tuple(sorted(case.scopes)) for case in cases() if case.scopes})

Fields = tuple[OwnedBy, Visibility, Lifetime, bool]


def service_settings() -> dict[str, str]:
    """The settings of one service for each set of scopes that the matrix knows."""
    settings = {}
    for number, scopes in enumerate(KEYS):
        settings[f"identity.services.s{number}.key_sha256"] = hashlib.sha256(_key(scopes).encode()).hexdigest()
        settings[f"identity.services.s{number}.scopes"] = ",".join(scopes)
    return settings


def _key(scopes: tuple[str, ...]) -> str:
    return f"ag_matrix-{'-'.join(scopes)}"


class Cast:
    """The callers, with the credentials that they were given, and the assets."""

    def __init__(self, gateway: Running, guest: Mapping[str, str], other: Mapping[str, str], sample: Asset) -> None:
        self.gateway = gateway
        self._sample = sample
        self._headers: dict[Who, dict[str, str]] = {
            Who.ANONYMOUS: {},
            Who.GUEST: dict(guest),
            Who.OTHER_GUEST: dict(other),
            Who.USER: user_headers("u_1"),
            Who.OTHER_USER: user_headers("u_2"),
            Who.USER_WITH_COOKIE: {**user_headers("u_3"), **guest},
        }
        self._owners = {OwnedBy.USER: "user:u_1", OwnedBy.GUEST: sample.owner, OwnedBy.SYSTEM: "system"}
        self._made: dict[Fields, str] = {}
        self._numbers = itertools.count(1)
        self._issued = int(gateway.clock()) - 10

    @classmethod
    async def gather(cls, gateway: Running, data: bytes = PNG) -> Cast:
        """Let two guests in by their uploads; the object of the first, `data`, serves all assets."""
        first = await gateway.upload(("purpose", "reference_image"), ("files", "a.png", data))
        second = await gateway.upload(("purpose", "reference_image"), ("files", "a.png", PNG))
        asset_id = (await first.json())["data"]["assetId"]
        sample = (await gateway.parts.metadata.get([asset_id]))[asset_id]
        return cls(gateway, guest_headers(first), guest_headers(second), sample)

    def headers(self, case: Case) -> dict[str, str]:
        if case.scopes:
            return {"Authorization": f"Bearer {_key(tuple(sorted(case.scopes)))}"}
        return self._headers[case.caller]

    async def asset(self, case: Case) -> str:
        """The id of an asset as the case has it; one of its own when the case would change it."""
        if case.lifetime is Lifetime.ABSENT:
            return ABSENT_ID
        fields = (case.owner, case.visibility, case.lifetime, case.token is Shown.REVOKED)
        if case.granted and case.action in MUTATING:
            return await self._make(fields)
        if fields not in self._made:
            self._made[fields] = await self._make(fields)
        return self._made[fields]

    def token(self, case: Case, asset_id: str) -> str | None:
        """The token that the case shows, signed with the gateway's own key."""
        times = {
            Shown.VALID: Token(self._issued, self._issued + HOUR),
            Shown.REVOKED: Token(self._issued, self._issued + HOUR),
            Shown.EXPIRED: Token(self._issued, int(self.gateway.clock())),
            Shown.FOREIGN: Token(self._issued, self._issued + HOUR, sub="u_9"),
        }
        if case.token is Shown.NONE:
            return None
        return mint(self.gateway.parts.settings.signing.parsed[0], asset_id, times[case.token])

    async def _make(self, fields: Fields) -> str:
        owner, visibility, lifetime, revoked = fields
        now = int(self.gateway.clock() * 1000)
        state, expires_at = {
            Lifetime.READY: (State.READY, None),
            Lifetime.EXPIRING: (State.READY, now + HOUR * 1000),
            Lifetime.PAST: (State.READY, now),
            Lifetime.EXPIRED: (State.EXPIRED, now - HOUR * 1000),
            Lifetime.DELETED: (State.DELETED, None),
            Lifetime.PENDING: (State.PENDING, None),
        }[lifetime]
        asset = Asset(
            id=f"matrix-{next(self._numbers):06}-{'x' * (len(ABSENT_ID) - 14)}",
            owner=self._owners[owner],
            visibility=visibility,
            purpose=self._sample.purpose,
            source="upload",
            state=state,
            media_type=self._sample.media_type,
            size=self._sample.size,
            sha256=self._sample.sha256,
            object_key=self._sample.object_key,
            object_version=self._sample.object_version,
            created_at=now,
            updated_at=now,
            expires_at=expires_at,
            deleted_at=now if state is State.DELETED else None,
            revoked_at=self._issued if revoked else None,
        )
        await self.gateway.parts.metadata.add(asset)
        return asset.id
