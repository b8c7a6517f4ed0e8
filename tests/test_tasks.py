"""AI tasks end to end: from the prompt to the bytes behind a signed URL, for every provider."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.ai import FILES, NAMES, Bench, bench

every_provider = pytest.mark.parametrize("ai", NAMES, indirect=True)


@pytest.fixture
async def ai(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with bench(getattr(request, "param", "replicate")) as made:
        yield made


@every_provider
async def test_a_notified_result_is_stored_and_plays_by_signed_url(ai: Bench) -> None:
    task = await ai.generate()
    assert (task["status"], ai.media(task)) == ("pending", [])
    ai.succeed(task)
    assert await ai.deliver(task) == [200]
    await ai.work()
    done = await ai.query(task)
    assert done["status"] == done["taskInfo"]["status"] == "success"
    (url,) = ai.urls(done)
    content, media_type = FILES[ai.media_type]
    assert await ai.read(url) == content
    (item,) = done["taskResult"]["media"]
    assert (item["mimeType"], item["sizeBytes"]) == (media_type, len(content))


@every_provider
async def test_a_result_without_notification_is_found_by_asking(ai: Bench) -> None:
    task = await ai.generate()
    await ai.wait(60)
    assert (await ai.record(task)).status in {"pending", "processing"}
    ai.succeed(task)
    await ai.wait(150)
    done = await ai.query(task)
    assert done["status"] == "success"
    assert await ai.read(ai.urls(done)[0]) == FILES[ai.media_type][0]
