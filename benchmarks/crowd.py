"""Holds many connections from a process of its own: idle ones, or readers that take their time."""

from __future__ import annotations

import itertools
import multiprocessing
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.load import LoadFailed, request_for

RESERVE = 1000  # descriptors that a process needs beside its connections
_SIP = 16 * 1024  # bytes that a slow reader takes at once
_BETWEEN = 0.5  # seconds between two sips
_SIPS_BEFORE = 6  # until their sockets are full, and each sip makes room for the next
_READY_WITHIN = 120.0  # seconds
_OPENED = "opened"


def raise_limits() -> int:
    """Allow us, and what we start, as many descriptors as can be; return how many connections that makes."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most - RESERVE


@contextmanager
def idle(url: str, count: int) -> Iterator[None]:
    """Keep `count` connections open, each of which has read one small answer."""
    with _apart(_hold_idle, url, count):
        yield


@contextmanager
def slow(url: str, count: int) -> Iterator[None]:
    """Keep `count` readers at work that take 32 KiB a second each, and have done so for a while."""
    with _apart(_read_slowly, url, count):
        yield


def resident(pid: int) -> float:
    """Resident memory of a process and of its children, in MB (10^6): its own pages, and those of mapped files."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return _resident(pid) + sum(resident(int(child)) for child in children)


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024 / 1e6


@contextmanager
def _apart(work: Callable[[Connection, str, int], None], url: str, count: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, url, count))
    process.start()
    theirs.close()
    try:
        if not ours.poll(_READY_WITHIN) or ours.recv() != _OPENED:
            raise LoadFailed(f"{count} connections could not be opened")
        yield
        if not process.is_alive():
            raise LoadFailed("the connections were not held")
    finally:
        ours.close()  # that is what it waits for
        process.join(10)
        process.kill()


def _hold_idle(parent: Connection, url: str, count: int) -> None:
    opened = _open(url, count)
    for each in opened:
        _read_whole(each)
    parent.send(_OPENED)
    _until_closed(parent)


def _read_slowly(parent: Connection, url: str, count: int) -> None:
    opened = _open(url, count, receive_buffer=4 * _SIP)
    for each in opened:
        each.setblocking(False)
    due = time.monotonic()
    for sips in itertools.count():
        if sips == _SIPS_BEFORE:
            parent.send(_OPENED)
        if _is_closed(parent, max(0.0, due - time.monotonic())):
            return
        due += _BETWEEN
        for each in opened:
            try:
                if not each.recv(_SIP):
                    raise LoadFailed("a slow reader was cut off")
            except BlockingIOError:
                continue


def _open(url: str, count: int, receive_buffer: int = 0) -> list[socket.socket]:
    place, request, opened = urlsplit(url), request_for(url), []
    for _ in range(count):
        each = socket.socket()
        if receive_buffer:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        # Ended by a reset: ten thousand closed ports that linger would leave none for the next crowd.
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.settimeout(10)
        each.connect((place.hostname, place.port))
        each.sendall(request)
        opened.append(each)
    return opened


def _read_whole(opened: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(opened)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    left = length - len(body)
    while left:
        left -= len(_some(opened))


def _some(opened: socket.socket) -> bytes:
    data = opened.recv(64 * 1024)
    if not data:
        raise LoadFailed("the connection was closed")
    return data


def _until_closed(parent: Connection) -> None:
    while not _is_closed(parent, 60.0):
        pass


def _is_closed(parent: Connection, patience: float) -> bool:
    if not parent.poll(patience):
        return False
    try:
        parent.recv()
    except (EOFError, OSError):
        return True
    return False
