"""What the identity tests make: a clock to set, tokens with any header, keys, and a key server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

NOW: Final = 1_790_000_000.0
SECRET: Final = "a-secret-of-at-least-32-characters"
CLAIMS: Final[dict[str, Any]] = {"sub": "u_1", "iat": int(NOW) - 10, "exp": int(NOW) + 600}

RSA: Final = rsa.generate_private_key(65537, 2048)
OTHER_RSA: Final = rsa.generate_private_key(65537, 2048)
EC: Final = ec.generate_private_key(ec.SECP256R1())
ED: Final = ed25519.Ed25519PrivateKey.generate()
_KINDS: Final = {"RS256": RSA, "PS256": RSA, "ES256": EC, "EdDSA": ED}


class HandClock:
    """A clock that stands until it is set."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hs256(claims: dict[str, Any], secret: str = SECRET, **header: Any) -> str:
    """Sign with a secret, whatever the header says."""
    return raw(json.dumps({"alg": "HS256", "typ": "JWT"} | header), json.dumps(claims), secret.encode())


def raw(header: str, payload: str, secret: bytes) -> str:
    """Sign any bytes with HMAC-SHA256."""
    signed = f"{base64url(header.encode())}.{base64url(payload.encode())}"
    return f"{signed}.{base64url(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def signed(algorithm: str, key: Any = None, claims: dict[str, Any] = CLAIMS, **header: Any) -> str:
    """Sign with a private key."""
    private: Any = key or _KINDS[algorithm]
    return jwt.encode(claims, private, algorithm, header)


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    """The public half of a key as a JSON Web Key."""
    kinds: list[tuple[type, str]] = [
        (rsa.RSAPrivateKey, "RS256"),
        (ec.EllipticCurvePrivateKey, "ES256"),
        (ed25519.Ed25519PrivateKey, "EdDSA"),
    ]
    name = next(algorithm for kind, algorithm in kinds if isinstance(key, kind))
    public: dict[str, Any] = jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)
    public.pop("key_ops", None)
    return public | more


class KeyHost:
    """A real HTTP server that gives a key set; it can fail, and counts how often it was asked."""

    def __init__(self) -> None:
        self.keys: list[Any] = [jwk(RSA, kid="k1")]
        self.body: bytes | None = None
        self.status = 200
        self.asked = 0
        self.url = ""

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        body = self.body if self.body is not None else json.dumps({"keys": self.keys}).encode()
        return web.Response(body=body, status=self.status, content_type="application/json")


@asynccontextmanager
async def key_host() -> AsyncIterator[KeyHost]:
    host = KeyHost()
    app = web.Application()
    app.router.add_get("/jwks", host.answer)
    async with TestServer(app) as server:
        host.url = str(server.make_url("/jwks"))
        yield host
