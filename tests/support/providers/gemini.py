"""Gemini's protocol: generateContent, interactions, files by key, static hooks."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from aiohttp import web

from gateway.clock import iso
from tests.support.providers.base import API_KEY, SimulatedJob, Simulator, State
from tests.support.providers.media import File
from tests.support.providers.signing import SECRET, standard_headers

WORDS: Mapping[State, str] = {
    "queued": "queued",
    "running": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "canceled": "cancelled",
    "unheard_of": "reticulating",
}


class GeminiSimulator(Simulator):
    name: ClassVar[str] = "gemini"
    key_header: ClassVar[tuple[str, str]] = ("x-goog-api-key", API_KEY)
    models: ClassVar[Mapping[str, str]] = {"gemini-omni-1.1-flash": "video", "lyria-3.5": "music"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hook: str | None = None  # the project's static hook
        self.generated: dict[str, Any] | None = None  # what generateContent answers
        self.inline: dict[str, File] = {}
        self.file_state = "ACTIVE"

    def tables(self) -> dict[str, Any]:
        return super().tables() | {"webhook_secrets": [SECRET], "base_url": f"{self.origin}/v1beta"}

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1beta/models/{model}:generateContent", self._generate)
        router.add_post("/v1beta/interactions", self._create)
        router.add_get("/v1beta/interactions/{id}", self._get)
        router.add_post("/v1beta/interactions/{id}/cancel", self._cancel)
        router.add_get("/v1beta/files/{name}:download", self.media.handle)
        router.add_get("/v1beta/files/{name}", self._file)

    def publish(self, name: str, file: File) -> str:
        name = name.replace("gemini-", "")
        file.key = self.key_header
        self.media.files[name] = file
        return f"{self.origin}/v1beta/files/{name}:download?alt=media"

    def signed(self, job_id: str, now: float | None = None) -> tuple[dict[str, str], bytes]:
        job, moment = self.jobs[job_id], self.clock() if now is None else now
        kind = {"succeeded": "completed", "canceled": "cancelled"}.get(job.state, "failed")
        event = {
            "type": f"interaction.{kind}",
            "version": "v1",
            "timestamp": iso(int(moment * 1000)),
            "data": {"id": job.id},
        }
        body = json.dumps(event).encode()
        return standard_headers(f"evt_{job_id}", moment, body), body

    def unauthorized(self) -> Any:
        return {"error": {"code": 401, "message": "API key not valid", "status": "UNAUTHENTICATED"}}

    async def _generate(self, request: web.Request) -> web.Response:
        job = self.new_job(request.match_info["model"], await request.json(), None)
        job.state = "succeeded"
        data = base64.b64encode(File().body).decode()
        return web.json_response(
            self.generated
            or {
                "candidates": [
                    {
                        "content": {
                            "role": "model",
                            "parts": [
                                {"text": "thinking", "thought": True},
                                {"inlineData": {"mimeType": "image/png", "data": "iVBORw0="}, "thought": True},
                                {"inlineData": {"mimeType": "image/png", "data": data}, "thoughtSignature": "s"},
                            ],
                        },
                        "finishReason": "STOP",
                        "index": 0,
                    }
                ],
                "responseId": job.id,
            }
        )

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert body["background"], "webhooks and answers that come at once need it"
        assert body["store"], "store:false is incompatible with background"
        return web.json_response(self._interaction(self.new_job(body["model"], body, self.hook)))

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._interaction(self.job_of(request)))

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self.job_of(request)
        if job.state in ("queued", "running"):
            job.state = "canceled"
        return web.json_response(self._interaction(job))

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        file = self.media.files.get(name)
        if file is None:
            return web.json_response({"error": {"code": 404, "message": "no such file"}}, status=404)
        ends = iso(int((self.clock() + 7200) * 1000))
        body = {"name": f"files/{name}", "mimeType": file.media_type, "state": self.file_state, "expirationTime": ends}
        return web.json_response(body)

    def _interaction(self, job: SimulatedJob) -> dict[str, Any]:
        body: dict[str, Any] = {"id": job.id, "object": "interaction", "model": job.model, "status": WORDS[job.state]}
        if job.state == "failed":
            body["errors"] = [{"code": "INTERNAL", "message": job.error}]
        if job.state == "succeeded":
            content = [
                {"type": file.media_type.partition("/")[0], "mime_type": file.media_type, "uri": url}
                for url, file in zip(job.urls, job.files, strict=True)
            ]
            body["steps"] = [
                {"type": "user_input", "content": [{"type": "text", "text": "a llama"}]},
                {"type": "model_output", "content": content},
            ]
        return body


simulator = GeminiSimulator
