"""The embedded mode's own secrets: made once, kept in `data/secrets.toml`, read like settings ever after."""

from __future__ import annotations

import base64
import hashlib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.clock import Randomness
from gateway.errors import CannotStart
from gateway.settings import SCOPES

SECRETS_FILE = Path("data/secrets.toml")
SERVICE_NAME = "embedded"
_KEY_BYTES = 32


class Secrets(NamedTuple):
    """The tables to lay under the operator's settings, the service key, and whether they were made just now."""

    tables: Mapping[str, Any]
    service_key: str
    made: bool


def new_signing_key(randomness: Randomness) -> str:
    """Make a signing key as the setting takes it: `kid:base64url`."""
    return f"k{randomness(3).hex()}:{_base64url(randomness(_KEY_BYTES))}"


def new_service_key(randomness: Randomness) -> str:
    return f"ag_{_base64url(randomness(_KEY_BYTES))}"


def read_or_make(randomness: Randomness, path: Path = SECRETS_FILE) -> Secrets:
    """Read the secrets, or make them so that of several starts at once all get the same. Raises `CannotStart`."""
    made = False
    try:
        if not path.exists():
            made = _make(randomness, path)
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        service_key = tables.pop("service_key")
    except OSError as error:
        raise CannotStart(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise CannotStart(f"{path}: is damaged; mend it, or remove it to have new secrets made") from error
    service = {"key_sha256": hashlib.sha256(service_key.encode()).hexdigest(), "scopes": sorted(SCOPES)}
    tables.setdefault("identity", {}).setdefault("services", {})[SERVICE_NAME] = service
    return Secrets(tables, service_key, made)


def _make(randomness: Randomness, path: Path) -> bool:
    """Write the file whole under another name, then link it: who comes second keeps the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{randomness(8).hex()}")
    text = f'service_key = "{new_service_key(randomness)}"\n\n[signing]\nkeys = "{new_signing_key(randomness)}"\n'
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
