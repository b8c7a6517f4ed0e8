"""What is counted, for Prometheus."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_DECISION_BUCKETS = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)  # seconds


class Registry(CollectorRegistry):
    """Counters of which some are told late: who tells them is in `late`, and called before anybody reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[Callable[[], None]] = []

    def collect(self) -> Iterable[Metric]:
        self.settle()
        return super().collect()

    def settle(self) -> None:
        for tell in self.late:
            tell()


class Times(Histogram):
    """A histogram of seconds that takes many at once."""

    def observe_all(self, seconds: Sequence[float]) -> None:
        buckets = Tally([bisect_left(self._upper_bounds, each) for each in seconds])
        for index, count in buckets.items():
            self._buckets[index].inc(count)
        self._sum.inc(sum(seconds))


class Metrics:
    """The counters of one process. `reason` is of the closed list `policies.model.Reason`, or the error's code."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.requests = Counter(
            "assetgate_requests", "Finished requests.", ["route", "method", "status", "reason"], registry=self.registry
        )
        self.decision = Times(
            "assetgate_decision_seconds",
            "Time from the request's arrival to the decision on a read.",
            registry=self.registry,
            buckets=_DECISION_BUCKETS,
        )
        self.sent = Counter("assetgate_sent_bytes", "Bytes of objects sent to clients.", registry=self.registry)
        self.received = Counter("assetgate_received_bytes", "Bytes of files received.", registry=self.registry)
        self.streams = Gauge(
            "assetgate_open_streams",
            "Objects being sent at this moment.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.broken = Counter(
            "assetgate_broken_streams", "Objects that did not reach the client.", registry=self.registry
        )
        self.legacy = Counter(
            "assetgate_legacy_requests", "Uses of the legacy routes.", ["route", "caller"], registry=self.registry
        )

        self._add_tasks()
        self._add_cache()

    def _add_cache(self) -> None:
        """Add what is counted of the slice cache: beside `sent`, it tells how much did not come from the storage."""
        self.cache_fetched = Counter(
            "assetgate_cache_fetched_bytes", "Bytes that the storage sent into the cache.", registry=self.registry
        )
        self.cache_bytes = Gauge(
            "assetgate_cache_bytes",
            "Bytes that the cache takes: of the disk, for all workers together, and of a worker's memory.",
            ["place"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )

    def tell_cache(self, fetched: int, disk: int, memory: int) -> None:
        """Take over what the cache counted; `fetched` is since the last time."""
        self.cache_fetched.inc(fetched)
        self.cache_bytes.labels("disk").set(disk)
        self.cache_bytes.labels("memory").set(memory)

    def _add_tasks(self) -> None:
        """Add what is counted of AI tasks."""
        registry = self.registry
        self.notifications = Counter(
            "assetgate_notifications", "Notifications of providers.", ["provider", "outcome"], registry=registry
        )
        self.tasks = Counter(
            "assetgate_tasks", "AI tasks created, and ended by status.", ["provider", "status"], registry=registry
        )
        self.copied = Counter("assetgate_copied_items", "Media items stored.", ["provider"], registry=registry)
        self.copied_bytes = Counter("assetgate_copied_bytes", "Bytes of media items stored.", registry=registry)
        self.copy_failures = Counter(
            "assetgate_copy_failures",
            "Attempts to copy a media item that failed; final ones ended it.",
            ["provider", "reason", "final"],
            registry=registry,
        )
        self.oldest_copy = Gauge(
            "assetgate_oldest_waiting_item_seconds",
            "Age of the oldest media item that is not stored yet.",
            registry=registry,
            multiprocess_mode="livemax",
        )

    def exposition(self) -> bytes:
        """The text that Prometheus reads: of this process, or of all workers where there are several."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        self.registry.settle()
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
