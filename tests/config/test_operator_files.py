"""The files for operators say what is true of the gateway, and the programs that they are for accept them."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own, for this one call
from botocore.validate import validate_parameters
from prometheus_client.metrics_core import Metric

from gateway.app import build
from gateway.metrics import Metrics
from gateway.serving.supervisor import GRACE
from gateway.settings import Settings
from gateway.settings.reading import load
from tests.config.shipped import CONFIG
from tests.support.gateway import settings_for
from tests.support.servers import processes
from tests.support.servers.postgres import Postgres

ROOT = CONFIG.parent
# Plausible contents of the files that secrets come from, by what their names hold.
SECRETS = {"signing": "k1:dGhpcy1pcy1hLWtleS1vZi10aGUtdGVzdHMtMzJieXQ", "sha256": "0" * 64}
# What the S3 storage calls, and the right that each needs.
RIGHTS = {
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "copy_object": "s3:PutObject",
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "upload_part_copy": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "delete_objects": "s3:DeleteObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "list_objects_v2": "s3:ListBucket",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
}


def text_of(name: str) -> str:
    return (CONFIG / name).read_text(encoding="utf-8")


def settings_from(environment: Mapping[str, str], folder: Path) -> Settings:
    """Read an environment as the gateway does, its secrets from files that stand where it says."""
    own = {}
    for name, value in environment.items():
        if not name.startswith("ASSETGATE_"):
            continue
        own[name] = value
        if name.endswith("_FILE"):
            path = folder / Path(value).name
            path.write_text(next((secret for part, secret in SECRETS.items() if part in value), "postgresql://a:b@c/d"))
            own[name] = str(path)
    return load(None, own).settings


# --- systemd ---


def unit(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            found.setdefault(name, []).append(value)
    return found


def uncommented(text: str) -> str:
    """Take in what the unit offers for more secrets."""
    return re.sub(r"(?m)^# (?=(LoadCredential|Environment)=)", "", text)


@pytest.mark.parametrize("text", [text_of("assetgate.service"), uncommented(text_of("assetgate.service"))])
def test_the_unit_sets_what_there_is_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    found = unit(text)
    environment = dict(line.split("=", 1) for line in found["Environment"])
    settings = settings_from(environment, tmp_path)
    assert settings.server.workers >= 2  # reloading by SIGHUP is the supervisor's
    assert settings.signing.parsed[0].kid == "k1"
    handed = {line.partition(":")[0] for line in found["LoadCredential"]}
    assert {value.removeprefix("%d/") for value in environment.values() if value.startswith("%d/")} == handed


def test_the_unit_waits_longer_than_the_gateway_drains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drain = load(None, {}).settings.server.drain_timeout
    assert int(unit(text_of("assetgate.service"))["TimeoutStopSec"][0]) > drain + GRACE


def test_the_unit_keeps_no_secret_in_the_environment() -> None:
    for line in unit(uncommented(text_of("assetgate.service")))["Environment"]:
        name, _, value = line.partition("=")
        assert not re.search("KEYS|SECRET|METADATA", name) or value.startswith("%d/")


@pytest.mark.parametrize("program", ["systemd-analyze"] if processes.installed("systemd-analyze") else [])
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path, program: str) -> None:
    (tmp_path / "assetgate.service").write_text(
        text_of("assetgate.service").replace("/opt/assetgate/bin/assetgate", "/bin/true")
    )
    done = subprocess.run(
        [program, "verify", "--man=no", tmp_path / "assetgate.service"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "assetgate.service" in line]) == (0, [])


# --- containers ---


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text_of("compose.yaml"))
    return found


def test_compose_sets_what_there_is_to_set(
    compose: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = settings_from(compose["services"]["gateway"]["environment"], tmp_path)
    assert settings.server.workers > 1
    assert settings.metadata.startswith("postgresql://")
    assert settings.storage.startswith("s3://")
    assert settings.identity.services["app"].scopes
    (network,) = compose["networks"]["inside"]["ipam"]["config"]
    assert [str(trusted) for trusted in settings.server.trusted_proxies] == [f"{network['gateway']}/32"]
    seconds = int(compose["services"]["gateway"]["stop_grace_period"].removesuffix("s"))
    assert seconds > settings.server.drain_timeout + GRACE


def test_compose_waits_for_what_is_healthy(compose: dict[str, Any]) -> None:
    waits = compose["services"]["gateway"]["depends_on"]
    assert {name: wait["condition"] for name, wait in waits.items()} == dict.fromkeys(
        ("postgres", "s3"), "service_healthy"
    )
    assert all("healthcheck" in compose["services"][name] for name in waits)
    assert re.search(r"HEALTHCHECK .*\\\n.*/readyz", text_of("Dockerfile"))


def test_compose_joins_only_what_it_declares(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        assert set(service["networks"]) <= set(compose["networks"])
        assert {entry["source"] for entry in service.get("configs", ())} <= set(compose["configs"])
        named = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert named <= set(compose["volumes"])


def test_compose_keeps_secrets_in_files_outside_the_sources_and_ports_on_loopback(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        secret = [name for name in service["environment"] if re.search("PASSWORD|SECRET|KEY|METADATA", name)]
        files = [name for name in secret if name.endswith("_FILE")]
        assert set(secret) - set(files) <= {"GARAGE_ALLOW_WORLD_READABLE_SECRETS"}
        assert {service["environment"][name].removeprefix("/run/secrets/") for name in files} <= set(service["secrets"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert all(secret["file"].startswith("/etc/assetgate/secrets/") for secret in compose["secrets"].values())


def test_the_readme_makes_every_secret_that_compose_wants(compose: dict[str, Any]) -> None:
    files = [Path(secret["file"]).name for secret in compose["secrets"].values()]
    files += [Path(path).name for path in compose["services"]["s3"]["env_file"]]
    assert [name for name in files if f"> {name}\n" not in text_of("README.md")] == []


def test_the_image_is_built_from_what_there_is() -> None:
    copied = [line.split()[1:-1] for line in text_of("Dockerfile").splitlines() if line.startswith("COPY ")]
    ours = [name for names in copied for name in names if not name.startswith("-") and not name.startswith("/")]
    assert [name for name in ours if not (ROOT / name).exists()] == []
    assert sorted(ours) == sorted(re.findall(r"(?m)^!(.+)$", text_of("Dockerfile.dockerignore")))


# --- the bucket ---


def test_the_bucket_policy_allows_what_the_gateway_calls_and_nothing_else() -> None:
    statements = json.loads(text_of("bucket-policy.json"))["Statement"]
    allowed = {action for statement in statements if statement["Effect"] == "Allow" for action in statement["Action"]}
    assert allowed == set(RIGHTS.values())
    assert all(statement["Principal"] != "*" for statement in statements if statement["Effect"] == "Allow")
    sources = "".join(path.read_text() for path in (ROOT / "gateway" / "storage").glob("s3*.py"))
    called = set(re.findall(r"client\.(\w+)\(", sources))
    assert {"put_object", "list_objects_v2", "delete_objects"} <= called <= set(RIGHTS)


def test_rights_lie_on_the_bucket_or_on_its_objects_as_s3_wants_it() -> None:
    for statement in json.loads(text_of("bucket-policy.json"))["Statement"]:
        if statement["Effect"] == "Allow":
            on_objects = {action for action in statement["Action"] if not action.startswith("s3:List")}
            assert statement["Resource"].endswith("/*") == bool(on_objects)


def test_the_lifecycle_is_one_that_s3_takes() -> None:
    lifecycle = json.loads(text_of("bucket-lifecycle.json"))
    model = botocore.session.get_session().get_service_model("s3")
    shape = model.operation_model("PutBucketLifecycleConfiguration").input_shape
    validate_parameters({"Bucket": "bucket", "LifecycleConfiguration": lifecycle}, shape)
    (rule,) = lifecycle["Rules"]
    assert (rule["Status"], rule["AbortIncompleteMultipartUpload"]) == ("Enabled", {"DaysAfterInitiation": 1})


# --- PgBouncer ---


async def test_the_records_are_kept_through_the_shipped_pgbouncer(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    with processes.folder("pgbouncer") as folder:
        port, database = processes.free_port(), urlsplit(postgres_url).path.removeprefix("/")
        text = text_of("pgbouncer.ini")
        replaced = {
            "assetgate = host=127.0.0.1 port=5432 dbname=assetgate": f"* = host=127.0.0.1 port={postgres.port}",
            "listen_port = 6432": f"listen_port = {port}",
            "/etc/pgbouncer/": f"{folder}/",
            "/var/log/postgresql/": f"{folder}/",
            "/run/postgresql/": f"{folder}/",
        }
        for old, new in replaced.items():
            assert old in text, old
            text = text.replace(old, new)
        (folder / "pgbouncer.ini").write_text(text)
        (folder / "userlist.txt").write_text('"postgres" "secret"\n')
        with pooler(folder, port):
            url = f"postgresql://postgres:secret@127.0.0.1:{port}/{database}"
            async with build(settings_for(tmp_path, {"metadata": url, "postgres.pgbouncer": True})) as gateway:
                await gateway.metadata.upgrade()
                await gateway.metadata.ping()


@contextmanager
def pooler(folder: Path, port: int) -> Iterator[None]:
    user = "nobody" if processes.is_root() else None  # it refuses to run as root
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    command: processes.Command = [processes.program("pgbouncer"), folder / "pgbouncer.ini"]
    process = processes.start("pgbouncer", command, folder / "console.log", user=user)
    try:
        process.wait_until(lambda: processes.accepts(port))
        yield
    finally:
        process.stop()


# --- Grafana ---


def series() -> dict[str, set[str]]:
    """The names of all series of the gateway, and their labels."""
    found: dict[str, set[str]] = {}
    for family in Metrics().registry.collect():
        for name in names_of(family):
            found[name] = set()
    for metric in vars(Metrics()).values():
        for name in found:
            if name.startswith(getattr(metric, "_name", " ")):
                found[name] |= set(metric._labelnames)  # noqa: SLF001 - nothing public tells them before the first use
    return found


def names_of(family: Metric) -> Iterator[str]:
    if family.type == "counter":
        yield f"{family.name}_total"
    elif family.type == "histogram":
        yield from (f"{family.name}_{part}" for part in ("bucket", "sum", "count"))
    else:
        yield family.name


def test_the_board_shows_what_is_counted() -> None:
    board, known = json.loads(text_of("grafana.json")), series()
    shown = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    shown += [variable["definition"] for variable in board["templating"]["list"] if "definition" in variable]
    assert len(shown) > 15
    for expression in shown:
        names = set(re.findall(r"assetgate_\w+", expression))
        assert names, expression
        assert names <= set(known), expression
        labels = {"job", "instance", "le", *(label for name in names for label in known[name])}
        used = [re.findall(r"(\w+)\s*[=!]~?\"", expression)]
        used += [re.split(r"[,\s]+", group) for group in re.findall(r"by \(([^)]*)\)", expression)]
        assert {label for group in used for label in group} <= labels, expression


def test_the_panels_of_the_board_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(text_of("grafana.json"))["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


# --- all of them ---


def test_the_readme_names_every_file() -> None:
    files = [path.name for path in CONFIG.iterdir() if path.is_file() and not path.match("*.local.toml")]
    assert [name for name in files if name != "README.md" and f"`{name}`" not in text_of("README.md")] == []
