"""What every provider must do, run against its simulator. A member without one fails: there is nothing to skip."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest
from aiohttp import ClientSession, web
from pydantic import SecretStr

from gateway.errors import CannotStart, CredentialInvalid
from gateway.families import member, members
from gateway.fetching import Fetcher
from gateway.providers import (
    GenerateRequest,
    Handle,
    JobNotFound,
    MediaType,
    Provider,
    ProviderKeyRefused,
    ProviderRefused,
    ProviderUnavailable,
)
from gateway.settings import Fetch
from tests.support.providers.base import SimulatedJob, Simulator
from tests.support.providers.media import File

NOW = 1795305600.0
CALLBACK = "https://gw.example/api/ai/notify/x?task=t_1"
NAMES = members("providers")
FETCH = Fetch.model_validate(
    {"max_bytes": "1 MiB", "timeout": "5s", "allow_http": True, "allow_networks": ["127.0.0.0/8"]}
)
FILES = {
    "image": File(),
    "video": File(b"a film", "video/mp4"),
    "audio": File(b"a voice", "audio/mpeg"),
    "music": File(b"a song", "audio/mpeg"),
}


def simulator_of(name: str) -> type[Simulator]:
    """Import `tests.support.providers.<name>`: a new provider brings its simulator along."""
    found: type[Simulator] = importlib.import_module(f"tests.support.providers.{name}").simulator
    return found


SHAPES = [(name, model) for name in NAMES for model in simulator_of(name).models]


class Bench:
    """A provider, its simulator, and the clock of both."""

    def __init__(self, simulator: Simulator, session: ClientSession) -> None:
        self.simulator = simulator
        self.session = session
        self.provider = self.opened()

    def opened(self, **settings: Any) -> Provider:
        opened: Provider = member("providers", self.simulator.name).open_provider(
            self.simulator.settings(**settings), self.simulator.clock, self.session
        )
        return opened

    async def begin(self, model: str | None = None, **options: Any) -> tuple[SimulatedJob, Handle]:
        model = model or next(iter(self.simulator.models))
        job = await self.provider.create(self.request(model, **options))
        assert job.status in {"pending", "processing"}
        return self.simulator.jobs[job.provider_task_id], self.handle(model, job.provider_task_id)

    def request(self, model: str, **options: Any) -> GenerateRequest:
        return GenerateRequest(model, "a llama", self.kind(model), options, CALLBACK, "k_1")

    def handle(self, model: str, task_id: str) -> Handle:
        return Handle(task_id, "u_1", model, self.kind(model), {})

    def kind(self, model: str) -> MediaType:
        return next(kind for kind in get_args(MediaType) if kind == self.simulator.models[model])


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with simulator_of(request.param)(lambda: NOW) as simulator, ClientSession() as session:
        yield Bench(simulator, session)


every_provider = pytest.mark.parametrize("bench", NAMES, indirect=True)
every_shape = pytest.mark.parametrize(("bench", "model"), SHAPES, indirect=["bench"])


def test_there_are_providers() -> None:
    assert {"replicate", "fal", "kie", "gemini"} <= set(NAMES)


def test_the_port_has_at_most_six_methods() -> None:
    assert len([name for name in vars(Provider) if not name.startswith("_")]) <= 7  # two of them are properties


@every_shape
async def test_the_prompt_and_the_options_reach_the_provider(bench: Bench, model: str) -> None:
    job, _ = await bench.begin(model)
    assert "a llama" in str(job.body)


@every_provider
async def test_a_callback_is_asked_for_where_the_provider_takes_one_with_each_job(bench: Bench) -> None:
    job, _ = await bench.begin()
    expected = None if bench.simulator.name == "gemini" else CALLBACK  # its hooks are the project's
    assert job.callback_url == expected


@every_shape
async def test_no_option_of_a_client_sends_notifications_elsewhere(bench: Bench, model: str) -> None:
    elsewhere = "https://evil.example/"
    names = ("callBackUrl", "webhook", "fal_webhook", "webhook_config")
    job, _ = await bench.begin(model, **dict.fromkeys(names, elsewhere))
    assert job.callback_url in (None, CALLBACK)
    if bench.simulator.name == "gemini":
        assert "webhook_config" not in job.body


@every_shape
@pytest.mark.parametrize(
    ("state", "expected"),
    [("queued", {"pending", "processing"}), ("running", {"processing"}), ("unheard_of", {"processing"})],
)
async def test_a_job_that_goes_on_is_asked_again(bench: Bench, model: str, state: Any, expected: set[str]) -> None:
    job, handle = await bench.begin(model)
    bench.simulator.advance(job.id, state)
    assert (await bench.provider.query(handle)).status in expected


@every_shape
async def test_a_result_is_found_and_can_be_fetched(bench: Bench, model: str) -> None:
    job, handle = await bench.begin(model)
    file = FILES[bench.kind(model)]
    bench.simulator.succeed(job.id, File(file.body, file.media_type))
    found = await bench.provider.query(handle)
    assert (found.status, found.error_code) == ("success", None)
    main = found.media[0]
    assert (main.role, main.ordinal) == ("song" if bench.kind(model) == "music" else bench.kind(model), 0)
    assert found.retention_ends is not None
    assert found.retention_ends > NOW * 1000
    fetcher = Fetcher(FETCH, lambda: NOW)
    assert main.url is not None
    headers = bench.provider.fetch_headers(main.url)
    async with fetcher.open(main.url, hosts=bench.provider.result_hosts, headers=headers) as fetched:
        assert b"".join([chunk async for chunk in fetched.chunks]) == file.body
    await fetcher.close()


@every_shape
async def test_asking_twice_names_the_same_items(bench: Bench, model: str) -> None:
    job, handle = await bench.begin(model)
    bench.simulator.succeed(job.id, File(), File(b"another"))
    first, second = await bench.provider.query(handle), await bench.provider.query(handle)
    keys = [(item.role, item.ordinal) for item in first.media]
    assert keys == [(item.role, item.ordinal) for item in second.media]
    assert len(keys) == len(set(keys))


@every_shape
async def test_a_failure_tells_its_reason_without_our_tokens(bench: Bench, model: str) -> None:
    job, handle = await bench.begin(model)
    bench.simulator.fail(job.id, "cannot read https://gw.example/api/storage/assets/a?token=v1.secret\x00")
    found = await bench.provider.query(handle)
    assert found.status == "failed"
    assert found.error_code
    assert found.error_message == "cannot read https://gw.example/api/storage/assets/a"


@every_provider
async def test_a_job_can_be_canceled_where_the_provider_can(bench: Bench) -> None:
    job, handle = await bench.begin()
    assert await bench.provider.cancel(handle) is bench.simulator.can_cancel
    if bench.simulator.can_cancel:
        assert job.state == "canceled"
        assert (await bench.provider.query(handle)).status == "canceled"


@every_provider
async def test_success_without_media_is_a_failure(bench: Bench) -> None:
    job, handle = await bench.begin()
    job.state = "succeeded"
    assert (await bench.provider.query(handle)).error_code == "no_media"


@every_shape
async def test_an_unknown_job_is_told_apart(bench: Bench, model: str) -> None:
    with pytest.raises(JobNotFound):
        await bench.provider.query(bench.handle(model, "nobody-knows-me"))


@every_provider
async def test_the_users_id_stays_with_us(bench: Bench) -> None:
    _, handle = await bench.begin()
    await bench.provider.query(handle)
    assert "u_1" not in str(bench.simulator.calls)


@every_provider
@pytest.mark.parametrize(
    ("status", "body", "headers", "expected"),
    [
        (429, {"detail": "throttled"}, {"Retry-After": "9"}, ProviderUnavailable),
        (503, {}, {}, ProviderUnavailable),
        (500, "<html>oops</html>", {}, ProviderUnavailable),
        (502, {}, {}, ProviderUnavailable),
        (401, {"detail": "bad key r8_secret"}, {}, ProviderKeyRefused),
        (402, {"detail": "no credit"}, {}, ProviderKeyRefused),
        (422, {"detail": "size: unknown"}, {}, ProviderRefused),
        (200, "<html>captive portal</html>", {}, ProviderUnavailable),
        (302, "", {"Location": "https://evil.example/"}, ProviderUnavailable),
        (200, [], {}, ProviderUnavailable),
    ],
)
async def test_every_bad_answer_to_a_creation_is_an_error_of_ours(
    bench: Bench, status: int, body: Any, headers: dict[str, str], expected: type[Exception]
) -> None:
    bench.simulator.scripted.append((status, body, headers))
    with pytest.raises(expected) as raised:
        await bench.begin()
    assert "secret" not in str(raised.value)
    if status == 429:
        assert isinstance(raised.value, ProviderUnavailable)
        assert raised.value.retry_after == 9


@every_provider
@pytest.mark.parametrize(("status", "uncertain"), [(429, False), (503, False), (500, True), (504, True), (200, True)])
async def test_a_creation_tells_whether_a_job_may_run_all_the_same(bench: Bench, status: int, uncertain: bool) -> None:
    bench.simulator.scripted.append((status, "", {}))
    with pytest.raises(ProviderUnavailable) as raised:
        await bench.begin()
    assert raised.value.uncertain is uncertain


@every_provider
async def test_the_key_follows_no_redirect(bench: Bench) -> None:
    bench.simulator.scripted.append((307, "", {"Location": f"{bench.simulator.origin}/elsewhere"}))
    with pytest.raises(ProviderUnavailable):
        await bench.begin()
    assert len(bench.simulator.calls) == 1


@every_provider
async def test_a_provider_that_is_away_has_begun_nothing(bench: Bench) -> None:
    bench.provider = bench.opened(base_url="http://127.0.0.1:1")
    with pytest.raises(ProviderUnavailable) as raised:
        await bench.begin()
    assert not raised.value.uncertain


@every_provider
@pytest.mark.parametrize("model", ["", "../../v1/account", "a b/c", "a/../b", "https://evil.example/", "a/b?x=1"])
async def test_a_models_name_cannot_lead_elsewhere(bench: Bench, model: str) -> None:
    request = GenerateRequest(model, "a llama", "video", {}, None, "k_1")
    try:
        await bench.provider.create(request)
    except ProviderRefused:
        assert not bench.simulator.calls
    else:
        assert bench.simulator.calls[0].path == "/api/v1/jobs/createTask"  # Kie names models in the body alone


@every_provider
async def test_there_is_no_provider_without_a_key(bench: Bench) -> None:
    for key in (None, SecretStr(""), SecretStr("two\r\nlines")):
        with pytest.raises(CannotStart, match=rf"providers\.{bench.simulator.name}\.api_key"):
            bench.opened(api_key=key)


@every_provider
async def test_the_operator_can_name_other_hosts(bench: Bench) -> None:
    assert tuple(bench.opened(result_hosts=["cdn.example"]).result_hosts) == ("cdn.example",)
    assert bench.opened(result_hosts=None).result_hosts


@every_shape
async def test_a_notification_is_authentic_and_names_its_job(bench: Bench, model: str) -> None:
    job, _ = await bench.begin(model)
    bench.simulator.succeed(job.id)
    for now in (NOW, NOW - 299, NOW + 299):
        notification = await bench.provider.verify(*bench.simulator.signed(job.id), now)
        assert (notification.provider_task_id, notification.hint) == (job.id, "success")


@every_shape
async def test_repetitions_of_a_notification_have_one_id(bench: Bench, model: str) -> None:
    job, _ = await bench.begin(model)
    bench.simulator.fail(job.id)
    first = await bench.provider.verify(*bench.simulator.signed(job.id), NOW)
    assert first == await bench.provider.verify(*bench.simulator.signed(job.id), NOW)
    assert first.hint == "failed"


@every_provider
async def test_headers_count_in_any_case(bench: Bench) -> None:
    job, _ = await bench.begin()
    bench.simulator.succeed(job.id)
    headers, body = bench.simulator.signed(job.id)
    for changed in (str.upper, str.lower, str.title):
        await bench.provider.verify({changed(name): value for name, value in headers.items()}, body, NOW)


@every_provider
@pytest.mark.parametrize("now", [NOW - 301, NOW + 301])
async def test_an_old_or_early_notification_is_refused(bench: Bench, now: float) -> None:
    job, _ = await bench.begin()
    with pytest.raises(CredentialInvalid):
        await bench.provider.verify(*bench.simulator.signed(job.id), now)


@every_provider
@pytest.mark.parametrize(
    "timestamp", ["", "nan", "1e400", "1795305600.9", "-1", " 1795305600", "+1795305600", "٣", "9" * 400]
)
async def test_a_strange_timestamp_is_refused(bench: Bench, timestamp: str) -> None:
    job, _ = await bench.begin()
    headers, body = bench.simulator.signed(job.id)
    changed = {name: timestamp if "timestamp" in name.lower() else value for name, value in headers.items()}
    with pytest.raises(CredentialInvalid):
        await bench.provider.verify(changed, body, NOW)


@every_provider
async def test_a_missing_header_is_refused(bench: Bench) -> None:
    job, _ = await bench.begin()
    headers, body = bench.simulator.signed(job.id)
    for missing in (name for name in headers if name.lower() != "content-type"):
        with pytest.raises(CredentialInvalid):
            await bench.provider.verify({name: headers[name] for name in headers if name != missing}, body, NOW)


@every_provider
@pytest.mark.parametrize(
    "signature",
    ["", "garbage", "v1,abc", "v1,aa,bb", "v1,a  v1,b", "x" * 1_000_000, "eyJhbGciOiJub25lIn0.e30.", "\udc80", "v1,é"],
)
async def test_a_strange_signature_is_refused(bench: Bench, signature: str) -> None:
    job, _ = await bench.begin()
    headers, body = bench.simulator.signed(job.id)
    changed = {name: signature if "signature" in name.lower() else value for name, value in headers.items()}
    with pytest.raises(CredentialInvalid):
        await bench.provider.verify(changed, body, NOW)


@every_provider
async def test_a_provider_without_secret_is_closed(bench: Bench) -> None:
    job, _ = await bench.begin()
    closed = bench.opened(webhook_secrets=(), user_id=None)
    assert bench.provider.accepts_notifications
    assert not closed.accepts_notifications
    with pytest.raises(CredentialInvalid):
        await closed.verify(*bench.simulator.signed(job.id), NOW)


@every_provider
async def test_a_delivery_is_repeated_until_it_is_taken(bench: Bench) -> None:
    job, _ = await bench.begin()
    bench.simulator.succeed(job.id)
    answers = iter([500, 503, 200])
    app = web.Application()
    seen: list[str] = []

    async def notify(request: web.Request) -> web.Response:
        seen.append((await bench.provider.verify(request.headers, await request.read(), NOW)).event_id)
        return web.Response(status=next(answers))

    app.router.add_post("/notify", notify)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    statuses = await bench.simulator.deliver(job.id, 5, at=f"http://127.0.0.1:{runner.addresses[0][1]}/notify")
    await runner.cleanup()
    assert statuses == [500, 503, 200]
    assert len(set(seen)) == 1
