"""Where the bytes of a media item come from: its URL, a fresh one, the provider's answer itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from gateway.fetching import Fetcher, FetchFailed, Reason
from gateway.jobs.asking import handle_of
from gateway.jobs.inline import Inline
from gateway.jobs.opened import Desk, Desks
from gateway.metadata.task_records import Copy, Task
from gateway.providers import MediaItem, ProviderError, ProviderUnavailable, Relinking

IMPORT: Final = "import"  # stands for the provider of what an application asks to import
ANY_HOST: Final = ("*",)
STEP: Final = 256 * 1024  # bytes of one piece of what is in memory already
_REFUSED: Final = (Reason.FORBIDDEN, Reason.NOT_FOUND)


class Sources:
    """Opens the bytes of copies. Credentials go along where the provider says so; they are never stored."""

    def __init__(self, desks: Desks, fetcher: Fetcher, inline: Inline) -> None:
        self._desks = desks
        self._fetcher = fetcher
        self._inline = inline

    @asynccontextmanager
    async def open(self, copy: Copy, task: Task | None, max_bytes: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open the bytes. Raises `FetchFailed`, whoever is to blame."""
        async with AsyncExitStack() as stack:
            held = self._inline.find(copy)
            if held is not None:
                yield _pieces(held)
            elif copy.provider == IMPORT:
                yield await self._fetch(stack, copy.url or "", ANY_HOST, {}, copy, max_bytes)
            else:
                yield await self._of_provider(stack, copy, task, max_bytes)

    async def _of_provider(
        self, stack: AsyncExitStack, copy: Copy, task: Task | None, max_bytes: int
    ) -> AsyncIterator[bytes]:
        desk = self._desks.find(copy.provider)
        if desk is None:
            raise FetchFailed(Reason.UNAVAILABLE, "The provider is not in the settings any more")
        if copy.url is None:
            item = await self._asked_again(copy, task, desk)
            if item.inline is not None:
                return _pieces(item.inline)
            return await self._fetch_of(desk, stack, item.url or "", copy, max_bytes)
        return await self._fetch_of(desk, stack, copy.url, copy, max_bytes)

    async def _fetch_of(
        self, desk: Desk, stack: AsyncExitStack, url: str, copy: Copy, max_bytes: int
    ) -> AsyncIterator[bytes]:
        """Fetch a result; refused, once more as the provider has it for this case."""
        provider = desk.provider
        hosts, headers = provider.result_hosts, provider.fetch_headers(url)
        try:
            return await self._fetch(stack, url, hosts, headers, copy, max_bytes)
        except FetchFailed as failed:
            if failed.reason not in _REFUSED:
                raise
            armed = provider.fetch_headers(url, refused=True)
            if failed.reason is Reason.FORBIDDEN and armed != headers:
                return await self._fetch(stack, url, hosts, armed, copy, max_bytes)
            if not isinstance(provider, Relinking):
                raise
            try:
                fresh = await provider.relink(url)
            except ProviderError:
                raise failed from None
            return await self._fetch(stack, fresh.url, fresh.hosts, {}, copy, max_bytes)

    async def _fetch(
        self,
        stack: AsyncExitStack,
        url: str,
        hosts: Sequence[str],
        headers: Mapping[str, str],
        copy: Copy,
        max_bytes: int,
    ) -> AsyncIterator[bytes]:
        deadline = copy.retention_ends / 1000
        opening = self._fetcher.open(url, hosts=hosts, headers=headers, max_bytes=max_bytes, deadline=deadline)
        fetched = await stack.enter_async_context(opening)
        return fetched.chunks

    async def _asked_again(self, copy: Copy, task: Task | None, desk: Desk) -> MediaItem:
        """Have the provider repeat the answer that held the bytes, for the worker that held them is gone."""
        lost = FetchFailed(Reason.NOT_FOUND, "The file came with an answer that the provider does not repeat")
        if task is None or task.provider_task_id is None:
            raise lost
        try:
            job = await desk.provider.query(handle_of(task))
        except ProviderUnavailable as away:
            raise FetchFailed(
                Reason.UNAVAILABLE, "The provider does not answer", retry_after=away.retry_after
            ) from away
        except ProviderError:
            raise lost from None
        for item in job.media:
            if (item.role, item.ordinal) == (copy.role, copy.ordinal):
                return item
        raise lost


async def _pieces(content: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(content), STEP):
        yield content[start : start + STEP]
