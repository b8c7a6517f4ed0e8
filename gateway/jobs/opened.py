"""The providers that the settings name, opened, and how often each may be called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import ClientSession, DummyCookieJar

from gateway import families
from gateway.clock import Clock
from gateway.providers import Provider
from gateway.settings import Provider as ProviderSettings

CALLS_AT_ONCE: Final = 8  # questions to one provider; creating is not held up by them


class Desk:
    """One provider, and what is known about how it wants to be called."""

    def __init__(self, name: str, provider: Provider) -> None:
        self.name = name
        self.provider = provider
        self.calls = asyncio.Semaphore(CALLS_AT_ONCE)
        self.paused_until = 0.0  # seconds since 1970; after it said 429

    def pause(self, until: float) -> None:
        self.paused_until = max(self.paused_until, until)


class Desks:
    """The providers by name."""

    def __init__(self, desks: Mapping[str, Desk]) -> None:
        self._desks = desks

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._desks))

    def find(self, name: str) -> Desk | None:
        return self._desks.get(name)


@asynccontextmanager
async def open_desks(settings: Mapping[str, ProviderSettings], clock: Clock) -> AsyncIterator[Desks]:
    """Open every provider of the settings. Raises `CannotStart`."""
    members = {name: families.member("providers", name) for name in settings}
    async with ClientSession(cookie_jar=DummyCookieJar()) as session:
        opened = {
            name: Desk(name, module.open_provider(settings[name], clock, session)) for name, module in members.items()
        }
        yield Desks(opened)
