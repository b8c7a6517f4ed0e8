"""Our part of a bucket, by aiobotocore: everything but reading and writing an object's bytes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from gateway.errors import StorageFault, StorageUnavailable
from gateway.storage import Stored
from gateway.storage.folders import is_key
from gateway.storage.s3_answers import answered, facts_of, judged, log
from gateway.storage.s3_place import Place

DELETED_AT_ONCE: Final = 1000  # the most that one request may name
COPIED_AT_ONCE: Final = 1024 * 1024 * 1024  # bytes; a request may copy five times that, but takes its time
LONGEST_KEY: Final = 1024  # bytes
_MISSING: Final = 404
_PASSING: Final = {"InternalError", "ServiceUnavailable", "SlowDown"}


class Bucket:
    """Keys here are those of the port; the prefix is put before them, and taken off, in this class alone."""

    def __init__(self, client: Any, place: Place) -> None:
        self._client = client
        self._bucket = place.bucket
        self._prefix = place.prefix
        client.meta.events.register("before-call.s3.DeleteObjects", _digest_by_md5)

    def whole(self, key: str) -> str:
        """Return the key with its prefix. Raises `StorageFault` for what is no key of ours."""
        whole = self._prefix + key
        if not is_key(key) or len(whole.encode()) > LONGEST_KEY:
            raise StorageFault("The name of the object is not one of ours")
        return whole

    async def stat(self, key: str) -> Stored | None:
        facts = await self._head(key)
        if facts is None:
            return None
        return _stored(key, facts["ContentLength"], facts)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete in batches. Raises after the last when any key stayed, so that one cannot hold up the others."""
        whole = [self.whole(key) for key in dict.fromkeys(keys)]
        failed: list[str] = []
        for start in range(0, len(whole), DELETED_AT_ONCE):
            batch = [{"Key": key} for key in whole[start : start + DELETED_AT_ONCE]]
            with answered("a deletion"):
                answer = await self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True}
                )
            failed += [str(error.get("Code", "")) for error in answer.get("Errors", ())]
        failed = [code for code in failed if code != "NoSuchKey"]
        if failed:
            log.warning(
                "The storage kept %d of %d objects: %s", len(failed), len(whole), ", ".join(sorted(set(failed)))
            )
            raise StorageUnavailable if set(failed) <= _PASSING else StorageFault

    async def list(self, after: str) -> AsyncIterator[Stored]:
        start = {"StartAfter": self._prefix + after} if self._prefix + after else {}
        asked: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix, **start}
        last = after
        while True:
            with answered("a list"):
                page = await self._client.list_objects_v2(**asked)
            for facts in page.get("Contents", ()):
                key = str(facts["Key"]).removeprefix(self._prefix)
                if key <= after or not is_key(key):
                    continue  # a server without StartAfter; the mark of a folder
                if key <= last:
                    # The sweeper merges this with the records: in another order it would take all for lost.
                    log.error("The storage does not list its objects in order: %r after %r", key, last)
                    raise StorageFault
                last = key
                yield _stored(key, facts["Size"], facts)
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    async def copy(self, source_key: str, key: str) -> Stored:
        facts = await self._head(source_key)
        if facts is None:
            raise StorageFault("The bytes are missing")
        source = {
            "CopySource": {"Bucket": self._bucket, "Key": self.whole(source_key)},
            "CopySourceIfMatch": facts["ETag"],
        }
        named = {"Bucket": self._bucket, "Key": self.whole(key)}
        with answered("a copy"):
            if facts["ContentLength"] <= COPIED_AT_ONCE:
                await self._client.copy_object(**named, **source)
            else:
                await self._copy_in_parts(named, source, facts)
        stored = await self.stat(key)
        if stored is None or stored.size != facts["ContentLength"]:
            raise StorageFault
        return stored

    async def discard_unfinished(self, before: float) -> int:
        asked: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix}
        discarded = 0
        while True:
            with answered("a list of uploads"):
                page = await self._client.list_multipart_uploads(**asked)
            for upload in page.get("Uploads", ()):
                if upload["Initiated"].timestamp() < before:
                    discarded += await self._abort(upload["Key"], upload["UploadId"])
            if not page.get("IsTruncated"):
                return discarded
            asked |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def _abort(self, whole: str, upload_id: str) -> bool:
        """Abort an upload; return whether it was still there."""
        try:
            await self._client.abort_multipart_upload(Bucket=self._bucket, Key=whole, UploadId=upload_id)
        except ClientError as error:
            status, code = facts_of(error)
            if status != _MISSING:
                raise judged(status, code, "the end of an abandoned upload") from error
            return False
        return True

    async def _head(self, key: str) -> Mapping[str, Any] | None:
        with answered("a look"):
            try:
                facts: Mapping[str, Any] = await self._client.head_object(Bucket=self._bucket, Key=self.whole(key))
            except ClientError as error:
                if facts_of(error)[0] == _MISSING:
                    return None
                raise
        return facts

    async def _copy_in_parts(
        self, named: Mapping[str, str], source: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> None:
        size = facts["ContentLength"]
        begun = await self._client.create_multipart_upload(**named, ContentType=facts["ContentType"])
        upload = {**named, "UploadId": begun["UploadId"]}
        parts = []
        try:
            for number, start in enumerate(range(0, size, COPIED_AT_ONCE), start=1):
                wanted = f"bytes={start}-{min(start + COPIED_AT_ONCE, size) - 1}"
                copied = await self._client.upload_part_copy(
                    **upload, **source, PartNumber=number, CopySourceRange=wanted
                )
                parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
            await self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            with suppress(ClientError, BotoCoreError, OSError):  # the sweeper comes by as well
                await self._client.abort_multipart_upload(**upload)
            raise


def _stored(key: str, size: int, facts: Mapping[str, Any]) -> Stored:
    # Whole seconds: that is all that HEAD tells, while a list is more precise at some services.
    return Stored(key, size, str(facts["ETag"]).strip('"'), float(int(facts["LastModified"].timestamp())))


def _digest_by_md5(params: dict[str, Any], **_: Any) -> None:
    """Digest the list of keys as every S3 service wants it; botocore's CRC32 is news to many."""
    params["context"].get("checksum", {}).pop("request_algorithm", None)
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
