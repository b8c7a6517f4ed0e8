"""Objects in a bucket of an S3 service: read by a lean path of our own, everything else by aiobotocore."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError

from gateway.clock import Clock
from gateway.errors import CannotStart, StorageFault
from gateway.settings import S3, Settings
from gateway.storage import Buffer, Landing, Sink, Stored
from gateway.storage.s3_answers import HOPELESS, answered, facts_of, judged, unreached
from gateway.storage.s3_bucket import Bucket
from gateway.storage.s3_connection import Connection
from gateway.storage.s3_place import Endpoint, Place, endpoint_of, parse_place
from gateway.storage.s3_pool import Connect, Pool
from gateway.storage.s3_reads import Current, Reading, Source
from gateway.storage.s3_signing import Credentials, Signer
from gateway.storage.s3_writes import S3Sink
from policies.model import Action, Grant

ANY_REGION = "us-east-1"  # what servers that know no regions, and AWS when nobody names one, expect


async def open_storage(settings: Settings, clock: Clock) -> S3Storage:
    """Open the bucket that `storage = "s3://…"` names, and look into it.

    Raises `CannotStart` for what no waiting would mend, and `StorageUnavailable` when the server is away.
    """
    try:
        place = parse_place(settings.storage)
    except ValueError as error:
        raise CannotStart(f"storage: {error}") from error
    async with AsyncExitStack() as stack:
        session = get_session()
        client = await _open_client(stack, session, place, settings.s3)
        credentials = await _credentials(session)
        endpoint = endpoint_of(place, client.meta.endpoint_url)
        context = _trusted(session, settings.s3) if endpoint.secure else None
        await _look_into(client, place)
        pool = Pool(connector(endpoint, settings.s3, context), settings.s3.read_connections, settings.s3.read_patience)
        stack.push_async_callback(pool.close)
        signer = Signer(endpoint, client.meta.region_name, clock)
        source = Source(pool, signer, credentials, endpoint.host, settings.s3)
        return S3Storage(client, place, source, stack.pop_all())


class S3Storage:
    def __init__(self, client: Any, place: Place, source: Source, stack: AsyncExitStack) -> None:
        self._client = client
        self._name = place.bucket
        self._bucket = Bucket(client, place)
        self._source = source
        self._stack = stack
        self._unsettled: set[asyncio.Task[None]] = set()

    def read(self, grant: Grant, wanted: range) -> AbstractAsyncContextManager[AsyncIterator[Buffer]]:
        return self.read_into(grant, wanted, None)

    def read_into(
        self, grant: Grant, wanted: range, landing: Landing | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Buffer]]:
        key = self._key(grant)
        if not wanted:
            return self._nothing(grant, wanted)
        return Reading(self._source, key, grant.subject.version, wanted, landing)

    @asynccontextmanager
    async def create(self, key: str, media_type: str) -> AsyncIterator[Sink]:
        sink = S3Sink(self._client, self._name, self._bucket.whole(key), media_type, lambda: self.stat(key))
        try:
            yield sink
        finally:
            if not sink.is_settled:
                # Shielded, it runs to its end even if we are cancelled once more while we wait.
                task = asyncio.create_task(sink.discard())
                self._unsettled.add(task)
                task.add_done_callback(self._unsettled.discard)
                await asyncio.shield(task)

    async def stat(self, key: str) -> Stored | None:
        return await self._bucket.stat(key)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._bucket.delete(keys)

    def list(self, after: str = "") -> AsyncIterator[Stored]:
        return self._bucket.list(after)

    async def copy(self, source_key: str, key: str) -> Stored:
        return await self._bucket.copy(source_key, key)

    async def discard_unfinished(self, before: float) -> int:
        return await self._bucket.discard_unfinished(before)

    async def presign(
        self,
        grant: Grant,
        *,
        expires_in: float,
        media_type: str | None = None,
        disposition: str | None = None,
        cache_control: str | None = None,
    ) -> str:
        asked = {"content-type": media_type, "content-disposition": disposition, "cache-control": cache_control}
        headers = {name: value for name, value in asked.items() if value is not None}
        return self._source.signer.url(self._key(grant), await self._source.credentials(), expires_in, headers)

    async def close(self) -> None:
        await asyncio.gather(*self._unsettled, return_exceptions=True)
        await self._stack.aclose()

    def _key(self, grant: Grant) -> str:
        if grant.action is not Action.READ:
            raise StorageFault("The grant is for another action")
        return self._bucket.whole(grant.subject.locator)

    @asynccontextmanager
    async def _nothing(self, grant: Grant, wanted: range) -> AsyncIterator[AsyncIterator[Buffer]]:
        """Look whether the object is there: no range can ask for nothing."""
        stored = await self.stat(grant.subject.locator)
        if stored is None or grant.subject.version not in {"", stored.version} or wanted.stop > stored.size:
            raise StorageFault
        yield _no_buffers()


async def _no_buffers() -> AsyncIterator[Buffer]:
    return
    yield


def connector(endpoint: Endpoint, limits: S3, context: ssl.SSLContext | None) -> Connect:
    """Make the function that connects to the endpoint, for reading. Proxies are not used."""

    async def connect(on_lost: Callable[[Connection], None]) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(limits.connect_timeout):
            _, connection = await loop.create_connection(
                lambda: Connection(on_lost), endpoint.address, endpoint.port, ssl=context
            )
        return connection

    return connect


async def _open_client(stack: AsyncExitStack, session: AioSession, place: Place, limits: S3) -> Any:
    config = AioConfig(
        s3={"addressing_style": place.style},
        connect_timeout=limits.connect_timeout,
        read_timeout=limits.idle_timeout,
        max_pool_connections=limits.write_connections,
        retries={"mode": "standard", "total_max_attempts": limits.attempts},
        # Checksums that are news to many servers; and aiobotocore 3.10 stumbles over one in a 304.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return await stack.enter_async_context(
            session.create_client(
                "s3",
                region_name=place.region or session.get_config_variable("region") or ANY_REGION,
                endpoint_url=place.endpoint_url,
                verify=limits.ca_file,
                config=config,
            )
        )
    except CredentialRetrievalError as error:
        raise unreached(error, "the search for credentials") from error
    except (BotoCoreError, ValueError) as error:
        raise CannotStart(f"storage: {error}") from error


async def _credentials(session: AioSession) -> Current:
    """Find who we are in the usual AWS chain, and return what gives the keys of the moment."""
    with answered("the search for credentials"):
        found = await session.get_credentials()
    if found is None:
        raise CannotStart("storage: no credentials in the AWS environment, profile or instance")

    async def current() -> Credentials:
        try:
            frozen: Credentials = await found.get_frozen_credentials()
        except (BotoCoreError, ClientError, OSError) as error:
            raise unreached(error, "the refreshing of credentials") from error
        return frozen

    return current


async def _look_into(client: Any, place: Place) -> None:
    try:
        await client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix, MaxKeys=1)
    except ClientError as error:
        status, code = facts_of(error)
        if code in HOPELESS:
            region = error.response.get("Error", {}).get("Region", "")
            raise CannotStart(f"storage: {HOPELESS[code]}{f'; it is {region}' if region else ''} ({code})") from error
        raise judged(status, code, "the first look into the bucket") from error
    except (BotoCoreError, OSError) as error:
        raise unreached(error, "the first look into the bucket") from error


def _trusted(session: AioSession, limits: S3) -> ssl.SSLContext:
    file = limits.ca_file or session.get_config_variable("ca_bundle")
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        raise CannotStart(f"s3.ca_file: {file} has no certificates that can be read") from error
