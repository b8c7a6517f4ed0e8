"""Makes one look-up of all that is asked for while another one is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.clock import Clock
from gateway.errors import RecordsUnavailable
from gateway.metadata.driver import Driver
from gateway.metadata.queries import SqlMetadata
from gateway.model import Asset

_WINDOW: Final = 0.003  # seconds that the first one waits for company
_MOST: Final = 1000  # ids in one look-up

Answers = asyncio.Future[dict[str, Asset]]


class Gathered:
    """Look-ups of records, one journey at a time. Who comes while one is under way travels with the next."""

    def __init__(self, look_up: Callable[[Sequence[str]], Awaitable[dict[str, Asset]]]) -> None:
        self._look_up = look_up
        self._waiting: list[tuple[Sequence[str], Answers]] = []
        self._driving: asyncio.Task[None] | None = None

    async def get(self, ids: Sequence[str]) -> dict[str, Asset]:
        answers: Answers = asyncio.get_running_loop().create_future()
        self._waiting.append((ids, answers))
        if self._driving is None:
            self._driving = asyncio.create_task(self._drive())
        found = await answers
        return {asset_id: found[asset_id] for asset_id in ids if asset_id in found}

    async def close(self) -> None:
        if self._driving is not None:
            self._driving.cancel()
            await asyncio.gather(self._driving, return_exceptions=True)

    async def _drive(self) -> None:
        try:
            await asyncio.sleep(_WINDOW)
            while travellers := self._boarded():
                await self._travel(travellers)
        finally:
            self._driving = None
            self._turn_away(self._waiting, RecordsUnavailable())

    def _boarded(self) -> list[tuple[Sequence[str], Answers]]:
        boarded, seats = list[tuple[Sequence[str], Answers]](), _MOST
        while self._waiting and (not boarded or len(self._waiting[0][0]) <= seats):
            ids, answers = self._waiting.pop(0)
            if not answers.done():  # who has left does not travel
                boarded.append((ids, answers))
                seats -= len(ids)
        return boarded

    async def _travel(self, travellers: Sequence[tuple[Sequence[str], Answers]]) -> None:
        wanted = list(dict.fromkeys(asset_id for ids, _ in travellers for asset_id in ids))
        try:
            found = await self._look_up(wanted)
        except asyncio.CancelledError:
            self._turn_away(travellers, RecordsUnavailable())
            raise
        except Exception as trouble:  # noqa: BLE001 - it is those who asked that it is for
            self._turn_away(travellers, trouble)
        else:
            for _, answers in travellers:
                if not answers.done():
                    answers.set_result(found)

    def _turn_away(self, travellers: Sequence[tuple[Sequence[str], Answers]], trouble: Exception) -> None:
        for _, answers in travellers:
            if not answers.done():
                answers.set_exception(trouble)


class GatheringMetadata(SqlMetadata):
    """A store where each statement is a journey of its own, so that look-ups share them."""

    def __init__(self, driver: Driver, clock: Clock) -> None:
        super().__init__(driver, clock)
        self._gathered = Gathered(super().get)

    async def get(self, ids: Sequence[str]) -> dict[str, Asset]:
        return await self._gathered.get(ids) if ids else {}

    async def close(self) -> None:
        await self._gathered.close()
        await super().close()
