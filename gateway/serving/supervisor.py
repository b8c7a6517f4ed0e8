"""Keeps the workers of one gateway running: restarts what crashes, reloads on SIGHUP, drains on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from prometheus_client import multiprocess

from gateway.errors import CannotStart
from gateway.settings import Server

FIRST_PAUSE: Final = 0.1  # seconds before a crashed worker is started again; doubles while it keeps crashing
LONGEST_PAUSE: Final = 5.0  # seconds
SETTLED: Final = 10.0  # seconds after which a crash counts as the first again
GRACE: Final = 5.0  # seconds beyond the drain before a worker is killed
METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own name
READY: Final = b"ready\n"

log = logging.getLogger("assetgate.supervisor")


@dataclass(eq=False)
class Worker:
    """One worker process, in its slot."""

    slot: int
    process: asyncio.subprocess.Process
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: bool = False


class Supervisor:
    """Runs `server.workers` processes, one a listening socket."""

    def __init__(self, config: Path | None, server: Server, sockets: Sequence[socket.socket]) -> None:
        self._config = config
        self._server = server
        self._sockets = sockets
        self._workers: set[Worker] = set()
        self._watching: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Run until SIGTERM or SIGINT. Raises `CannotStart` when a worker cannot even start once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._keep(self._reload()))
        with TemporaryDirectory(prefix="assetgate-metrics-") as folder:
            os.environ[METRICS] = folder
            try:
                first = [await self._start(slot) for slot in range(len(self._sockets))]
                await self._all_ready(first)
                ready()
                await self._stopping.wait()
            finally:
                await self._stop(list(self._workers))

    async def _start(self, slot: int, pause: float = FIRST_PAUSE) -> Worker:
        reading, writing = os.pipe()
        listening = self._sockets[slot].fileno()
        config = ["--config", str(self._config)] if self._config else []
        options = ["--slot", str(slot), "--listening", str(listening), "--ready", str(writing)]
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", *config, "serve", *options, pass_fds=(listening, writing)
            )
        finally:
            os.close(writing)
        worker = Worker(slot, process)
        self._workers.add(worker)
        self._keep(self._await_ready(worker, reading))
        self._keep(self._watch(worker, pause))
        return worker

    async def _await_ready(self, worker: Worker, pipe: int) -> None:
        loop = asyncio.get_running_loop()
        with os.fdopen(pipe, "rb", buffering=0) as file:
            readable = asyncio.Event()
            loop.add_reader(file, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(file)
            if file.read(len(READY)) == READY:
                worker.ready.set()

    async def _watch(self, worker: Worker, pause: float) -> None:
        """Wait for a worker's end; one that was not asked to leave is followed by another."""
        began = asyncio.get_running_loop().time()
        code = await worker.process.wait()
        self._workers.discard(worker)
        multiprocess.mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]
        if worker.leaving or self._stopping.is_set():
            return
        log.error("worker %d ended with %d; starting another", worker.slot, code)
        lived = asyncio.get_running_loop().time() - began
        pause = FIRST_PAUSE if lived > SETTLED else pause
        await asyncio.sleep(pause)
        if not self._stopping.is_set():
            await self._start(worker.slot, min(pause * 2, LONGEST_PAUSE))

    async def _reload(self) -> None:
        """Start a new worker in every slot, and let the old ones drain once it is ready: no connection is refused."""
        old = list(self._workers)
        new = [await self._start(slot) for slot in range(len(self._sockets))]
        await asyncio.wait([asyncio.create_task(worker.ready.wait()) for worker in new], timeout=GRACE * 2)
        if not all(worker.ready.is_set() for worker in new):
            log.error("the new workers did not start; the old ones go on")
            await self._stop(new)
            return
        await self._stop(old)

    async def _all_ready(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            waits = [asyncio.create_task(wait()) for wait in (worker.ready.wait, worker.process.wait)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if not worker.ready.is_set():
                self._stopping.set()
                raise CannotStart(f"server.workers: worker {worker.slot} did not start; what it said stands above")

    async def _stop(self, workers: Sequence[Worker]) -> None:
        """Ask workers to drain, and end what does not."""
        for worker in workers:
            worker.leaving = True
            if worker.process.returncode is None:
                worker.process.terminate()
        ends = [asyncio.create_task(worker.process.wait()) for worker in workers]
        if not ends:
            return
        _, late = await asyncio.wait(ends, timeout=self._server.drain_timeout + GRACE)
        if late:
            for worker in workers:
                if worker.process.returncode is None:
                    log.warning("worker %d did not drain in time", worker.slot)
                    worker.process.kill()
            await asyncio.wait(late)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside, and hold on to its task while it runs."""
        task = asyncio.create_task(work)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
