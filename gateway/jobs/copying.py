"""One attempt to copy a media item: fetched, judged by its bytes, stored under the id that it was given."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from gateway.errors import AssetgateError
from gateway.fetching import FetchFailed
from gateway.ingest import Admission, Ingest
from gateway.jobs.filling import SOURCE, Filling, key_of
from gateway.jobs.slots import Slots
from gateway.jobs.sources import Sources
from gateway.jobs.verdicts import WITHDRAWN, Failure, failure_of
from gateway.metadata.task_records import Copy, Tasks
from gateway.model import Asset
from gateway.sniffing import again, head_of, media_type_of
from policies.model import State, Visibility

PURPOSES: Final[Mapping[str, str]] = {  # by what the bytes are
    "image": "generated_image",
    "video": "generated_video",
    "audio": "generated_audio",
}

log = logging.getLogger("assetgate.persist")


class Withdrawn(Exception):
    """The asset was deleted before its bytes came."""


class Copier:
    """Copies; what fails is told as a `Failure`, whoever is to blame."""

    def __init__(self, tasks: Tasks, ingest: Ingest, filling: Filling, sources: Sources, slots: Slots) -> None:
        self._tasks = tasks
        self._ingest = ingest
        self.filling = filling
        self._sources = sources
        self._slots = slots
        self._largest = max(purpose.max_bytes for purpose in ingest.purposes.values())

    async def give_up(self, copy: Copy) -> Asset | None:
        """Take the reserved asset out of service; return it if an attempt has stored it after all."""
        return await self.filling.give_up(copy)

    async def attempt(self, copy: Copy) -> Asset | Failure:
        try:
            return await self._stored(copy)
        except Withdrawn:
            return Failure(WITHDRAWN, "The asset was deleted before its bytes came")
        except (FetchFailed, AssetgateError) as error:
            return failure_of(error)
        except Exception as error:  # one item must not stop the others
            log.exception("an item of task %s could not be copied", copy.task_id)
            return failure_of(error)

    async def _stored(self, copy: Copy) -> Asset:
        """Return the asset of a copy: the one that an earlier attempt stored, or one stored now."""
        asset = await self.filling.reserve(copy)
        if asset.state is State.PENDING:
            asset = await self._fetched(copy) or await self.filling.reserve(copy)
        elif asset.state is State.READY:
            await self.filling.tidy(copy, asset)
        if asset.state is not State.READY:
            raise Withdrawn
        return asset

    async def _fetched(self, copy: Copy) -> Asset | None:
        """Stream the bytes into the storage. None: another attempt did so meanwhile."""
        task = await self._tasks.get(copy.task_id) if copy.task_id and copy.url is None else None
        async with (
            self._slots.of(copy.url),
            self._sources.open(copy, task, self._largest) as chunks,
        ):
            head = await head_of(chunks)
            admission = self._admission(copy, media_type_of(head))
            names = (copy.asset_id, key_of(copy))
            async with self._ingest.stage(again(head, chunks), None, admission, reserved=names) as staged:
                return await self.filling.fill(copy, staged, admission)

    def _admission(self, copy: Copy, media_type: str) -> Admission:
        family = media_type.partition("/")[0]
        name = copy.purpose or PURPOSES.get(family) or PURPOSES["image"]
        return Admission(self._ingest.purposes[name], copy.owner, Visibility(copy.visibility), SOURCE)
