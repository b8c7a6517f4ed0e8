"""Replicate's protocol: predictions, their states, and Standard Webhooks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from aiohttp import web

from tests.support.providers.base import SimulatedJob, Simulator, State
from tests.support.providers.signing import SECRET, standard_headers

WORDS: Mapping[State, str] = {
    "queued": "starting",
    "running": "processing",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "canceled",
    "unheard_of": "reticulating",
}


class ReplicateSimulator(Simulator):
    name: ClassVar[str] = "replicate"
    models: ClassVar[Mapping[str, str]] = {
        "black-forest-labs/flux-schnell": "image",
        "deployments/acme/clips": "video",
        "acme/tunes:" + "5c" * 32: "music",
    }

    def tables(self) -> dict[str, Any]:
        return super().tables() | {"webhook_secrets": [SECRET], "base_url": f"{self.origin}/v1"}

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/predictions", self._create)
        router.add_post("/v1/models/{owner}/{model}/predictions", self._create)
        router.add_post("/v1/deployments/{owner}/{model}/predictions", self._create)
        router.add_get("/v1/predictions/{id}", self._get)
        router.add_post("/v1/predictions/{id}/cancel", self._cancel)

    def signed(self, job_id: str, now: float | None = None) -> tuple[dict[str, str], bytes]:
        body = json.dumps(self._prediction(self.jobs[job_id])).encode()
        return standard_headers(f"msg_{job_id}", self.clock() if now is None else now, body), body

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "input" not in body:
            return web.json_response({"detail": "- input is required", "status": 422}, status=422)
        model = "/".join(request.match_info.values()) or body["version"]
        job = self.new_job(model, body, body.get("webhook"))
        return web.json_response(self._prediction(job), status=201, headers={"ratelimit-remaining": "599"})

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._prediction(self.job_of(request)))

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self.job_of(request)
        if job.state in ("queued", "running"):
            job.state = "canceled"
        return web.json_response(self._prediction(job))

    def _prediction(self, job: SimulatedJob) -> dict[str, Any]:
        removed = 0 < job.finished_at <= self.clock() - 3600
        one = job.urls[0] if len(job.urls) == 1 else job.urls
        finished = datetime.fromtimestamp(job.finished_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f789Z")
        return {
            "id": job.id,
            "model": job.model,
            "version": "hidden",
            "input": job.body["input"],
            "logs": "see https://replicate.com/p/logs.png",
            "output": None if removed or job.state != "succeeded" else one,
            "error": job.error or None,
            "status": WORDS[job.state],
            "data_removed": removed,
            "completed_at": finished if job.finished_at else None,
            "urls": {"get": f"{self.origin}/v1/predictions/{job.id}"},
        }


simulator = ReplicateSimulator
