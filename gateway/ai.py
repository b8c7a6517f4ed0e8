"""Joins the parts that AI tasks and imports are made of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from gateway.clock import Clock, Randomness
from gateway.fetching import Fetcher
from gateway.imports import Imports
from gateway.ingest import Ingest
from gateway.jobs.asking import Asker
from gateway.jobs.copying import Copier
from gateway.jobs.filling import Filling
from gateway.jobs.inline import Inline
from gateway.jobs.opened import Desks, open_desks
from gateway.jobs.settling import Settler
from gateway.jobs.slots import Slots
from gateway.jobs.sources import Sources
from gateway.metadata import Metadata
from gateway.metrics import Metrics
from gateway.persist import Persister
from gateway.polling import Poller
from gateway.settings import Settings
from gateway.sharing import Sharing
from gateway.storage import Storage
from gateway.tasks import TaskService


@dataclass(frozen=True)
class Ai:
    """What the routes and the work beside the serving need of it."""

    desks: Desks
    tasks: TaskService
    imports: Imports
    persister: Persister
    poller: Poller


@asynccontextmanager
async def open_ai(
    settings: Settings,
    metadata: Metadata,
    storage: Storage,
    ingest: Ingest,
    sharing: Sharing,
    metrics: Metrics,
    clock: Clock,
    randomness: Randomness,
) -> AsyncIterator[Ai]:
    """Open the providers of the settings and what works with them. Raises `CannotStart`."""
    records, terms = metadata.task_records, settings.tasks
    async with AsyncExitStack() as opened:
        desks = await opened.enter_async_context(open_desks(settings.providers, clock))
        fetcher = Fetcher(settings.fetch, clock)
        opened.push_async_callback(fetcher.close)
        inline = Inline(randomness)
        settler = Settler(records, terms, inline, metrics, clock, randomness)
        asker = Asker(desks, settler, terms, clock, randomness)
        copier = Copier(
            records.tasks,
            ingest,
            Filling(metadata, storage, clock),
            Sources(desks, fetcher, inline),
            Slots(terms.copies, terms.copies_per_host),
        )
        persister = Persister(records, copier, inline, settler, terms, metrics, clock, randomness)
        opened.push_async_callback(persister.close)
        poller = Poller(records, asker, terms, clock)
        opened.push_async_callback(asker.close)
        opened.push_async_callback(poller.close)
        tasks = TaskService(
            records, desks, sharing, settler, asker, terms, metrics, clock, randomness, poller.tasks_wait
        )
        opened.push_async_callback(tasks.close, settings.server.drain_timeout)
        imports = Imports(records.copies, settings.fetch, terms, clock, randomness, settler.copies_wait)
        yield Ai(desks, tasks, imports, persister, poller)
