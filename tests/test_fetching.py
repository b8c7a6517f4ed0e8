"""The guarded downloader against local servers that redirect, lie, drip, break off and change their address."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.fetching import Fetched, Fetcher, FetchFailed, Reason
from gateway.settings import Fetch
from tests.support.providers.media import PNG, Behaviour, File, MediaHost

NOW = 1795305600.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def settings(**changes: Any) -> Fetch:
    usual = {"max_bytes": "8 MiB", "timeout": "5s", "allow_http": True, "allow_networks": ["127.0.0.0/8"]}
    return Fetch.model_validate(usual | changes)


class Resolver(AbstractResolver):
    """Answers the addresses it was given, one a question, the last one for ever."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        answer = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in answer.split()
        ]

    async def close(self) -> None: ...


class Server:
    """A server on one loopback address that counts its requests."""

    def __init__(self, host: str, handler: Handler) -> None:
        self.host = host
        self.requests: list[web.Request] = []
        self._handler = handler

    async def start(self, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, port, ssl_context=context).start()
        self.port: int = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    def url(self, path: str = "a.png", host: str | None = None) -> str:
        return f"http://{host or self.host}:{self.port}/{path}"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return await self._handler(request)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    started: list[Server] = []

    async def start(
        handler: Handler, host: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None
    ) -> Server:
        server = Server(host, handler)
        await server.start(port, context)
        started.append(server)
        return server

    yield start
    for server in started:
        await server.stop()


@pytest.fixture
async def fetchers() -> AsyncIterator[Callable[..., Fetcher]]:
    made: list[Fetcher] = []

    def make(*, stall: float = 30.0, resolver: AbstractResolver | None = None, **changes: Any) -> Fetcher:
        made.append(Fetcher(settings(**changes), lambda: NOW, resolver=resolver, stall=stall))
        return made[-1]

    yield make
    for fetcher in made:
        await fetcher.close()


@pytest.fixture
async def media(serve: Callable[..., Awaitable[Server]]) -> tuple[Server, dict[str, File]]:
    host = MediaHost(lambda: NOW)

    async def handle(request: web.Request) -> web.StreamResponse:
        request.match_info["name"] = request.match_info["path"]
        return await host.handle(request)

    return await serve(handle), host.files


async def whole(fetcher: Fetcher, url: str, **how: Any) -> tuple[Fetched, bytes]:
    async with fetcher.open(url, **({"hosts": ["*"]} | how)) as fetched:
        return fetched, b"".join([chunk async for chunk in fetched.chunks])


async def reason_of(fetcher: Fetcher, url: str, **how: Any) -> Reason:
    with pytest.raises(FetchFailed) as raised:
        await whole(fetcher, url, **how)
    return raised.value.reason


async def test_a_file_comes_whole_with_what_the_host_declares(media: Any, fetchers: Any) -> None:
    server, files = media
    files["a.png"] = File()
    fetched, body = await whole(fetchers(), server.url())
    assert body == PNG
    assert (fetched.status, fetched.media_type, fetched.size) == (200, "image/png", len(PNG))


async def test_a_large_file_comes_in_bounded_pieces(media: Any, fetchers: Any) -> None:
    server, files = media
    files["a.bin"] = File(b"x" * 6_000_000, "video/mp4")
    async with fetchers().open(server.url("a.bin"), hosts=["*"]) as fetched:
        sizes = [len(chunk) async for chunk in fetched.chunks]
    assert sum(sizes) == 6_000_000
    assert max(sizes) <= 1024 * 1024


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("not_found", Reason.NOT_FOUND),
        ("forbidden", Reason.FORBIDDEN),
        ("rate_limited", Reason.RATE_LIMITED),
        ("broken", Reason.UNAVAILABLE),
        ("truncated", Reason.TRUNCATED),
        ("endless", Reason.TOO_LARGE),
        ("gzip", Reason.ENCODED),
        ("drip", Reason.TOO_SLOW),
    ],
)
async def test_each_misbehaviour_has_its_reason(
    media: Any, fetchers: Any, behaviour: Behaviour, reason: Reason
) -> None:
    server, files = media
    files["a.png"] = File(behaviour=behaviour)
    assert await reason_of(fetchers(stall=0.2, max_bytes="1 MiB"), server.url()) is reason


async def test_a_rate_limit_tells_when_to_come_again(media: Any, fetchers: Any) -> None:
    server, files = media
    files["a.png"] = File(behaviour="rate_limited")
    with pytest.raises(FetchFailed) as raised:
        await whole(fetchers(), server.url())
    assert (raised.value.retry_after, raised.value.status, raised.value.may_pass) == (7, 429, True)


async def test_an_expired_url_is_not_found(media: Any, fetchers: Any) -> None:
    server, files = media
    files["a.png"] = File(expires_at=NOW)
    assert await reason_of(fetchers(), server.url()) is Reason.NOT_FOUND


