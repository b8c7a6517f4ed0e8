"""Sets the stage: a bucket with its records, nginx as its server and as the rival, gateways as they are asked for."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

from benchmarks import client, peers, rivals
from tests.support.servers import processes
from tests.support.servers.nginx import Nginx

KiB, MiB = 1024, 1024 * 1024
SIZES = {"4k": 4 * KiB, "64k": 64 * KiB, "16m": 16 * MiB, "32m": 32 * MiB, "64m": 64 * MiB, "200m": 200 * MiB}
OWNER = "bench"
JWT_SECRET = "a secret of the benchmark, long enough for HS256"
SERVICE_KEY = "ag_" + "benchmark" * 5
_RECORDS = "assetgate.db"
AWS_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}

_SETTINGS = f"""
metadata = "sqlite:///{_RECORDS}"
storage = "@storage@"
[signing]
keys = "k1:YmVuY2htYXJrYmVuY2htYXJrYmVuY2htYXJrYmVuY2g"
[identity.services.bench]
key_sha256 = "{hashlib.sha256(SERVICE_KEY.encode()).hexdigest()}"
scopes = ["sign", "upload", "read"]
[identity.jwt]
secret = "{JWT_SECRET}"
[worker]
inline = false
[server]
port = 0
workers = @workers@
"""


@dataclass(frozen=True)
class Stage:
    """What all contests share. `ids` and `keys` are those of the objects, by the names of `SIZES`."""

    folder: Path
    ids: Mapping[str, str]
    keys: Mapping[str, str]
    storage: Nginx
    front: Nginx

    @contextmanager
    def gateway(
        self, more: str = "", *, workers: int = 1, copies: Mapping[str, int] | None = None
    ) -> Iterator[peers.Gateway]:
        """Start a gateway on the bucket with records and a cache of its own; `copies` adds records (see `copy_id`)."""
        with processes.folder("gateway") as folder:
            copyfile(self.folder / _RECORDS, folder / _RECORDS)
            for name, count in (copies or {}).items():
                _add_copies(folder / _RECORDS, self.ids[name], name, count)
            _write_settings(folder, self.place, workers, more)
            with peers.started(folder, **AWS_KEYS) as (url, process):
                yield peers.Gateway(url, SERVICE_KEY, process)

    @property
    def place(self) -> str:
        """The `storage` setting that names the bucket."""
        return f"s3://{rivals.BUCKET}?endpoint_url={self.storage.url}&region=us-east-1"

    def linked(self, way: str, name: str) -> str:
        """Return a URL of the rival that `secure_link` accepts; the way is `cached` or `passed`."""
        return rivals.linked(self.front.url, f"/{way}/{self.keys[name]}")

    def static(self, name: str) -> str:
        return f"{self.front.url}/static/{self.keys[name]}"

    def fetched(self) -> list[str]:
        """What was asked of the storage under cold/: lines of path, status, bytes sent and range."""
        log = self.storage.folder / "fetched.log"
        return log.read_text().splitlines() if log.exists() else []


class Copies:
    """The copies of one object, handed out once each."""

    def __init__(self, name: str, count: int) -> None:
        self._name, self._left = name, iter(range(count))

    def take(self, count: int) -> list[int]:
        """Take numbers that nobody had before."""
        taken = [number for _, number in zip(range(count), self._left, strict=False)]
        assert len(taken) == count, f"too few copies of {self._name} were made"
        return taken


def copy_id(name: str, number: int) -> str:
    return f"copy-{name}-{number:07}"


def copy_key(name: str, number: int) -> str:
    return f"copies/{name}/{number}"


@contextmanager
def prepared() -> Iterator[Stage]:
    """Upload the objects through a gateway on a folder, then let nginx serve that folder as a bucket."""
    with processes.folder("stage") as folder:
        ids = _upload(folder)
        keys = _adopt(folder, ids)
        with (
            peers.serve_static(rivals.storage(keys), folder) as storage,
            peers.serve_static(rivals.front(storage.port), folder) as front,
        ):
            yield Stage(folder, ids, keys, storage, front)


def add_cold(stage: Stage, gateway: peers.Gateway, name: str, number: int) -> str:
    """Add a record whose object nobody has read yet, and whose reads the storage writes down; return its id."""
    asset_id = f"cold-{name}-{number:04}"
    records = Path(gateway.process.log).parent / _RECORDS
    _insert(records, stage.ids[name], f"'{asset_id}'", f"'cold/{name}/{number}'", 1)
    return asset_id


def _write_settings(folder: Path, storage: str, workers: int, more: str = "") -> None:
    text = _SETTINGS.replace("@storage@", storage).replace("@workers@", str(workers))
    (folder / "assetgate.toml").write_text(text + more)


def _upload(folder: Path) -> dict[str, str]:
    _write_settings(folder, f"file:///{rivals.BUCKET}", 1)
    ids = {}
    with peers.started(folder) as (url, process):
        gateway = peers.Gateway(url, SERVICE_KEY, process)
        for name, size in SIZES.items():
            is_film = size > 50 * MiB or name == "32m"
            body = client.film(size) if is_film else client.picture(size)
            purpose = "generated_video" if is_film else "generated_image"
            ids[name] = client.upload(gateway, body, purpose, name, f"user:{OWNER}")
    return ids


def _adopt(folder: Path, ids: Mapping[str, str]) -> dict[str, str]:
    """Write into the records the versions that nginx gives the same files, its ETags; return the keys."""
    keys = {}
    with closing(sqlite3.connect(folder / _RECORDS)) as records:
        for name, asset_id in ids.items():
            (key,) = records.execute("SELECT object_key FROM assets WHERE id = ?", (asset_id,)).fetchone()
            facts = (folder / rivals.BUCKET / key).stat()
            version = f"{int(facts.st_mtime):x}-{facts.st_size:x}"
            records.execute("UPDATE assets SET object_version = ? WHERE id = ?", (version, asset_id))
            keys[name] = str(key)
        records.commit()
        records.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return keys


def _add_copies(records: Path, asset_id: str, name: str, count: int) -> None:
    _insert(records, asset_id, f"printf('copy-{name}-%07d', i)", f"'copies/{name}/' || i", count)


def _insert(path: Path, asset_id: str, new_id: str, key: str, count: int) -> None:
    """Copy a record `count` times, under other ids and keys."""
    with closing(sqlite3.connect(path)) as records:
        columns = [str(row[1]) for row in records.execute("PRAGMA table_info(assets)")]
        chosen = ", ".join({"id": new_id, "object_key": key}.get(column, column) for column in columns)
        records.execute(
            # All of these are our own words.
            f"INSERT INTO assets ({', '.join(columns)}) "  # noqa: S608
            "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < ?) "
            f"SELECT {chosen} FROM numbers, assets WHERE id = ?",
            (count, asset_id),
        )
        records.commit()
        records.execute("PRAGMA wal_checkpoint(TRUNCATE)")
