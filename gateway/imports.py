"""Takes over files of applications that run their own provider code: noted now, copied as results are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from gateway.clock import Clock, Randomness, milliseconds
from gateway.errors import Unprocessable
from gateway.fetching import FetchFailed
from gateway.fetching.places import judged
from gateway.jobs.bell import Bell
from gateway.jobs.sources import ANY_HOST, IMPORT
from gateway.metadata.task_records import Copies, Copy
from gateway.model import new_asset_id
from gateway.settings import Fetch, Tasks

ROLE_LENGTH: Final = 32  # hex digits of a URL's digest: enough to tell the files of one task apart


@dataclass(frozen=True, slots=True)
class Import:
    """What an application asks for. `task` names it on their side: the same task and URL are one import."""

    service: str
    url: str
    purpose: str
    owner: str
    visibility: str
    task: str | None


class Imports:
    """Notes imports. Any public host is good; the guard of the downloader stays on."""

    def __init__(
        self, copies: Copies, fetch: Fetch, settings: Tasks, clock: Clock, randomness: Randomness, wait: Bell
    ) -> None:
        self._copies = copies
        self._fetch = fetch
        self._settings = settings
        self._clock = clock
        self._randomness = randomness
        self._wait = wait

    async def note(self, wanted: Import) -> Copy:
        """Note an import durably and return it, or the one that there is. Raises `Unprocessable` for a bad URL."""
        try:
            judged(wanted.url, ANY_HOST, allow_http=self._fetch.allow_http)
        except FetchFailed as failed:
            raise Unprocessable(failed.detail, fields={"url": str(failed.reason)}) from None
        now = milliseconds(self._clock())
        task = wanted.task or self._randomness(16).hex()
        copy = Copy(
            id=self._randomness(16).hex(),
            provider=IMPORT,
            provider_task_id=f"{wanted.service}:{task}",
            role=hashlib.sha256(wanted.url.encode()).hexdigest()[:ROLE_LENGTH],
            ordinal=0,
            url=wanted.url,
            owner=wanted.owner,
            purpose=wanted.purpose,
            visibility=wanted.visibility,
            asset_id=new_asset_id(self._randomness),
            created_at=now,
            updated_at=now,
            next_try_at=now,
            retention_ends=now + milliseconds(self._settings.retention),
        )
        noted = await self._copies.add(copy)
        self._wait.ring()
        return noted