async def test_a_declared_size_over_the_limit_is_not_read(media: Any, fetchers: Any) -> None:
    server, files = media
    files["a.png"] = File(b"x" * 1001)
    assert await reason_of(fetchers(), server.url(), max_bytes=1000) is Reason.TOO_LARGE
    files["a.png"] = File(b"x" * 1000)
    assert len((await whole(fetchers(), server.url(), max_bytes=1000))[1]) == 1000


async def test_the_settings_limit_what_a_caller_may_ask_for(media: Any, fetchers: Any) -> None:
    server, files = media
    files["a.png"] = File(b"x" * 2000)
    assert await reason_of(fetchers(max_bytes=1000), server.url(), max_bytes=10**9) is Reason.TOO_LARGE


async def test_compression_is_not_asked_for(serve: Any, fetchers: Any) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(text=request.headers["Accept-Encoding"])

    server = await serve(handle)
    assert (await whole(fetchers(), server.url(), headers={"Accept-Encoding": "gzip"}))[1] == b"identity"


async def test_the_deadline_counts_for_everything(media: Any, fetchers: Any) -> None:
    server, files = media
    files["a.png"] = File()
    assert await reason_of(fetchers(), server.url(), deadline=NOW - 1) is Reason.TOO_SLOW
    files["a.png"] = File(behaviour="drip")
    assert await reason_of(fetchers(), server.url(), deadline=NOW + 0.1) is Reason.TOO_SLOW


async def test_a_slow_reader_is_not_the_hosts_fault(media: Any, fetchers: Any) -> None:
    server, files = media
    files["a.bin"] = File(b"x" * 3_000_000, "video/mp4")
    total = 0
    async with fetchers(stall=0.05).open(server.url("a.bin"), hosts=["*"]) as fetched:
        async for chunk in fetched.chunks:
            total += len(chunk)
            if total < 1_000_000:
                await asyncio.sleep(0.06)  # longer than the stall, spent by us
    assert total == 3_000_000


async def test_a_redirect_is_followed(media: Any, fetchers: Any) -> None:
    server, files = media
    files["a.png"] = File(behaviour="redirect")
    assert (await whole(fetchers(), server.url()))[1] == PNG


async def test_redirects_end_after_five(serve: Any, fetchers: Any) -> None:
    async def handle(request: web.Request) -> web.Response:
        left = int(request.path.strip("/"))
        headers = {"Location": f"/{left - 1}"} if left else {}
        return web.Response(status=302 if left else 200, headers=headers)

    server = await serve(handle)
    assert (await whole(fetchers(), server.url("5")))[0].status == 200
    assert await reason_of(fetchers(), server.url("6")) is Reason.TOO_MANY_REDIRECTS


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("https://evil.example/", Reason.HOST_NOT_ALLOWED),
        ("//evil.example/", Reason.HOST_NOT_ALLOWED),
        ("file:///etc/passwd", Reason.SCHEME_NOT_ALLOWED),
        ("http://user@127.0.0.1/", Reason.URL_INVALID),
        ("http://[", Reason.URL_INVALID),
        ("http://127.0.0.1:22/", Reason.HOST_NOT_ALLOWED),
    ],
)
async def test_where_a_redirect_leads_is_judged_like_the_first(
    serve: Any, fetchers: Any, location: str, reason: Reason
) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": location})

    server = await serve(handle)
    assert await reason_of(fetchers(), server.url(), hosts=["127.0.0.1"]) is reason


async def test_a_redirect_to_plain_http_is_refused_where_https_is_wanted(serve: Any, fetchers: Any) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response()

    server = await serve(handle)
    assert await reason_of(fetchers(allow_http=False), server.url()) is Reason.SCHEME_NOT_ALLOWED
    assert server.requests == []


async def test_credentials_stay_with_the_host_they_were_for(serve: Any, fetchers: Any) -> None:
    seen: list[tuple[str, str | None]] = []
    places: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("x-goog-api-key")))
        target = {"/start": "/same", "/same": places[1] + "other", "/other": places[0] + "back"}.get(request.path)
        return web.Response(status=307 if target else 200, headers={"Location": target} if target else {})

    first, second = await serve(handle), await serve(handle, "127.0.0.2")
    places += [first.url(""), second.url("")]
    await whole(fetchers(), first.url("start"), headers={"x-goog-api-key": "secret"})
    assert seen == [("/start", "secret"), ("/same", "secret"), ("/other", None), ("/back", None)]


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "http://[::1]:{port}/", "http://localhost:{port}/"])
async def test_our_own_machine_is_not_fetched_from(media: Any, fetchers: Any, url: str) -> None:
    server, _ = media
    fetcher = fetchers(allow_networks=[])
    assert await reason_of(fetcher, url.format(port=server.port)) is Reason.ADDRESS_NOT_ALLOWED
    assert server.requests == []


