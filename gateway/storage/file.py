"""Objects as files in a folder of this machine: read through memory maps, written whole or not at all."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from gateway.clock import Clock
from gateway.errors import CannotStart, StorageFault, StorageFull, StorageUnavailable
from gateway.resources import path_of
from gateway.settings import Settings
from gateway.storage import Buffer, Sink, Stored, folders
from gateway.storage.drafts import GATHERED, Draft
from gateway.storage.maps import Mapped, Maps, is_same_version
from policies.model import Action, Grant

STEP = 256 * 1024  # bytes of one buffer: large enough to outweigh the loop's work for it, small enough to be fair
RESIDENT_LIMIT = 64 * 1024 * 1024  # bytes; above it, looking at each window costs more than the waiting saved
THREADS = 8  # our own, so that a slow disk does not keep name look-ups waiting

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # the last by a limit on the size of a file

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def open_storage(settings: Settings, clock: Clock) -> FileStorage:
    """Open the folder that `storage = "file:///…"` names (see `path_of`), making it. Raises `CannotStart`."""
    try:
        root = path_of(settings.storage).absolute()
        await asyncio.to_thread(folders.prepare, root)
    except ValueError as error:
        raise CannotStart(f"storage: {error}") from error
    except OSError as error:
        raise CannotStart(f"storage: {root} cannot be written to: {error.strerror}") from error
    return FileStorage(root, clock)


class FileStorage:
    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._drafts = root / folders.DRAFTS
        self._clock = clock
        self._maps = Maps(self._path)
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="storage")
        self._durable = {root}

    @asynccontextmanager
    async def read(self, grant: Grant, wanted: range) -> AsyncIterator[AsyncIterator[Buffer]]:
        with _answered():
            buffers = self._buffers(self._mapped(grant, wanted), wanted)
        try:
            yield buffers
        finally:
            await buffers.aclose()

    def resident(self, grant: Grant, wanted: range) -> memoryview | None:
        if len(wanted) > RESIDENT_LIMIT:
            return None
        try:
            mapped = self._mapped(grant, wanted)
        except (OSError, StorageFault):
            return None  # `read` says what is wrong
        if not mapped.is_present(wanted):
            return None
        return mapped.view[wanted.start : wanted.stop]

    @asynccontextmanager
    async def create(self, key: str, media_type: str) -> AsyncIterator[Sink]:  # noqa: ARG002 - the record has the type
        draft = Draft(self._drafts, self._path(key), self._executor)
        try:
            yield _FileSink(self, key, draft)
        finally:
            await draft.discard()

    async def stat(self, key: str) -> Stored | None:
        with _answered():
            try:
                return folders.stored(key, await self._run(self._path(key).stat))
            except (FileNotFoundError, NotADirectoryError):
                return None

    async def delete(self, keys: Sequence[str]) -> None:
        paths = [self._path(key) for key in keys]
        try:
            # Not synced: should a power cut bring one back, it is an orphan that the sweeper finds.
            with _answered():
                await self._run(folders.unlink, paths)
        finally:
            for key in keys:
                self._maps.forget(key)

    async def list(self, after: str = "") -> AsyncIterator[Stored]:
        waiting: list[str | Stored] = [""]
        while waiting:
            entry = waiting.pop()
            if isinstance(entry, Stored):
                yield entry
                continue
            with _answered():
                waiting += reversed(await self._run(folders.entries, self._root, entry, after))

    async def copy(self, source_key: str, key: str) -> Stored:
        source, offset = self._path(source_key), 0
        async with self.create(key, "") as sink:
            while piece := await self._piece(source, offset):
                await sink.write(piece)
                offset += len(piece)
            return await sink.commit()

    async def discard_unfinished(self, before: float) -> int:
        with _answered():
            return await self._run(folders.unlink_older, self._drafts, before)

    async def close(self) -> None:
        self._maps.clear()
        await asyncio.to_thread(self._executor.shutdown)

    async def place(self, key: str, draft: Draft) -> Stored:
        """Give a finished draft its name; nothing that was mapped under it before is served again."""
        moment = int(self._clock() * 1_000_000_000)
        with _answered():
            facts = await draft.place(moment, self._make_durable)
        self._maps.forget(key)
        return folders.stored(key, facts)

    def _path(self, key: str) -> Path:
        if not folders.is_key(key):
            raise StorageFault("The name of the object is not one of ours")
        return self._root / key

    def _mapped(self, grant: Grant, wanted: range) -> Mapped:
        subject = grant.subject
        if grant.action is not Action.READ:
            raise StorageFault("The grant is for another action")
        try:
            mapped = self._maps.get(subject.locator)
            if subject.version and not is_same_version(mapped.version, subject.version):
                self._maps.forget(subject.locator)  # another process may have written it anew
                mapped = self._maps.get(subject.locator)
        except (FileNotFoundError, NotADirectoryError):
            raise StorageFault("The bytes are missing") from None
        if subject.version and not is_same_version(mapped.version, subject.version):
            raise StorageFault("The bytes are another version")
        if wanted.stop > mapped.size:
            raise StorageFault("Some of the bytes are missing")
        return mapped

    async def _buffers(self, mapped: Mapped, wanted: range) -> AsyncGenerator[memoryview, None]:
        for start in range(wanted.start, wanted.stop, STEP):
            piece = range(start, min(start + STEP, wanted.stop))
            if not mapped.is_present(piece):
                with _answered():
                    await self._run(mapped.load, piece)
            yield mapped.view[piece.start : piece.stop]

    async def _piece(self, path: Path, offset: int) -> bytes:
        with _answered():
            try:
                return await self._run(folders.read_at, path, offset, GATHERED)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise StorageFault("The bytes are missing") from None

    async def _run(self, step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.wrap_future(self._executor.submit(step, *args, **kwargs))

    def _make_durable(self, folder: Path) -> None:
        """Put a folder's entries on the disk, and its own one and those above it the first time that it is used."""
        folders.sync(folder)
        while folder not in self._durable:
            folders.sync(folder.parent)
            self._durable.add(folder)
            folder = folder.parent


class _FileSink:
    def __init__(self, storage: FileStorage, key: str, draft: Draft) -> None:
        self._storage = storage
        self._key = key
        self._draft = draft

    async def write(self, data: Buffer) -> None:
        with _answered():
            await self._draft.write(data)

    async def commit(self) -> Stored:
        return await self._storage.place(self._key, self._draft)


@contextmanager
def _answered() -> Iterator[None]:
    """Turn what the system says into what a client can be told."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull from error
        raise StorageUnavailable from error
