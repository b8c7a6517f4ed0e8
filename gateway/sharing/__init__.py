"""Signed URLs for those who may share an asset: one, many, or inside a document; and their revocation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gateway import tokens
from gateway.clock import Clock
from gateway.errors import NotFound, Unprocessable, of_denied
from gateway.metadata import Assets
from gateway.model import ASSET_ID, is_asset_id
from gateway.settings import SigningKey
from gateway.sharing.documents import OnDenied, copied, errors_by_pointer, resolved
from gateway.sharing.links import Answer, Links, Terms
from policies.engine import weigh
from policies.model import Action, Caller, Denied, Question, Rule
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
    ) -> list[Answer]:
        """Return what is answered of each id, in the order asked."""
        if len(asset_ids) > LARGEST_BATCH:
            raise _wrong("assetIds", f"are more than {LARGEST_BATCH}")
        if not 0 <= window <= tokens.LONGEST_WINDOW:
            raise _wrong("window", f"must be from 0 to {tokens.LONGEST_WINDOW} seconds")
        terms = Terms(_life(expires_in), window, _download(download), base)
        answers = await self._answers(caller, Action.SIGN, asset_ids, terms)
        return [answers.get(asset_id) or _refusal(asset_id, NotFound.error) for asset_id in asset_ids]

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
        weigh(Question(caller, Action.REVOKE, asset.subject if asset else None, None, now), self._rules)
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
        """Decide and sign once for each that can be an asset's id, however often it was asked for."""
        answers: dict[str, Answer] = {}
        wanted = [*filter(ASSET_ID.match, dict.fromkeys(asset_ids))]
        records = await self._assets.get(wanted) if wanted else {}
        now, rules = self._clock(), self._rules
        links = Links(self._key, self._purposes, terms, now)
        for asset_id in wanted:
            asset = records.get(asset_id)
            try:
                subject, _, _ = weigh(Question(caller, action, asset.subject if asset else None, None, now), rules)
            except Denied as denied:
                answers[asset_id] = _refusal(asset_id, of_denied(denied).error)
            else:
                answers[asset_id] = links.link(subject)
        return answers


def _refusal(asset_id: str, error: str) -> Answer:
    return {"assetId": asset_id, "error": error}


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
