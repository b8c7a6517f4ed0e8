"""What every bad request must get: an error of the contract, and a gateway in which nothing was left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.gateway import Running, running
from tests.support.raw import Answer

LARGEST_REFUSAL = 4096  # bytes; a small question must not get a large answer


@asynccontextmanager
async def untouched(folder: Path, settings: Mapping[str, Any] | None = None) -> AsyncIterator[Running]:
    """Run a gateway, and check in the end that it still works and that nothing was left in it."""
    async with running(settings, folder=folder) as gateway:
        yield gateway
        await assert_untouched(gateway, folder)


async def assert_untouched(gateway: Running, folder: Path) -> None:
    async with asyncio.timeout(20):  # a task that only ends at the gateway's own time-outs counts as leaked
        while connections():  # noqa: ASYNC110 - the server's tasks have no event
            await asyncio.sleep(0.01)
    assert await gateway.records() == []
    assert await gateway.objects() == []
    assert files_in(folder / "objects/.tmp") == []
    async with gateway.client.get("/readyz") as response:
        assert response.status == 200


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def connections() -> list[str]:
    """The tasks that serve connections, but for the idle one that the test's own client keeps."""
    tasks = [task.get_coro() for task in asyncio.all_tasks()]
    return [name for coro in tasks if "RequestHandler._handle_request" in (name := getattr(coro, "__qualname__", ""))]


def told(answer: Answer, status: int, error: str) -> dict[str, str]:
    """Check that the answer is this error in the contract's shape; return what it says of single fields."""
    document = answer.document
    assert (answer.status, document["error"]) == (status, error), document
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert document["type"] == f"urn:assetgate:{error}"
    assert (document["status"], document["code"]) == (status, -1)
    assert document["request_id"] == answer.headers["X-Request-Id"]
    assert len(answer.body) < LARGEST_REFUSAL
    fields: dict[str, str] = document.get("fields", {})
    return fields
