"""The sockets that a gateway listens on."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import suppress

from gateway.errors import CannotStart
from gateway.settings import Server

BACKLOG = 1024  # connections that wait to be accepted
# Bytes that a connection's socket holds and has not sent, so that a thousand slow readers do not fill theirs with
# megabytes each, while others wait for the copying. What is under way is not limited.
UNSENT = 256 * 1024


def listen(server: Server, count: int) -> list[socket.socket]:
    """Open `count` listening sockets on one port; the kernel spreads connections over them. Raises `CannotStart`.

    With port 0 the first one picks it. They stay open here however their workers end, so that a connection that waits
    in one is still answered by the worker that follows.
    """
    sockets: list[socket.socket] = []
    port = server.port
    try:
        for _ in range(count):
            sockets.append(_listening(server.host, port, shared=count > 1))
            port = sockets[0].getsockname()[1]
    except OSError as error:
        for opened in sockets:
            opened.close()
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise CannotStart(f"server.host, server.port: cannot listen on {server.host}:{port}: {reason}") from error
    return sockets


def url_of(listening: socket.socket) -> str:
    """The address that a socket listens on, as a URL."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listening(host: str, port: int, *, shared: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        opened.bind(address)
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened


def allow_descriptors() -> None:
    """Take as many as the system lets us: the low soft limit is for `select`, and each connection and map needs one."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):  # where the system has less than it promised
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
