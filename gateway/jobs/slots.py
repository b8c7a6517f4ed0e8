"""How many downloads run at once: in all, and from one host."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from yarl import URL


class Slots:
    """A place for a download. Who waits for a busy host keeps nobody from the others."""

    def __init__(self, at_once: int, per_host: int) -> None:
        self._all = asyncio.Semaphore(at_once)
        self._per_host = per_host
        self._hosts: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def of(self, url: str | None) -> AsyncIterator[None]:
        host = host_of(url)
        self._users[host] += 1
        try:
            async with self._hosts.setdefault(host, asyncio.Semaphore(self._per_host)), self._all:
                yield
        finally:
            self._users[host] -= 1
            if not self._users[host]:
                del self._users[host], self._hosts[host]


def host_of(url: str | None) -> str:
    try:
        return (URL(url).host or "") if url else ""
    except ValueError:
        return ""
