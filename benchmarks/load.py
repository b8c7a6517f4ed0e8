"""Drives a server: wrk for small bodies, and for big ones a sink that lets the kernel throw the bytes away."""

from __future__ import annotations

import itertools
import multiprocessing
import re
import selectors
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.servers import processes

_HERE = Path(__file__).parent
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
    requests: int


def wrk(
    url: str,
    *,
    connections: int,
    seconds: int,
    headers: Mapping[str, str] | None = None,
    script: tuple[str | Path, ...] = (),
) -> Rate:
    """Ask for one URL over keep-alive connections as fast as the answers come (closed loop).

    `script` is a Lua file of this folder that makes other requests, and its arguments.
    """
    named = [part for name, value in (headers or {}).items() for part in ("-H", f"{name}: {value}")]
    scripted: processes.Command = ["-s", _HERE / script[0]] if script else []
    options: processes.Command = [
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "--timeout",
        "10s",
        *named,
        *scripted,
    ]
    command: processes.Command = ["wrk", *options, url, *(["--", *script[1:]] if script else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise LoadFailed(done.stdout)
    count = re.search(r"(\d+) requests in", done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    assert count is not None, done.stdout
    assert rate is not None, done.stdout
    assert tail is not None, done.stdout
    if not int(count[1]):
        raise LoadFailed(f"no answer within {seconds} s: {url}")
    return Rate(float(rate[1]), float(tail[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[tail[2]], int(count[1]))


def wrk_each(urls: Sequence[str], *, connections: int, seconds: int) -> Rate:
    """Ask for every one of these URLs of one server once. Raises `LoadFailed` when there were too few of them."""
    rate = wrk_by_turns(urls, connections=connections, seconds=seconds)
    if rate.requests > len(urls):
        raise LoadFailed(f"{rate.requests} requests, but only {len(urls)} URLs: some were asked for twice")
    return rate


def wrk_by_turns(urls: Sequence[str], *, connections: int, seconds: int) -> Rate:
    """Ask for these URLs of one server one after the other, again and again."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{_target(url)}\n" for url in urls)
        file.flush()
        return wrk(urls[0], connections=connections, seconds=seconds, script=("each.lua", Path(file.name)))


def wrk_post(url: str, body: bytes, *, connections: int, seconds: int, headers: Mapping[str, str]) -> Rate:
    """Post one body again and again."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(body)
        file.flush()
        script = ("post.lua", Path(file.name))
        return wrk(url, connections=connections, seconds=seconds, headers=headers, script=script)


def sink(
    url: str | Sequence[str],
    *,
    connections: int,
    seconds: float,
    expected: int,
    headers: Mapping[str, str] | None = None,
) -> float:
    """Ask for one URL over keep-alive connections and count the bodies' bytes: MB/s (10^6) received.

    Of several URLs of one server each is asked for once, until the time or the URLs end; then `seconds` is the most.
    Every answer must be 200 or 206 and `expected` bytes long.
    """
    requests = [request_for(each, headers) for each in ([url] if isinstance(url, str) else url)]
    place = urlsplit(url if isinstance(url, str) else url[0])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        # A process of its own: it shares no interpreter lock with whoever measures.
        arguments = (place.hostname, place.port, requests, isinstance(url, str), connections, seconds, expected)
        received, elapsed = pool.apply(_drain, arguments)
    return received / elapsed / 1e6


def request_for(url: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Write a GET."""
    named = [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([f"GET {_target(url)} HTTP/1.1", f"Host: {urlsplit(url).netloc}", *named, "", ""]).encode()


def _target(url: str) -> str:
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


@dataclass
class _Connection:
    """One keep-alive connection: a head being read, or what is left of a body. Without requests left it is done."""

    requests: Iterator[bytes]
    expected: int
    socket: socket.socket
    head: bytearray = field(default_factory=bytearray)
    left: int = 0
    done: bool = False

    def ask(self) -> None:
        self.head.clear()
        request = next(self.requests, None)
        if request is None:
            self.done = True
        else:
            self.socket.sendall(request)

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


def _drain(
    host: str, port: int, requests: Sequence[bytes], again: bool, connections: int, seconds: float, expected: int
) -> tuple[int, float]:
    following = itertools.cycle(requests) if again else iter(requests)
    buffer, received = bytearray(_BIG), 0
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            opened = socket.create_connection((host, port))
            selector.register(opened, selectors.EVENT_READ, _Connection(following, expected, opened))
        taking = [key.data for key in selector.get_map().values()]
        started = time.perf_counter()
        for connection in taking:
            connection.ask()
        while (now := time.perf_counter()) - started < seconds and not all(each.done for each in taking):
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
