"""Drives a server: wrk for small bodies, and for big ones a sink that lets the kernel throw the bytes away."""

from __future__ import annotations

import multiprocessing
import re
import selectors
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.support.servers import processes

_SMALL = 16 * 1024  # bytes read at once while a head is expected; a head is far shorter
_BIG = 1024 * 1024  # bytes thrown away at once
_STALLED = 30.0  # seconds without a byte


class LoadFailed(RuntimeError):
    """The figures would lie: some answers were not what was asked for."""


@dataclass(frozen=True)
class Rate:
    """What wrk saw."""

    requests_per_second: float
    p99: float  # milliseconds


def wrk(url: str, *, connections: int, seconds: int, headers: Mapping[str, str] | None = None) -> Rate:
    """Ask for one URL over keep-alive connections as fast as the answers come (closed loop)."""
    named = [part for name, value in (headers or {}).items() for part in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s", *named, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise LoadFailed(done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    assert rate is not None, done.stdout
    assert tail is not None, done.stdout
    return Rate(float(rate[1]), float(tail[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[tail[2]])


def sink(
    url: str, *, connections: int, seconds: float, expected: int, headers: Mapping[str, str] | None = None
) -> float:
    """Ask for one URL over keep-alive connections and count the bodies' bytes: MB/s (10^6) received.

    Every answer must be 200 or 206 and `expected` bytes long.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        # A process of its own: it shares no interpreter lock with whoever measures.
        received, elapsed = pool.apply(_drain, (url, connections, seconds, expected, dict(headers or {})))
    return received / elapsed / 1e6


@dataclass
class _Connection:
    """One keep-alive connection: a head being read, or what is left of a body."""

    request: bytes
    expected: int
    socket: socket.socket
    head: bytearray = field(default_factory=bytearray)
    left: int = 0

    def ask(self) -> None:
        self.head.clear()
        self.socket.sendall(self.request)

    def take(self, buffer: bytearray) -> int:
        """Take what has arrived and return how many bytes of it were body."""
        if self.left:
            count = self.socket.recv_into(buffer, min(self.left, _BIG), socket.MSG_TRUNC)
            if not count:
                raise LoadFailed("the connection broke within a body")
            return self._count(count)
        data = self.socket.recv(_SMALL)
        if not data:
            raise LoadFailed("the connection was closed")
        self.head += data
        head, end, body = self.head.partition(b"\r\n\r\n")
        if not end:
            return 0
        self.left = self._length(bytes(head))
        return self._count(len(body))

    def _count(self, received: int) -> int:
        self.left -= received
        if not self.left:
            self.ask()
        return received

    def _length(self, head: bytes) -> int:
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 206 ")) or not length or int(length[1]) != self.expected:
            raise LoadFailed(head.decode(errors="replace"))
        return self.expected


def _drain(url: str, connections: int, seconds: float, expected: int, headers: Mapping[str, str]) -> tuple[int, float]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    buffer, received = bytearray(_BIG), 0
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            opened = socket.create_connection((parts.hostname, parts.port))
            selector.register(opened, selectors.EVENT_READ, _Connection("\r\n".join(lines).encode(), expected, opened))
        taking = [key.data for key in selector.get_map().values()]
        started = time.perf_counter()
        for connection in taking:
            connection.ask()
        while (now := time.perf_counter()) - started < seconds:
            ready = selector.select(_STALLED)
            if not ready:
                raise LoadFailed(f"no byte for {_STALLED:.0f} s")
            received += sum(key.data.take(buffer) for key, _ in ready)
        for connection in taking:
            connection.socket.close()
    return received, now - started


def check_tools() -> None:
    """Raise when wrk is missing, before anything is started."""
    processes.program("wrk")
