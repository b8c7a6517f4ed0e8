"""The shipped nginx.conf made to run here: its paths, ports and certificate are replaced, and nothing else."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.raw import Connection
from tests.support.servers import processes
from tests.support.servers.nginx import Nginx, Start

CONFIG = Path(__file__).resolve().parents[2] / "config"
NAME = "media.example.com"
Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
PATIENCE = 60  # seconds for one request; two busy cores are slow


@dataclass(frozen=True)
class Answer:
    """What curl got."""

    version: str
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


@dataclass(frozen=True)
class Front:
    """A running nginx with the shipped configuration, in front of a gateway."""

    nginx: Nginx
    certificate: Path

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.nginx.port}"

    @property
    def written(self) -> str:
        """All that it has written: its logs, and what went to the terminal."""
        return self.nginx.log + "".join(path.read_text() for path in self.nginx.folder.glob("*.log"))

    def on_disk(self) -> list[Path]:
        """The files that it has put bodies into, of requests or of answers."""
        return [
            path for place in ("body", "proxy") for path in (self.nginx.folder / place).rglob("*") if path.is_file()
        ]

    def most_memory(self) -> int:
        """The most bytes that any of its processes has held so far."""
        pids = {self.nginx.process.pid}
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and (process / "stat").exists():
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                pids |= {int(process.name)} if parent == self.nginx.process.pid else set()
        peaks = [re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()) for pid in pids]
        return max(int(peak[1]) * 1024 for peak in peaks if peak)

    async def ask(self, target: str, *options: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask by curl, over HTTP/2 unless the options say otherwise."""
        lines = [part for name, value in (headers or {}).items() for part in ("--header", f"{name}: {value}")]
        command = ["curl", "--silent", "--show-error", "--http2", "--include", "--max-time", str(PATIENCE)]
        command += ["--cacert", str(self.certificate), "--resolve", f"{NAME}:{self.nginx.port}:127.0.0.1"]
        process = await asyncio.create_subprocess_exec(
            *command,
            *lines,
            *options,
            self.url + target,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, trouble = await process.communicate()
        assert process.returncode == 0, trouble.decode()
        return _read(out)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Connect as a client that speaks HTTP/1.1 by hand; in the end it goes away without a word."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        reader, writer = await asyncio.open_connection("127.0.0.1", self.nginx.port, ssl=context, server_hostname=NAME)
        try:
            yield Connection(reader, writer, NAME)
        finally:
            writer.transport.abort()


def _read(out: bytes) -> Answer:
    """Take apart what `curl --include` wrote; an interim answer (100) comes before the final one."""
    while True:
        head, _, rest = out.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ")
        if int(status) >= 200:
            break
        out = rest
    headers = CIMultiDict((name, value) for name, _, value in (line.partition(": ") for line in fields))
    return Answer(version, int(status), CIMultiDictProxy(headers), rest)


def front(start: Start, folder: Path, gateway: str, edits: Sequence[tuple[str, str]] = ()) -> Front:
    """Start nginx with the shipped file before the gateway at this URL; `edits` are an operator's own."""
    certificate, key = make_certificate(folder)
    text = (CONFIG / "nginx.conf").read_text()
    replaced = [
        ("server 127.0.0.1:8080;", f"server {gateway.removeprefix('http://')};"),
        ("listen [::]:443 ssl http2", f"listen 127.0.0.1:{processes.free_port()} ssl http2"),
        ("listen 443 ssl", "listen 127.0.0.1:@port@ ssl"),
        ("listen [::]:80;", f"listen 127.0.0.1:{processes.free_port()};"),
        ("listen 80;", f"listen 127.0.0.1:{processes.free_port()};"),
        ("/etc/ssl/assetgate/fullchain.pem", str(certificate)),
        ("/etc/ssl/assetgate/privkey.pem", str(key)),
        ("/etc/ssl/certs/ca-certificates.crt", str(certificate)),
        ("/var/log/nginx/", ""),
        ("/var/lib/assetgate/data/objects", str(folder / "objects")),
        *edits,
    ]
    for old, new in replaced:
        assert old in text, old
        text = text.replace(old, new)
    return Front(start(text), certificate)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for the name of the shipped file and localhost, and its key, once a folder."""
    paths = folder / "fullchain.pem", folder / "privkey.pem"
    if paths[0].exists():
        return paths
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME), x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@dataclass
class Standing:
    """A tiny server that stands where the gateway or the storage would, and what it was asked."""

    url: str = ""
    asked: list[web.BaseRequest] = field(default_factory=list)
    peers: set[object] = field(default_factory=set)

    @property
    def last(self) -> web.BaseRequest:
        return self.asked[-1]


@asynccontextmanager
async def standing(answer: Answering, context: ssl.SSLContext | None = None) -> AsyncIterator[Standing]:
    """Answer every request by `answer`, over TLS with a context."""
    stand_in = Standing()

    async def noted(request: web.BaseRequest) -> web.StreamResponse:
        stand_in.asked.append(request)
        stand_in.peers.add(request.transport and request.transport.get_extra_info("peername"))
        return await answer(request)

    runner = web.ServerRunner(web.Server(noted, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        stand_in.url = f"http://127.0.0.1:{port}"
        yield stand_in
    finally:
        await runner.cleanup()
