"""The page of AI tasks, as a browser gets it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator

import pytest

from tests.support.ai import Bench, bench
from tests.support.gateway import service_headers, user_headers

PATH = "/activity/ai-tasks"


@pytest.fixture
async def ai() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


async def page(ai: Bench, user: str = "u_1") -> tuple[str, str]:
    async with ai.gateway.client.get(PATH, headers=user_headers(user)) as response:
        assert (response.status, response.content_type) == (200, "text/html")
        return await response.text(), response.headers["Content-Security-Policy"]


async def test_a_user_sees_their_tasks_and_what_was_made(ai: Bench) -> None:
    task = await ai.generate(prompt="a llama & a <script>alert(1)</script>")
    html, _ = await page(ai)
    assert "a llama &amp; a &lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script" not in html
    assert f'href="{PATH}/{task["id"]}/refresh"' in html
    ai.succeed(task)
    await ai.deliver(task)
    await ai.work()
    html, _ = await page(ai)
    (source,) = re.findall(r'<img src="([^"]+)"', html)
    async with ai.gateway.client.get(source, headers=user_headers()) as response:
        assert response.status == 200
    assert "/refresh" not in html, "a finished task does not change"
    assert task["id"] not in (await page(ai, "u_2"))[0]


async def test_the_page_runs_nothing_and_loads_nothing_from_elsewhere(ai: Bench) -> None:
    html, policy = await page(ai)
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"'sha256-{digest}'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy


async def test_refreshing_asks_the_provider_and_leads_back(ai: Bench) -> None:
    task = await ai.generate()
    ai.simulator.fail(ai.job(task).id, "out of <memory>")
    path = f"{PATH}/{task['id']}/refresh"
    async with ai.gateway.client.get(path, headers=user_headers(), allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, f"{PATH}#task-{task['id']}")
    assert "out of &lt;memory&gt;" in (await page(ai))[0]
    assert (await ai.gateway.client.get(path, headers=user_headers("u_2"))).status == 404


@pytest.mark.parametrize("path", [PATH, f"{PATH}/3f0d8f5a-0b1e-4c55-9a53/refresh"])
async def test_the_pages_are_for_users(ai: Bench, path: str) -> None:
    assert (await ai.gateway.client.get(path)).status == 401
    assert (await ai.gateway.client.get(path, headers=service_headers("tasks"))).status == 401
