"""Reads by the lean path: repeated before the first byte, taken up again after it, and never of two versions."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NoReturn, Self

from gateway.errors import StorageFault, StorageUnavailable, Unavailable
from gateway.settings import S3
from gateway.storage import Buffer, Landing
from gateway.storage.s3_answers import is_passing, judged, log, unreached
from gateway.storage.s3_connection import Answer, Broken, Connection, Nonsense
from gateway.storage.s3_pool import Pool
from gateway.storage.s3_signing import Credentials, Signer

RESUMPTIONS: Final = 8  # of one read: more is no hiccup, and a server that breaks after each byte has an end
AT_ONCE: Final = 3  # repetitions without a pause, for what is no fault of the server's
LONGEST_PAUSE: Final = 5.0  # seconds between two attempts
_FOR_A_CODE: Final = 1.0  # seconds between two pieces of an error's body; its status is known already
_LONGEST_ERROR: Final = 16 * 1024  # bytes read of an error's body
_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
_VERSION: Final = re.compile(r"[!#-~]*\Z")  # RFC 9110, section 8.8.3: what may stand within an ETag's quotes
_OK, _PARTIAL = 200, 206
_MAYBE_STALE: Final = {400, 401, 403}  # what a signature gets that is past its time

Current = Callable[[], Awaitable[Credentials]]


class _Again(Exception):
    """The attempt failed as one that may be repeated; `error` is what the last of them ends with."""

    def __init__(self, error: Unavailable, *, at_once: bool = False) -> None:
        super().__init__()
        self.error = error
        self.at_once = at_once


@dataclass(frozen=True, slots=True)
class Source:
    """What all reads of one bucket share."""

    pool: Pool
    signer: Signer
    credentials: Current
    host: str
    limits: S3


class Reading:
    """The bytes `wanted` of one object, some at least: entered, an iterator over buffers as they were received.

    Entering waits for the head of an answer that is what was asked for; it raises the errors of the storage. Leaving
    frees the place of the connection at once, and waits until what cannot be used again is closed.

    Most of them lie where `landing` has room for them.
    """

    def __init__(self, source: Source, key: str, version: str, wanted: range, landing: Landing | None = None) -> None:
        if not _VERSION.match(version):
            raise StorageFault("The version of the object is none of ours")
        self._source = source
        self._key = key
        self._version = version
        self._at = wanted.start
        self._stop = wanted.stop
        self._landing = landing
        self._connection: Connection | None = None
        self._resumptions = 0
        self._signed_anew = False

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        connection = self._connection
        self._at = self._stop
        self._give_back()
        if connection is not None and not connection.is_reusable:
            await connection.closed

    async def _open(self) -> None:
        limits, attempt, at_once = self._source.limits, 1, AT_ONCE
        while True:
            try:
                return await self._attempt()
            except _Again as failure:
                if failure.at_once and at_once > 0:
                    at_once -= 1
                    continue
                if attempt >= limits.attempts:
                    raise failure.error from failure.__cause__
                await asyncio.sleep(_pause(limits.retry_delay, attempt))
                attempt += 1

    def __aiter__(self) -> Reading:
        return self

    async def __anext__(self) -> Buffer:
        if self._at >= self._stop:
            raise StopAsyncIteration
        while (buffer := await self._next()) is None:
            await self._resume()
        self._at += len(buffer)
        if self._at >= self._stop:
            self._give_back()  # before the consumer is done with the last piece
        if self._at > self._stop:
            raise StorageFault("The storage sent more than was asked for")
        return buffer

    async def _next(self) -> Buffer | None:
        """Return the next piece, or None when the answer ended before its time."""
        assert self._connection is not None  # noqa: S101 - opened, and not at the end
        try:
            return await self._connection.take(self._source.limits.idle_timeout)
        except Broken:
            return None
        except TimeoutError as late:
            raise unreached(late, "a read under way") from late
        except Nonsense:
            log.warning("The storage sent no HTTP in the middle of a read")
            raise StorageFault from None

    async def _resume(self) -> None:
        self._give_back()
        self._resumptions += 1
        if self._resumptions > RESUMPTIONS or not self._version:
            # Without a version nothing proves that the rest belongs to what was sent.
            log.warning("A read broke off %d bytes before its end", self._stop - self._at)
            raise StorageUnavailable
        await self._open()

    async def _attempt(self) -> None:
        """Ask once. Whatever goes wrong, the connection's place is free afterwards."""
        request = await self._request()
        connection = self._connection = await self._connect()
        try:
            answer = await self._ask(connection, request)
            if answer.status not in {_OK, _PARTIAL}:
                await self._refuse(connection, answer)
            self._check(answer)
            if self._landing is not None:
                connection.land(self._landing, self._at)
        except BaseException:
            self._give_back()
            if not connection.is_reusable:
                await connection.closed
            raise

    async def _request(self) -> bytes:
        source = self._source
        target = source.signer.target(self._key, await source.credentials())
        match = f'If-Match: "{self._version}"\r\n' if self._version else ""
        return (
            f"GET {target} HTTP/1.1\r\nHost: {source.host}\r\nRange: bytes={self._at}-{self._stop - 1}\r\n"
            f"{match}Accept-Encoding: identity\r\nUser-Agent: assetgate\r\n\r\n"
        ).encode("ascii")

    async def _connect(self) -> Connection:
        try:
            return await self._source.pool.get()
        except OSError as error:
            trouble = unreached(error, "a read's connection")
            if isinstance(trouble, StorageUnavailable):
                raise _Again(trouble) from error
            raise trouble from error

    async def _ask(self, connection: Connection, request: bytes) -> Answer:
        try:
            return await connection.ask(request, self._source.limits.answer_timeout)
        except Broken as broken:
            is_stale = connection.is_reused and not broken.begun
            if is_stale:
                self._source.pool.drop_idle()
            raise _Again(StorageUnavailable(), at_once=is_stale) from broken
        except TimeoutError as late:
            raise unreached(late, "a read") from late
        except Nonsense:
            log.warning("What the storage sent is no HTTP")
            raise StorageFault from None

    async def _refuse(self, connection: Connection, answer: Answer) -> NoReturn:
        code = await self._code(connection, answer)
        region = answer.headers.get(b"x-amz-bucket-region", b"").decode("latin-1")
        error = judged(answer.status, code, f"a read of {self._key}", region)
        if is_passing(answer.status):
            raise _Again(error)
        if answer.status in _MAYBE_STALE and not self._signed_anew:
            self._signed_anew = True
            self._source.signer.forget(self._key)
            raise _Again(error, at_once=True)
        raise error

    async def _code(self, connection: Connection, answer: Answer) -> str:
        """Read the code in a short error's body, which leaves the connection usable; of a longer one, none."""
        if (answer.number(b"content-length") or 0) > _LONGEST_ERROR:
            return ""
        body = b""
        try:
            while len(body) <= _LONGEST_ERROR and (piece := await connection.take(_FOR_A_CODE)):
                body += piece
        except (Broken, Nonsense, TimeoutError):
            pass  # the status says enough
        found = _CODE.search(body)
        return found[1].decode() if found else ""

    def _check(self, answer: Answer) -> None:
        """Make sure that the answer is what was asked for, byte by byte. Raises `StorageFault`."""
        length = answer.number(b"content-length")
        if answer.status == _PARTIAL:
            expected = b"bytes %d-%d/" % (self._at, self._stop - 1)
            is_asked = answer.headers.get(b"content-range", b"").startswith(expected)
            is_asked &= length in {None, self._stop - self._at}
        else:
            is_asked = self._at == 0 and length == self._stop
        if not is_asked:
            log.warning("The storage answered another range of %s than was asked for", self._key)
            raise StorageFault("The storage does not have these bytes")
        version = answer.headers.get(b"etag", b"").decode("latin-1").strip('"')
        if self._version and version != self._version:
            log.warning("The storage answered another version of %s than was asked for", self._key)
            raise StorageFault("The bytes are another version")
        if _VERSION.match(version):
            self._version = version

    def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._source.pool.give_back(connection)


def _pause(delay: float, attempt: int) -> float:
    """Return seconds that grow with the attempt; the half by chance keeps readers from coming back together."""
    longest: float = min(delay * 2 ** (attempt - 1), LONGEST_PAUSE)
    return longest * (0.5 + random.random() / 2)  # noqa: S311 - nothing depends on it being secret
