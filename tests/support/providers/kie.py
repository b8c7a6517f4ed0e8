"""Kie's protocol: seven shapes behind one envelope, callbacks whose signature leaves the body out."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from aiohttp import web

from tests.support.providers.base import SimulatedJob, Simulator, State

HMAC_KEY = "test-webhook-hmac-key-0001"
Shape = Callable[[SimulatedJob], dict[str, Any]]
STATES: Mapping[str, Mapping[State, str]] = {
    "jobs": {"queued": "queuing", "running": "generating", "succeeded": "success", "failed": "fail"},
    "runway": {"queued": "queueing", "running": "generating", "succeeded": "success", "failed": "fail"},
    "suno": {
        "queued": "PENDING",
        "running": "FIRST_SUCCESS",
        "succeeded": "SUCCESS",
        "failed": "GENERATE_AUDIO_FAILED",
    },
    "4o": {"queued": "GENERATING", "running": "GENERATING", "succeeded": "SUCCESS", "failed": "GENERATE_FAILED"},
}
FLAGS: Mapping[State, int] = {"queued": 0, "running": 0, "succeeded": 1, "failed": 3}


class KieSimulator(Simulator):
    name: ClassVar[str] = "kie"
    can_cancel: ClassVar[bool] = False
    models: ClassVar[Mapping[str, str]] = {
        "google/nano-banana": "image",
        "V4": "music",
        "veo3_fast": "video",
        "4o-image": "image",
        "flux-kontext-pro": "image",
        "runway": "video",
        "aleph": "video",
    }

    def tables(self) -> dict[str, Any]:
        return super().tables() | {"webhook_secrets": [HMAC_KEY]}

    def add_routes(self, router: web.UrlDispatcher) -> None:
        for create, query, shape in (
            ("jobs/createTask", "jobs/recordInfo", _jobs),
            ("generate", "generate/record-info", _suno),
            ("veo/generate", "veo/record-info", _veo),
            ("gpt4o-image/generate", "gpt4o-image/record-info", _image_4o),
            ("flux/kontext/generate", "flux/kontext/record-info", _flux),
            ("runway/generate", "runway/record-detail", _runway),
            ("aleph/generate", "aleph/record-info", _aleph),
        ):
            router.add_post(f"/api/v1/{create}", self._create)
            router.add_get(f"/api/v1/{query}", self._query(shape))
        router.add_post("/api/v1/common/download-url", self._relink)

    def signed(self, job_id: str, now: float | None = None) -> tuple[dict[str, str], bytes]:
        job = self.jobs[job_id]
        timestamp = str(int(self.clock() if now is None else now))
        return self.headers(job_id, timestamp), json.dumps(_callback(job)).encode()

    def headers(self, task_id: str, timestamp: str) -> dict[str, str]:
        digest = hmac.new(HMAC_KEY.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
        return {
            "X-Webhook-Timestamp": timestamp,
            "X-Webhook-Signature": base64.b64encode(digest).decode(),
            "Content-Type": "application/json",
        }

    def unauthorized(self) -> Any:
        return {"code": 401, "msg": "You do not have access permissions", "data": None}

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        job = self.new_job(str(body.get("model", request.path)), body, body.get("callBackUrl"))
        return web.json_response({"code": 200, "msg": "success", "data": {"taskId": job.id}})

    def _query(self, shape: Shape) -> Any:
        async def handle(request: web.Request) -> web.Response:
            job = self.jobs.get(request.query["taskId"])
            if job is None:
                return web.json_response({"code": 422, "msg": "recordInfo is null", "data": None})
            return web.json_response({"code": 200, "msg": "success", "data": {"taskId": job.id} | shape(job)})

        return handle

    async def _relink(self, request: web.Request) -> web.Response:
        url = (await request.json())["url"]
        if not url.startswith(self.origin):
            return web.json_response({"code": 422, "msg": "The url is not ours", "data": None})
        return web.json_response({"code": 200, "msg": "success", "data": url + "?fresh=1"})


def _word(job: SimulatedJob, shape: str) -> str:
    return STATES[shape].get(job.state, "RETICULATING")


def _jobs(job: SimulatedJob) -> dict[str, Any]:
    done = job.state == "succeeded"
    return {
        "model": job.model,
        "state": _word(job, "jobs"),
        "param": json.dumps(job.body),
        "resultJson": json.dumps({"resultUrls": job.urls}) if done else "",
        "failCode": "400" if job.error else "",
        "failMsg": job.error,
        "completeTime": int(job.finished_at * 1000),
        "progress": 45,
    }


def _suno(job: SimulatedJob) -> dict[str, Any]:
    songs = [
        {"id": str(number), "audioUrl": url, "imageUrl": url + ".jpeg", "title": "Iron Man", "duration": 198.44}
        for number, url in enumerate(job.urls)
    ]
    return {"status": _word(job, "suno"), "response": {"sunoData": songs}, "errorMessage": job.error or None}


def _flagged(job: SimulatedJob) -> dict[str, Any]:
    flag = FLAGS.get(job.state, 7)
    return {"successFlag": flag, "errorCode": 501 if job.error else None, "errorMessage": job.error or None}


def _veo(job: SimulatedJob) -> dict[str, Any]:
    return _flagged(job) | {"response": {"resultUrls": job.urls}}


def _image_4o(job: SimulatedJob) -> dict[str, Any]:
    return _flagged(job) | {"status": _word(job, "4o"), "progress": "0.45", "response": {"resultUrls": job.urls}}


def _flux(job: SimulatedJob) -> dict[str, Any]:
    url = job.urls[0] if job.urls else ""
    return _flagged(job) | {"response": {"resultImageUrl": url, "originImageUrl": url + "?original"}}


def _runway(job: SimulatedJob) -> dict[str, Any]:
    info = {"videoUrl": job.urls[0], "imageUrl": job.urls[0] + ".png"} if job.urls else None
    return {"state": _word(job, "runway"), "videoInfo": info, "failCode": 0, "failMsg": job.error}


def _aleph(job: SimulatedJob) -> dict[str, Any]:
    response = {"resultVideoUrl": job.urls[0], "resultImageUrl": job.urls[0] + ".png"} if job.urls else None
    flag = 1 if job.state == "succeeded" else 0
    return {
        "successFlag": flag,
        "response": response,
        "errorCode": 400 if job.error else 0,
        "errorMessage": job.error,
    }


def _callback(job: SimulatedJob) -> dict[str, Any]:
    """Put the id where each shape has it: `data.task_id`, the top level, `data.taskId`."""
    code, msg = (200, "success") if job.state == "succeeded" else (501, job.error or "failed")
    if job.model.startswith("V"):
        kind = "complete" if code == 200 else "error"
        songs = [{"audio_url": url} for url in job.urls] or None
        return {"code": code, "msg": msg, "data": {"callbackType": kind, "task_id": job.id, "data": songs}}
    if job.model.endswith("runway/generate"):
        return {"code": code, "msg": msg, "data": {"task_id": job.id, "video_url": "".join(job.urls)}}
    if job.model.endswith("aleph/generate"):
        return {"code": code, "msg": msg, "data": None, "taskId": job.id}
    return {"code": code, "msg": msg, "data": {"taskId": job.id} | _jobs(job)}


simulator = KieSimulator
