"""Starts servers as process groups that end with the test run, however it ends."""

from __future__ import annotations

import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

Command = list[str | Path]

ROOT = Path(__file__).resolve().parents[3]
START_TIMEOUT = 60.0  # seconds; a cold disk and two busy cores are slow
STOP_TIMEOUT = 10.0  # seconds before a server that does not listen is killed
POLL = 0.02  # seconds

_PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"  # where Debian keeps servers, outside a user's PATH


class ServerFailed(RuntimeError):
    """A server did not come up; the message ends with what it wrote."""


def program(name: str) -> str:
    """Find an installed program. Raises `ServerFailed` that says which is missing."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise ServerFailed(f"{name} is not installed: run `make debian`")
    return found


def installed(*names: str) -> bool:
    """Tell whether all of these programs are there."""
    return all(shutil.which(name, path=_PATH) for name in names)


def free_port() -> int:
    """Pick a free loopback port below the range from which outgoing connections take theirs."""
    while True:
        port = random.randint(15000, 32000)  # noqa: S311 - a port is no secret
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no owner
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def is_root() -> bool:
    return os.geteuid() == 0


@contextmanager
def folder(name: str) -> Iterator[Path]:
    """Make a folder that servers of another user can enter; it is removed in the end."""
    path = Path(tempfile.mkdtemp(prefix=f"assetgate-{name}-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@dataclass
class Process:
    """One server process with its group, and the file that it writes its log to."""

    name: str
    log: Path
    popen: subprocess.Popen[bytes] = field(repr=False)
    stop_signal: signal.Signals = signal.SIGTERM

    @property
    def pid(self) -> int:
        return self.popen.pid

    def wait_until(self, ready: Callable[[], bool], timeout: float = START_TIMEOUT) -> None:
        """Poll until `ready`. Raises `ServerFailed` when the process ends first, or takes too long."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self.popen.poll() is not None:
                raise ServerFailed(f"{self.name} ended with {self.popen.returncode}\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} is not ready after {timeout:.0f} s\n{tail(self.log)}")
            time.sleep(POLL)

    def wait_for(self, pattern: str, timeout: float = START_TIMEOUT) -> str:
        """Wait until it has written what matches, and return the first group."""
        found: list[str] = []

        def written() -> bool:
            match = re.search(pattern, self.log.read_text(errors="replace"), re.MULTILINE)
            found.extend([match[1]] if match else [])
            return match is not None

        self.wait_until(written, timeout)
        return found[0]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone: SIGSTOP and SIGCONT make a server hang and go on."""
        self.popen.send_signal(number)

    def stop(self) -> None:
        """End the process as it likes to be ended, then whatever is left of its group."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.send_signal(self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(STOP_TIMEOUT)
        self.kill()

    def kill(self) -> None:
        """End the whole group at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


def start(
    name: str,
    command: Command,
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Process:
    """Start a server in a group of its own; what it writes goes to `log`."""
    whole = [*_tied(stop_signal, user), *map(str, command)]
    with log.open("a") as sink:
        popen = subprocess.Popen(
            whole,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": _PATH, "PYTHONUNBUFFERED": "1", **(env or {})},
            cwd=cwd or log.parent,
            start_new_session=True,
        )
    return Process(name, log, popen, stop_signal)


def run(command: Command, *, user: str | None = None, cwd: Path | None = None, **env: str) -> str:
    """Run a program to its end and return what it wrote. Raises `ServerFailed` with all of it when it failed."""
    done = subprocess.run(
        [*_as_user(user), *map(str, command)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": _PATH, **env},
        cwd=cwd,
        timeout=START_TIMEOUT,
    )
    if done.returncode != 0:
        raise ServerFailed(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def answers(url: str) -> bool:
    """Tell whether anything speaks HTTP there, whatever it says."""
    try:
        with urlopen(url, timeout=2):
            return True
    except HTTPError as error:
        error.close()
        return True
    except (URLError, OSError):
        return False


def accepts(port: int) -> bool:
    """Tell whether a connection to the loopback port is taken."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def tail(log: Path, size: int = 4000) -> str:
    """Return the end of a log."""
    return log.read_text(errors="replace")[-size:] if log.exists() else ""


def _tied(stop_signal: signal.Signals, user: str | None) -> list[str]:
    # The kernel sends the signal when the test run dies, even by SIGKILL, which no code of its own can answer.
    if shutil.which("setpriv") is None:
        return _as_user(user)
    return ["setpriv", "--pdeathsig", stop_signal.name.removeprefix("SIG"), *_as_user(user)[1:], "--"]


def _as_user(user: str | None) -> list[str]:
    if user is None:
        return []
    return ["setpriv", "--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups"]
