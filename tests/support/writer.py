"""A process that writes objects into a folder until it is killed."""

from __future__ import annotations

import asyncio
import itertools
from multiprocessing.connection import Connection

from gateway.clock import system_clock
from gateway.storage.file import open_storage
from tests.support.storage import content, put, settings_for

SIZE = 3 * 1024 * 1024 + 11


def write_forever(folder: str, events: Connection) -> None:
    asyncio.run(_write_forever(folder, events))


async def _write_forever(folder: str, events: Connection) -> None:
    storage = await open_storage(settings_for(f"file:///{folder}"), system_clock)
    events.send("began")
    for number in itertools.count():
        key = f"{number:02x}/object-{number}"
        await put(storage, key, content(key, SIZE))
        events.send(key)
