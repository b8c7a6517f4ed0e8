"""fal's protocol: the queue, results of its own shape, Ed25519 signatures with a JWKS."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.providers.base import API_KEY, SimulatedJob, Simulator, State

USER_ID = "user_0001"
WORDS: Mapping[State, str] = {
    "queued": "IN_QUEUE",
    "running": "IN_PROGRESS",
    "succeeded": "COMPLETED",
    "failed": "COMPLETED",
    "canceled": "COMPLETED",
    "unheard_of": "RETICULATING",
}


class FalSimulator(Simulator):
    name: ClassVar[str] = "fal"
    key_header: ClassVar[tuple[str, str]] = ("Authorization", f"Key {API_KEY}")
    models: ClassVar[Mapping[str, str]] = {
        "fal-ai/flux/dev": "image",
        "workflows/acme/film": "video",
        "fal-ai/tunes": "music",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.signing_key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
        self.jwks_status = 200
        self.jwks_served = 0
        self.published = [self.signing_key]

    def tables(self) -> dict[str, Any]:
        return super().tables() | {"jwks_url": f"{self.origin}/.well-known/jwks.json", "user_id": USER_ID}

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/.well-known/jwks.json", self._jwks)
        router.add_get("/{app:.+}/requests/{id}/status", self._status)
        router.add_put("/{app:.+}/requests/{id}/cancel", self._cancel)
        router.add_get("/{app:.+}/requests/{id}", self._result)
        router.add_get("/{app:.+}/requests/{id}/response", self._result)
        router.add_post("/{app:.+}", self._submit)

    def signed(self, job_id: str, now: float | None = None) -> tuple[dict[str, str], bytes]:
        job = self.jobs[job_id]
        event: dict[str, Any] = {"request_id": job.id, "gateway_request_id": job.id}
        if job.state == "succeeded":
            event |= {"status": "OK", "payload": self._payload(job)}
        else:
            event |= {"status": "ERROR", "error": "Invalid status code: 422", "payload": self._detail(job)}
        body = json.dumps(event).encode()
        return self.headers(job.id, self.clock() if now is None else now, body), body

    def headers(self, request_id: str, now: float, body: bytes, user_id: str = USER_ID) -> dict[str, str]:
        timestamp = str(int(now))
        message = "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()]).encode()
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": user_id,
            "X-Fal-Webhook-Timestamp": timestamp,
            "X-Fal-Webhook-Signature": self.signing_key.sign(message).hex(),
            "Content-Type": "application/json",
        }

    async def _jwks(self, _: web.Request) -> web.Response:
        self.jwks_served += 1
        keys = [base64.urlsafe_b64encode(key.public_key().public_bytes_raw()) for key in self.published]
        entries = [{"kty": "OKP", "crv": "Ed25519", "x": key.rstrip(b"=").decode()} for key in keys]
        return web.json_response({"keys": entries}, status=self.jwks_status)

    async def _submit(self, request: web.Request) -> web.Response:
        job = self.new_job(request.match_info["app"], await request.json(), request.query.get("fal_webhook"))
        where = f"{self.origin}/{self._short(job.model)}/requests/{job.id}"
        return web.json_response(
            {"request_id": job.id, "response_url": f"{where}/response", "status_url": f"{where}/status"}
        )

    async def _status(self, request: web.Request) -> web.Response:
        job = self._checked(request)
        where = f"{self.origin}/{self._short(job.model)}/requests/{job.id}/response"
        body: dict[str, Any] = {"status": WORDS[job.state], "response_url": where}
        if job.state == "canceled":
            body |= {"error": "Request was cancelled", "error_type": "client_cancelled"}
        return web.json_response(body)

    async def _result(self, request: web.Request) -> web.Response:
        job = self._checked(request)
        if job.state == "failed":
            return web.json_response(self._detail(job), status=422)
        return web.json_response(self._payload(job))

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self._checked(request)
        if job.state not in ("queued", "running"):
            return web.json_response({"status": "ALREADY_COMPLETED"}, status=400)
        job.state = "canceled"
        return web.json_response({"status": "CANCELLATION_REQUESTED"}, status=202)

    def _checked(self, request: web.Request) -> SimulatedJob:
        job = self.job_of(request)
        assert request.match_info["app"] == self._short(job.model), "what follows owner/alias is dropped"
        return job

    def _short(self, model: str) -> str:
        parts = model.split("/")
        return "/".join(parts[: 3 if parts[0] in ("workflows", "comfy") else 2])

    def _payload(self, job: SimulatedJob) -> dict[str, Any]:
        files = [
            {"url": url, "content_type": file.media_type, "file_name": "out", "file_size": len(file.body)}
            for url, file in zip(job.urls, job.files, strict=True)
        ]
        return {"files": files, "seed": 196619188014358660}

    def _detail(self, job: SimulatedJob) -> dict[str, Any]:
        return {"detail": [{"loc": ["body", "prompt"], "msg": job.error, "type": "value_error"}]}


simulator = FalSimulator
