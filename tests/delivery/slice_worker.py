"""A worker process with the cache in a folder of its choice: does what its input says, tells what it asked for."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.delivery.remote import MIB, Remote, object_in, slices_over
from tests.delivery.test_slices_sharing import is_read_whole

KEY = "ab/object"


async def work(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    remote = Remote(slice_bytes=MIB, step=256 * 1024)
    remote.hold_at = job.get("hold_at")
    grant, data = object_in(remote, KEY, job["size"])
    async with slices_over(remote, folder, slice_bytes=MIB, read_ahead=4 * MIB, max_bytes=job["max_bytes"]) as slices:
        say({"ready": True})
        await asyncio.to_thread(sys.stdin.readline)
        readers = [asyncio.create_task(is_read_whole(slices, grant, data)) for _ in range(job["readers"])]
        if remote.hold_at is not None:
            await remote.held.wait()
            say({"holding": True})
        outcomes = await asyncio.gather(*readers)
        for number in range(job.get("others", 0)):
            other, other_data = object_in(remote, f"{job['name']}/{number}", MIB)
            outcomes.append(await is_read_whole(slices, other, other_data))
    return {"right": all(outcomes), "fetched": remote.fetched(KEY)}


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say(asyncio.run(work(Path(sys.argv[1]), json.loads(sys.argv[2]))))
