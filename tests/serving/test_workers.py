"""Several workers on one port: what happens to requests when one dies, all are exchanged, or the gateway stops."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.support.gateway import PNG, Served, serve_process, service_headers
from tests.support.servers.processes import ServerFailed

PATIENCE = 20.0  # seconds before a test gives up on a process
BIG = 48 * 1024 * 1024  # bytes: more than all buffers between two sockets hold
VIDEO = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(BIG)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve_process(tmp_path, {"server.workers": "2", "server.drain_timeout": "15s"}) as gateway:
        yield gateway


def workers_of(served: Served) -> list[int]:
    children = Path(f"/proc/{served.pid}/task/{served.pid}/children").read_text().split()
    return [int(child) for child in children]


def until(is_so: Callable[[], bool]) -> None:
    """Look again until it is so, or fail."""
    ends = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < ends, "it did not come about in time"
        time.sleep(0.02)


def status_of(served: Served, path: str = "/healthz") -> int:
    with urlopen(served.url + path, timeout=PATIENCE) as answer:
        return int(answer.status)


def uploaded(served: Served, data: bytes, purpose: str = "reference_video") -> str:
    """Upload as a service, and return the asset's path."""
    boundary = "a-boundary-of-the-tests"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n--{boundary}\r\n'
        'Content-Disposition: form-data; name="files"; filename="f"\r\n\r\n'
    ).encode()
    headers = {**service_headers(), "Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = Request(
        served.url + "/api/storage/upload-media", body + data + f"\r\n--{boundary}--\r\n".encode(), headers
    )
    with urlopen(request, timeout=PATIENCE) as answer:
        found = re.search(rb'"previewUrl":"([^"]+)"', answer.read())
    assert found is not None
    return found[1].decode()


@contextmanager
def download(served: Served, path: str) -> Iterator[socket.socket]:
    """Ask for an asset, read the head's first bytes, and stop reading."""
    host, port = served.url.removeprefix("http://").split(":")
    authorization = service_headers()["Authorization"]
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        reader.settimeout(PATIENCE)
        reader.connect((host, int(port)))
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n\r\n".encode())
        assert reader.recv(12) == b"HTTP/1.1 200"
        yield reader


def read_rest(reader: socket.socket) -> int:
    received = 0
    while received <= BIG and (chunk := reader.recv(1024 * 1024)):
        received += len(chunk)
    return received


def test_every_worker_counts_into_the_same_metrics(served: Served) -> None:
    for _ in range(20):
        assert status_of(served) == 200
    until(lambda: counted(served) == 20)  # each tells of its own within a tenth of a second


def counted(served: Served) -> float:
    with urlopen(served.url + "/metrics", timeout=PATIENCE) as answer:
        found = re.search(rb'assetgate_requests_total\{[^}]*route="/healthz"[^}]*\} ([0-9.]+)', answer.read())
    return float(found[1]) if found is not None else 0.0


def test_a_killed_worker_is_followed_by_another_and_no_request_fails(served: Served) -> None:
    path = uploaded(served, PNG, "reference_image")
    before = workers_of(served)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    # Connections that the kernel hands to the dead worker's socket wait there for the one that follows.
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: status_of(served), range(40))) == {200}
    until(lambda: len(workers_of(served)) == 2 and before[0] not in workers_of(served))
    with download(served, path) as reader:
        assert reader.recv(1)


def test_a_reload_exchanges_the_workers_and_finishes_what_streams(served: Served) -> None:
    path = uploaded(served, VIDEO)
    before = workers_of(served)
    with download(served, path) as reader:
        os.kill(served.pid, signal.SIGHUP)
        until(lambda: len(set(workers_of(served)) - set(before)) == 2)
        assert status_of(served) == 200
        assert read_rest(reader) > BIG
    until(lambda: set(workers_of(served)).isdisjoint(before))


def test_a_stop_finishes_what_streams_and_takes_nothing_new(served: Served) -> None:
    path = uploaded(served, VIDEO)
    workers = workers_of(served)
    with download(served, path) as reader:
        os.kill(served.pid, signal.SIGTERM)
        assert read_rest(reader) > BIG
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_a_reader_that_does_not_read_is_cut_off_when_the_drain_ends(tmp_path: Path) -> None:
    with serve_process(tmp_path, {"server.drain_timeout": "200ms"}) as served:
        path = uploaded(served, VIDEO)
        with download(served, path) as reader:
            os.kill(served.pid, signal.SIGTERM)
            until(lambda: not Path(f"/proc/{served.pid}/fd/0").exists())
            with suppress(ConnectionError):  # a reset says the same
                assert read_rest(reader) < BIG


def test_workers_that_cannot_start_are_told_of_and_nothing_is_left_running(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where a folder should be")
    settings = {"server.workers": "2", "storage": f"file:///{tmp_path}/blocked/objects"}
    with (
        pytest.raises(ServerFailed, match=r"server\.workers: worker \d did not start"),
        serve_process(tmp_path, settings),
    ):
        pass


def test_a_low_limit_of_open_files_is_raised_to_the_highest_allowed(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with serve_process(tmp_path) as served:
            limits = Path(f"/proc/{served.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found = re.search(r"Max open files +(\d+) +(\d+)", limits)
    assert found is not None
    assert found[1] == found[2] == str(hard)