@pytest.mark.parametrize(
    "addresses",
    [
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "2002:7f00:1::",
        "127.0.0.1 10.0.0.1",
        "::1 192.168.0.1 fe80::1",
    ],
)
async def test_a_name_that_leads_inside_is_refused(media: Any, fetchers: Any, addresses: str) -> None:
    server, _ = media
    fetcher = fetchers(allow_networks=[], resolver=Resolver(addresses))
    assert await reason_of(fetcher, server.url(host="media.example")) is Reason.ADDRESS_NOT_ALLOWED
    assert server.requests == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1"])
async def test_odd_forms_of_an_address_lead_nowhere(media: Any, fetchers: Any, host: str) -> None:
    server, _ = media
    fetcher = fetchers(allow_networks=[])
    with pytest.raises(FetchFailed):
        await whole(fetcher, server.url(host=host))
    assert server.requests == []


async def test_a_name_that_changes_its_address_between_two_connections_is_refused(serve: Any, fetchers: Any) -> None:
    """DNS rebinding: the first answer is good (127.0.0.2 stands for the public net), the second leads inside."""

    async def inside(_: web.Request) -> web.Response:
        return web.Response(text="secret")

    async def outside(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/again", "Connection": "close"})

    private = await serve(inside)
    public = await serve(outside, "127.0.0.2", private.port)
    resolver = Resolver("127.0.0.2", "127.0.0.1")
    fetcher = fetchers(allow_networks=["127.0.0.2/32"], resolver=resolver)
    assert await reason_of(fetcher, public.url(host="rebind.example")) is Reason.ADDRESS_NOT_ALLOWED
    assert (len(public.requests), len(private.requests), resolver.asked) == (1, 0, 2)


async def test_the_address_that_was_judged_is_the_one_connected_to(serve: Any, fetchers: Any) -> None:
    """One question to the resolver a connection: there is no second answer that could differ from the judged one."""

    async def handle(_: web.Request) -> web.Response:
        return web.Response(text="public")

    server = await serve(handle, "127.0.0.2")
    resolver = Resolver("127.0.0.2", "127.0.0.1")
    fetcher = fetchers(allow_networks=["127.0.0.2/32"], resolver=resolver)
    assert (await whole(fetcher, server.url(host="rebind.example")))[1] == b"public"
    assert resolver.asked == 1


async def test_the_environments_proxy_is_not_used(media: Any, fetchers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server, files = media
    files["a.png"] = File()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await whole(fetchers(), server.url()))[1] == PNG


async def test_cookies_are_not_kept(serve: Any, fetchers: Any) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(text=request.headers.get("Cookie", "none"), headers={"Set-Cookie": "a=b"})

    server, fetcher = await serve(handle), fetchers()
    await whole(fetcher, server.url(host="127.0.0.1"))
    assert (await whole(fetcher, server.url()))[1] == b"none"


async def test_a_closed_port_is_unreachable_and_may_pass(fetchers: Any) -> None:
    with pytest.raises(FetchFailed) as raised:
        await whole(fetchers(), "http://127.0.0.1:1/", hosts=["127.0.0.1:1"])
    assert (raised.value.reason, raised.value.may_pass) == (Reason.UNREACHABLE, True)


async def test_a_certificate_of_nobodys_is_not_believed(serve: Any, fetchers: Any, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "media.example")])
    begun = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begun)
        .not_valid_after(begun + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("media.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)

    async def handle(_: web.Request) -> web.Response:
        return web.Response(text="from whomever")

    server = await serve(handle, "127.0.0.1", 0, context)
    url = f"https://media.example:{server.port}/"
    assert await reason_of(fetchers(resolver=Resolver("127.0.0.1")), url) is Reason.UNREACHABLE
    assert server.requests == []


async def test_what_is_no_http_is_an_answer_of_no_use(fetchers: Any) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await reason_of(fetchers(), f"http://127.0.0.1:{port}/") in {Reason.UNAVAILABLE, Reason.UNREACHABLE}
    server.close()
    await server.wait_closed()


async def test_who_leaves_early_holds_no_connection(media: Any, fetchers: Any) -> None:
    server, files = media
    files["a.png"] = File(behaviour="endless")
    fetcher = fetchers()
    for _ in range(20):
        async with fetcher.open(server.url(), hosts=["*"]) as fetched:
            await anext(fetched.chunks)
    files["b.png"] = File()
    assert (await whole(fetcher, server.url("b.png")))[1] == PNG
    for _ in range(100):
        if all(request.transport is None or request.transport.is_closing() for request in server.requests[:20]):
            break
        await asyncio.sleep(0.01)
    assert all(request.transport is None or request.transport.is_closing() for request in server.requests[:20])
