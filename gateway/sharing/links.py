"""Signs the URLs of one request, as cheaply as many at once can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from gateway import tokens
from gateway.clock import iso
from gateway.model import PATH_PREFIX, REF_PREFIX
from gateway.settings import SigningKey
from policies.model import Subject, Token
from policies.purposes import Purpose

DEFAULT_LIFE: Final = 3600.0  # seconds; of an asset whose purpose has left the settings


Answer = dict[str, str]  # as clients read it: `assetId` with `assetRef`, `url` and `expiresAt`, or with `error`


class Terms(NamedTuple):
    """What a request asks of its URLs."""

    life: float | None  # seconds; None is the purpose's
    window: int
    download: str | int | None
    base: str


class Links:
    """Signs for one request: assets with the same times share what signs their claims."""

    def __init__(self, key: SigningKey, purposes: Mapping[str, Purpose], terms: Terms, now: float) -> None:
        self._key = key
        self._purposes = purposes
        self._terms = terms
        self._now = now
        self._prefix = terms.base + PATH_PREFIX
        self._made: dict[tuple[str, int | None, int | None], tuple[Callable[[str], str], str]] = {}

    def link(self, subject: Subject) -> Answer:
        asset_id = subject.asset_id
        kind = (subject.purpose, subject.expires_at, subject.revoked_at)
        sign, expires_at = self._made.get(kind) or self._made.setdefault(kind, self._signer(subject))
        return {
            "assetId": asset_id,
            "assetRef": REF_PREFIX + asset_id,
            "url": f"{self._prefix}{asset_id}?token={sign(asset_id)}",
            "expiresAt": expires_at,
        }

    def _signer(self, subject: Subject) -> tuple[Callable[[str], str], str]:
        """Give what signs for the assets of this kind, and the end of their tokens as clients read it."""
        life, purpose = self._terms.life, self._purposes.get(subject.purpose)
        if life is None:
            life = min(purpose.url_ttl if purpose else DEFAULT_LIFE, tokens.LONGEST_LIFE)
        iat, exp = tokens.stable_times(self._now, life, self._terms.window, subject.revoked_at)
        if subject.expires_at is not None:
            exp = min(exp, subject.expires_at // 1000)
        claims = tokens.encode(Token(iat, exp, self._terms.download))
        return tokens.signer(self._key, claims), iso(exp * 1000)
