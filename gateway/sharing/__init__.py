"""Signed URLs for those who may share an asset: one, many, or inside a document; and their revocation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gateway import tokens
from gateway.clock import Clock
from gateway.errors import NotFound, Unprocessable, of_denied
from gateway.metadata import Assets
from gateway.model import REF_PREFIX, Asset, is_asset_id
from gateway.settings import SigningKey
from gateway.sharing.documents import OnDenied, copied, errors_by_pointer, resolved
from gateway.sharing.links import Answer, Links, Terms
from policies.engine import decide
from policies.model import Action, Caller, Denied, Grant, Question, Rule
from policies.purposes import Purpose

LARGEST_BATCH: Final = 1000  # assets in one request
LONGEST_NAME: Final = 255  # characters of a download's file name
DEFAULT_WINDOW: Final = 60  # seconds


class Sharing:
    """Signs URLs, resolves references and revokes tokens for callers whom the rules allow it."""

    def __init__(
        self,
        assets: Assets,
        keys: Sequence[SigningKey],
        purposes: Mapping[str, Purpose],
        rules: Sequence[Rule],
        clock: Clock,
    ) -> None:
        self._assets = assets
        self._key = keys[0]
        self._purposes = purposes
        self._rules = rules
        self._clock = clock

    async def sign(
        self,
        caller: Caller,
        asset_ids: Sequence[str],
        *,
        expires_in: float | None = None,
        download: str | bool | None = None,
        window: int = DEFAULT_WINDOW,
        base: str = "",
    ) -> list[dict[str, str]]:
        """Return `assetId` with `assetRef`, `url` and `expiresAt`, or with `error`, for each id in the order asked."""
        if len(asset_ids) > LARGEST_BATCH:
            raise _wrong("assetIds", f"are more than {LARGEST_BATCH}")
        if not 0 <= window <= tokens.LONGEST_WINDOW:
            raise _wrong("window", f"must be from 0 to {tokens.LONGEST_WINDOW} seconds")
        terms = Terms(_life(expires_in), window, _download(download), base)
        answers = await self._answers(caller, Action.SIGN, asset_ids, terms)
        return [_entry(asset_id, answers[asset_id]) for asset_id in asset_ids]

    async def resolve(
        self,
        caller: Caller,
        document: Any,
        *,
        expires_in: float | None = None,
        base: str = "",
        on_denied: OnDenied = "error",
    ) -> Any:
        """Return a copy of any JSON value with signed URLs in the place of its references; keys are left alone.

        A reference counts as a whole string and within a longer one, such as Markdown, where no letter, digit, `_`
        or `-` touches it. Where one is refused, `error` refuses the document and names each place by its JSON Pointer
        (RFC 6901), `null` puts null for a whole string and leaves it within a longer one, `keep` leaves it everywhere.
        """
        terms = Terms(_life(expires_in), DEFAULT_WINDOW, None, base)
        root, places = copied(document)
        wanted = dict.fromkeys(asset_id for place in places for asset_id in place.ids)
        if len(wanted) > LARGEST_BATCH:
            raise _wrong("document", f"refers to more than {LARGEST_BATCH} assets")
        answers = await self._answers(caller, Action.RESOLVE, wanted, terms)
        if on_denied == "error" and (fields := errors_by_pointer(places, answers)):
            raise Unprocessable("The document refers to assets that you may not share", fields=fields)
        for place in places:
            place.holder[place.key] = resolved(place, answers, on_denied)
        return root[0]

    async def revoke(self, caller: Caller, asset_id: str) -> int:
        """Kill every token issued so far; return the second up to which they are dead. Raises `Denied`, `NotFound`."""
        asset = (await self._assets.get([asset_id])).get(asset_id) if is_asset_id(asset_id) else None
        now = self._clock()
        self._decide(caller, Action.REVOKE, asset, now)
        at = int(now)
        if asset is not None and asset.revoked_at is not None:
            # What was minted since a revocation in this same second begins after it. Further ahead than this, new
            # tokens would not verify at once.
            at = min(max(at, asset.revoked_at + 1), at + tokens.LONGEST_LEAD - 1)
        revoked = await self._assets.revoke(asset_id, at)
        if revoked is None or revoked.revoked_at is None:
            raise NotFound  # it went away under our hands
        return revoked.revoked_at

    async def _answers(
        self, caller: Caller, action: Action, asset_ids: Iterable[str], terms: Terms
    ) -> dict[str, Answer]:
        """Decide and sign once for each asset, however often it was asked for."""
        answers: dict[str, Answer] = dict.fromkeys(asset_ids, NotFound.error)
        wanted = [asset_id for asset_id in answers if is_asset_id(asset_id)]
        records = await self._assets.get(wanted) if wanted else {}
        now = self._clock()
        links = Links(self._key, self._purposes, terms, now)
        for asset_id in wanted:
            try:
                grant = self._decide(caller, action, records.get(asset_id), now)
            except Denied as denied:
                answers[asset_id] = of_denied(denied).error
            else:
                answers[asset_id] = links.link(grant.subject)
        return answers

    def _decide(self, caller: Caller, action: Action, asset: Asset | None, now: float) -> Grant:
        return decide(Question(caller, action, asset.subject if asset else None, None, now), self._rules)


def _entry(asset_id: str, answer: Answer) -> dict[str, str]:
    if isinstance(answer, str):
        return {"assetId": asset_id, "error": answer}
    url, expires_at = answer
    return {"assetId": asset_id, "assetRef": REF_PREFIX + asset_id, "url": url, "expiresAt": expires_at}


def _life(expires_in: float | None) -> float | None:
    if expires_in is not None and not 0 < expires_in <= tokens.LONGEST_LIFE:
        raise _wrong("expiresInSeconds", f"must be from 1 to {tokens.LONGEST_LIFE}")
    return expires_in


def _download(wanted: str | bool | None) -> str | int | None:
    if isinstance(wanted, str):
        if not 0 < len(wanted) <= LONGEST_NAME:
            raise _wrong("download", f"must have 1 to {LONGEST_NAME} characters")
        return wanted
    return 1 if wanted else None


def _wrong(field: str, what: str) -> Unprocessable:
    return Unprocessable(f"{field} {what}", fields={field: what})
