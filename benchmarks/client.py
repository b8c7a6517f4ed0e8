"""Puts files into a gateway and signs their URLs, through its public routes alone."""

from __future__ import annotations

import json
import random
import struct
import urllib.request
import zlib
from typing import Any
from urllib.parse import urljoin

from benchmarks.peers import Gateway

TIMEOUT = 60.0  # seconds
LIFETIME = 6 * 3600  # seconds; longer than any run
_BOUNDARY = "assetgate-benchmark"


def picture(size: int) -> bytes:
    """Make a PNG of one pixel that is `size` bytes long: noise follows its end, which readers ignore."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    whole = b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(b"\0\0")) + _chunk(b"IEND", b"")
    return whole + random.Random(1).randbytes(size - len(whole))


def film(size: int) -> bytes:
    """Make an mp4 as far as its type is told: a file-type box, then media data that is noise."""
    kind = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"isom", 512, b"isom", b"mp42")
    rest = size - len(kind)
    return kind + struct.pack(">I4s", rest, b"mdat") + random.Random(1).randbytes(rest - 8)


def upload(gateway: Gateway, body: bytes, purpose: str, filename: str) -> str:
    """Upload one file as the service and return its asset id."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'.encode(),
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{filename}"\r\n\r\n'.encode(),
        body,
        f"\r\n--{_BOUNDARY}--\r\n".encode(),
    ]
    kind = f"multipart/form-data; boundary={_BOUNDARY}"
    data = _post(gateway, "/api/storage/upload-media", b"".join(parts), kind)
    return str(data["assetId"])


def sign(gateway: Gateway, asset_id: str) -> str:
    """Return a signed absolute URL."""
    body = json.dumps({"assetIds": [asset_id], "expiresInSeconds": LIFETIME}).encode()
    data = _post(gateway, "/api/storage/assets/sign", body, "application/json")
    return urljoin(gateway.url, str(data["results"][0]["url"]))


def _post(gateway: Gateway, path: str, body: bytes, kind: str) -> Any:
    headers = {"Authorization": f"Bearer {gateway.service_key}", "Content-Type": kind}
    request = urllib.request.Request(gateway.url + path, body, headers)  # noqa: S310 - a loopback URL of our own
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
        return json.load(response)["data"]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
