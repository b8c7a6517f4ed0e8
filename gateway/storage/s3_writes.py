"""One object on its way into a bucket: put whole when it is small, else in parts of bounded memory."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from gateway.errors import StorageFault, StorageFull
from gateway.storage import Buffer, Stored
from gateway.storage.s3_answers import answered, facts_of, log

PART: Final = 8 * 1024 * 1024  # bytes; three of them are the most that a sink holds: one filling, two under way
UNDER_WAY: Final = 2
MOST_PARTS: Final = 10_000
# R2 wants parts of one size, so they grow only where most of the parts are used up: beyond 39 GiB, and to 523 GiB.
_SAME_SIZE: Final = 5_000
_GROW_EVERY: Final = 1_000
SETTLING: Final = 10.0  # seconds that the end of a request is waited for, whose effect has to be undone

Stat = Callable[[], Awaitable[Stored | None]]


def part_size(number: int) -> int:
    """Return the bytes of the part with this number, counted from 1."""
    return PART << max(0, (number - 1 - _SAME_SIZE) // _GROW_EVERY + 1)


class S3Sink:
    """Until `commit` nothing is visible, because neither a small object nor the end of the parts has been sent."""

    def __init__(self, client: Any, bucket: str, key: str, media_type: str, stat: Stat) -> None:
        self._client = client
        self._named = {"Bucket": bucket, "Key": key}
        self._media_type = media_type
        self._stat = stat
        self._gathered = io.BytesIO()
        self._size = 0
        self._upload: dict[str, Any] | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._parts: dict[int, str] = {}
        self._number = 1  # of the part that is being gathered
        self._deciding: asyncio.Task[None] | None = None  # what must be known before anything can be undone
        self._may_be_visible = False
        self._told = False

    async def write(self, data: Buffer) -> None:
        with memoryview(data) as view:
            taken = 0
            while taken < len(view):
                room = part_size(self._number) - self._gathered.tell()
                taken += self._gathered.write(view[taken : taken + room])
                if self._gathered.tell() == part_size(self._number):
                    await self._send_part()
        self._size += len(data)

    async def commit(self) -> Stored:
        with answered("the end of a write"):
            if self._upload is None:
                await self._decide(self._put_whole(), is_visible=True)
            else:
                if self._gathered.tell():
                    await self._send_part()
                await self._wait_for_parts(0)
                await self._decide(self._complete(), is_visible=True)
        stored = await self._stat()
        if stored is None or stored.size != self._size:
            log.error("The storage kept %s bytes of an object of %d", stored and stored.size, self._size)
            raise StorageFault
        self._told = True
        return stored

    @property
    def is_settled(self) -> bool:
        """Tell whether there is nothing to undo."""
        return self._told or self._deciding is None

    async def discard(self) -> None:
        """Undo what was begun and not committed, as far as the server lets us; the sweeper finds the rest."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        if self._deciding is not None:
            # Its outcome first: an upload that has no name yet, or an object that appears after its deletion, stays.
            await asyncio.wait([self._deciding], timeout=SETTLING)
            self._deciding.cancel()
            await asyncio.gather(self._deciding, return_exceptions=True)
        if self._upload is not None:
            with suppress(ClientError, BotoCoreError, OSError):  # NoSuchUpload: it was completed
                await self._client.abort_multipart_upload(**self._upload)
        if self._may_be_visible:
            with suppress(ClientError, BotoCoreError, OSError):
                await self._client.delete_object(**self._named)

    async def _send_part(self) -> None:
        if self._number > MOST_PARTS:
            raise StorageFull("The object is larger than the storage takes")
        with answered("a write"):
            if self._upload is None:
                await self._decide(self._begin(), is_visible=False)
            body, self._gathered = self._gathered, io.BytesIO()
            await self._wait_for_parts(UNDER_WAY - 1)
            self._under_way.add(asyncio.create_task(self._put_part(self._number, body)))
            self._number += 1

    async def _wait_for_parts(self, most: int) -> None:
        while len(self._under_way) > most:
            done, self._under_way = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            for failure in [task.exception() for task in done]:
                if failure is not None:
                    raise failure

    async def _decide(self, step: Coroutine[Any, Any, None], *, is_visible: bool) -> None:
        # Shielded: who cancels us must not leave us without knowing what the server did.
        self._may_be_visible = is_visible
        self._deciding = asyncio.create_task(step)
        await asyncio.shield(self._deciding)

    async def _put_whole(self) -> None:
        self._gathered.seek(0)
        await self._client.put_object(**self._named, Body=self._gathered, ContentType=self._media_type)

    async def _begin(self) -> None:
        begun = await self._client.create_multipart_upload(**self._named, ContentType=self._media_type)
        self._upload = {**self._named, "UploadId": begun["UploadId"]}

    async def _put_part(self, number: int, body: io.BytesIO) -> None:
        body.seek(0)
        answer = await self._client.upload_part(**self._upload or {}, PartNumber=number, Body=body)
        self._parts[number] = answer["ETag"]

    async def _complete(self) -> None:
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(self._parts.items())]
        try:
            await self._client.complete_multipart_upload(**self._upload or {}, MultipartUpload={"Parts": parts})
        except ClientError as error:
            # Said to the second attempt when the answer to the first was lost; `commit` looks at what is there.
            if facts_of(error)[1] != "NoSuchUpload":
                raise
