"""The real servers and files that tests ask for: each is started when first asked, once a run."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from tests.support import media as samples
from tests.support.media import Media
from tests.support.servers import browser as browser_module
from tests.support.servers import ceph as ceph_module
from tests.support.servers import d1 as d1_module
from tests.support.servers import nginx as nginx_module
from tests.support.servers import postgres as postgres_module
from tests.support.servers import swift as swift_module
from tests.support.servers.d1 import D1
from tests.support.servers.nginx import Nginx
from tests.support.servers.postgres import Postgres
from tests.support.servers.s3 import S3Server
from tests.support.storage import aws_environment

IN_CI = os.environ.get("CI") == "true"
S3_SERVERS = ["swift", "ceph"] if IN_CI or ceph_module.present() else ["swift"]


def pytest_collection_finish() -> None:
    """What was collected lives to the end of the run: garbage need not be looked for in it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one in CI: what did not run has not passed."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"skipped, which fails in CI: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a module that skips itself whole."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome, report.longrepr = "failed", f"skipped, which fails in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that all tests share; a test that stops it starts its own by `servers.postgres.running()`."""
    with postgres_module.running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The URL of an empty database."""
    return postgres.create_database()


@pytest.fixture(scope="session")
def swift() -> Iterator[S3Server]:
    """OpenStack Swift's S3 API."""
    with swift_module.running() as server:
        yield server


@pytest.fixture(scope="session")
def own_swift() -> Iterator[S3Server]:
    """A Swift for those tests alone that stop it; each has it running again before it ends."""
    with swift_module.running() as server:
        yield server


@pytest.fixture(scope="module")
def swift_keys(swift: S3Server) -> Iterator[S3Server]:
    """Swift, with its keys in this process's AWS environment for as long as a module's tests run."""
    with aws_environment(swift.environment):
        yield swift


@pytest.fixture(scope="session")
def ceph() -> Iterator[S3Server]:
    """Ceph's radosgw."""
    with ceph_module.running() as server:
        yield server


@pytest.fixture(params=S3_SERVERS)
def s3(request: pytest.FixtureRequest) -> S3Server:
    """Every S3 server in turn: Swift everywhere, Ceph as well where its packages are installed."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, S3Server)
    return server


@pytest.fixture(scope="session")
def d1() -> Iterator[D1]:
    """Cloudflare's D1; `create_database` gives an empty one."""
    with d1_module.running() as server:
        yield server


@pytest.fixture
def nginx() -> Iterator[nginx_module.Start]:
    """Start an nginx by the directives of its `http` block; it ends with the test."""
    with ExitStack() as stack:

        def start(http: str, files: Path | None = None) -> Nginx:
            return stack.enter_context(nginx_module.running(http, files))

        yield start


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser's program."""
    return browser_module.executable()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser with an empty profile, for contexts and pages of one test."""
    async with browser_module.browsing() as running:
        yield running


@pytest.fixture
async def page(browser: Browser) -> Page:
    """An empty page of the browser."""
    return await browser.new_page()


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    """Sample images, films and sounds."""
    return samples.make(tmp_path_factory.mktemp("media"))
