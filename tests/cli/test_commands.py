"""Every command as an operator types it: what it prints, for people and for programs, and how it ends."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.clock import system_randomness
from gateway.settings import parse_signing_keys
from gateway.settings.embedded import read_or_make
from tests.support.gateway import PNG, ROOT, SIGNING_KEYS, Running, environment, running, user_headers

DONE, SOME_FAILED, CANNOT_START = 0, 1, 2
SECRETS = Path("data/secrets.toml")
ABSENT = "asset://never-there-01"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no setting in the environment."""
    for name in [name for name in os.environ if name.startswith("ASSETGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assetgate(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, arguments, env=env)


def told(*arguments: str, env: dict[str, str] | None = None, code: int = DONE) -> Any:
    """Run a command with --json and return the one document that it prints."""
    result = assetgate(*arguments, "--json", env=env)
    assert result.exit_code == code, result.output
    return orjson.loads(result.stdout)


class Own(NamedTuple):
    """An operator's own engines in a folder: the environment that names them, and three assets in them."""

    env: dict[str, str]
    kept: str
    deleted: str
    of_guest: str


@pytest.fixture
def own(folder: Path) -> Own:
    engines = {"metadata": f"sqlite:///{folder}/assetgate.db", "storage": f"file:///{folder}/objects"}
    kept, deleted, of_guest = asyncio.run(_three_assets(folder))
    return Own(environment(engines), kept, deleted, of_guest)


async def _three_assets(folder: Path) -> tuple[str, str, str]:
    async with running({"guests.ttl": "1ms"}, folder=folder) as gateway:
        kept, deleted = await gateway.asset(), await gateway.asset()
        async with gateway.client.delete(f"/api/storage/assets/{deleted}", headers=user_headers()) as response:
            assert response.status == 200
        guest = await gateway.upload(("purpose", "reference_image"), ("files", "a.png", PNG))
        return kept, deleted, (await guest.json())["data"]["assetId"]


# the program


def test_the_program_names_its_commands_and_its_version() -> None:
    usage = assetgate("--help").stdout
    for command in ("serve", "worker", "check", "settings", "db", "sign", "explain", "sweep", "keys"):
        assert f"\n  {command} " in usage
        assert assetgate(command, "--help").exit_code == DONE
    assert assetgate("--version").stdout.startswith("assetgate, version ")


@pytest.mark.parametrize(
    "arguments", [["fly"], ["sign"], ["explain"], ["sweep", "--remove"], ["keys"], ["db", "down"], ["check", "now"]]
)
def test_wrong_usage_ends_with_two(arguments: list[str]) -> None:
    result = assetgate(*arguments)
    assert result.exit_code == CANNOT_START
    assert "Usage:" in result.output
    assert not SECRETS.exists()


def test_a_settings_file_that_is_not_there_is_named() -> None:
    result = assetgate("--config", "missing.toml", "settings")
    assert result.exit_code == CANNOT_START
    assert "missing.toml" in result.stderr


# settings


WRONG_SETTINGS = {
    "ASSETGATE_SERVER_PORT": "ninety",
    "ASSETGATE_SERVER_PUBLIC_URL": "media.example.com",
    "ASSETGATE_SIGNING_KEYS": "k1",
    "ASSETGATE_GUESTS_TTL": "a while",
    "ASSETGATE_NO_SUCH_THING": "1",
    "ASSETGATE_CACHE_MAX_BYTES_FILE": "missing.txt",
    "ASSETGATE_IDENTITY_SERVICES_APP_KEY_SHA256": "abc",
    "ASSETGATE_IDENTITY_SERVICES_APP_SCOPES": "everything",
}
WRONG_FILE = """
[server]
prot = 9000
[purposes.avatar]
max_bytes = "huge"
[legacy]
upload_image = "off"
"""


@pytest.mark.parametrize("command", [["settings"], ["check"], ["serve"], ["worker"], ["db", "upgrade"]])
def test_all_problems_are_told_at_once_by_the_name_to_type(folder: Path, command: list[str]) -> None:
    (folder / "assetgate.toml").write_text(WRONG_FILE)
    result = assetgate(*command, env=WRONG_SETTINGS)
    assert result.exit_code == CANNOT_START
    assert result.stdout == ""
    problems = [line.removeprefix("assetgate: ").partition(":")[0] for line in result.stderr.splitlines()]
    assert sorted(problems) == sorted(
        [
            "ASSETGATE_CACHE_MAX_BYTES_FILE",
            "ASSETGATE_NO_SUCH_THING",
            "server.port",
            "server.public_url",
            "server.prot",
            "signing.keys",
            "guests.ttl",
            "identity.services.app",
            "purposes.avatar.max_bytes",
            "legacy.upload_image",
        ]
    )
    assert not SECRETS.exists()


def test_the_environment_outweighs_the_file_and_a_file_can_hold_a_value(folder: Path) -> None:
    (folder / "assetgate.toml").write_text('metadata = "memory://"\n[server]\nport = 1111\nhost = "::1"\n')
    (folder / "keys").write_text(f"{SIGNING_KEYS}\n")
    env = {"ASSETGATE_SERVER_PORT": "2222", "ASSETGATE_SIGNING_KEYS_FILE": "keys"}
    effective = told("settings", env=env)
    assert effective["server"] == {**effective["server"], "port": 2222, "host": "::1"}
    assert "server.port = 2222" in assetgate("settings", env=env).stdout.splitlines()


SECRET_SETTINGS = {
    "ASSETGATE_SIGNING_KEYS": "k1:c2VjcmV0LTEtc2VjcmV0LTEtc2VjcmV0LTE",
    "ASSETGATE_IDENTITY_JWT_SECRET": "secret-2-secret-2-secret-2-secret-2",
    "ASSETGATE_IDENTITY_BETTER_AUTH_SECRET": "secret-3",
    "ASSETGATE_IDENTITY_BETTER_AUTH_DATABASE": "postgresql://app:secret-4@db/app",
    "ASSETGATE_METADATA": "postgresql://gate:secret-5@db:5432/gate?sslmode=require",
    "ASSETGATE_PROVIDERS_FAL_API_KEY": "secret-6",
    "ASSETGATE_PROVIDERS_FAL_WEBHOOK_SECRETS": "secret-7,secret-8",
}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_settings_show_no_secret(options: list[str]) -> None:
    result = assetgate("settings", *options, env=SECRET_SETTINGS)
    assert result.exit_code == DONE, result.output
    assert "c2VjcmV0" not in result.output
    assert "secret-" not in result.output
    assert "postgresql://gate:***@db:5432/gate?sslmode=require" in result.stdout


# the embedded mode


def test_the_secrets_of_the_embedded_mode_are_made_once_for_their_owner_alone() -> None:
    first = assetgate("settings")
    assert first.exit_code == DONE
    assert "data/secrets.toml" in first.stderr
    assert stat.S_IMODE(SECRETS.stat().st_mode) == 0o600
    text = SECRETS.read_text()
    for command in (["settings"], ["db", "upgrade"], ["check"]):
        again = assetgate(*command)
        assert (again.exit_code, again.stderr) == (DONE, "")
    assert SECRETS.read_text() == text
    service_key, blank, table, keys = text.splitlines()
    assert service_key.startswith('service_key = "ag_')
    assert (blank, table) == ("", "[signing]")
    assert len(parse_signing_keys(keys.split('"')[1])[0].key) == 32
    assert service_key.split('"')[1] not in first.output


def test_of_many_that_start_at_once_all_get_the_same_secrets() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: read_or_make(system_randomness), range(16)))
    assert len({secrets.service_key for secrets in made}) == 1
    assert sum(secrets.made for secrets in made) == 1
    assert [path.name for path in SECRETS.parent.iterdir()] == [SECRETS.name]


@pytest.mark.parametrize("text", ["", "service_key = ", "[signing]\nkeys = 'k1:AAAA'\n", "\0"])
def test_damaged_secrets_are_not_replaced(text: str) -> None:
    SECRETS.parent.mkdir()
    SECRETS.write_text(text)
    result = assetgate("settings")
    assert result.exit_code == CANNOT_START
    assert str(SECRETS) in result.stderr
    assert SECRETS.read_text() == text


@pytest.mark.parametrize("setting", ["ASSETGATE_METADATA=sqlite:///own.db", "ASSETGATE_STORAGE=file:///own"])
@pytest.mark.parametrize("command", [["worker"], ["check"], ["db", "upgrade"]])
def test_engines_of_ones_own_without_a_signing_key_are_no_start(command: list[str], setting: str) -> None:
    name, _, value = setting.partition("=")
    result = assetgate(*command, env={name: value})
    assert result.exit_code == CANNOT_START
    assert result.stderr.startswith("assetgate: signing.keys: ")
    assert "assetgate keys new" in result.stderr
    assert not SECRETS.exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ASSETGATE_METADATA", "oracle://db", ["oracle", "sqlite", "postgres"]),
        ("ASSETGATE_STORAGE", "ftp://host", ["ftp", "file"]),
        ("ASSETGATE_POLICIES_RULES", "nowhere.rules:mine", ["policies.rules", "nowhere"]),
        ("ASSETGATE_IDENTITY_JWT_SECRET", "short", ["identity.jwt.secret", "HS256"]),
    ],
)
def test_what_cannot_be_started_with_is_named_with_what_there_is(name: str, value: str, words: list[str]) -> None:
    result = assetgate("check", env={**environment(), name: value})
    assert result.exit_code == CANNOT_START
    assert [word for word in words if word not in result.stderr] == []


# check and db


def test_check_tells_what_answers() -> None:
    waiting = told("check", code=SOME_FAILED)
    assert (waiting["metadata"], waiting["storage"]) == ("ok", "ok")
    assert "assetgate db upgrade" in waiting["schema"]
    assert assetgate("db", "upgrade").exit_code == DONE
    assert told("check") == {"metadata": "ok", "schema": "ok", "storage": "ok"}
    assert assetgate("check").stdout == "metadata: ok\nschema: ok\nstorage: ok\n"


def test_the_schema_is_upgraded_once() -> None:
    before = told("db", "status")
    assert [found["appliedAt"] for found in before] == [None] * len(before)
    assert before
    assert told("db", "upgrade") == {"applied": [found["name"] for found in before]}
    assert told("db", "upgrade") == {"applied": []}
    assert all(found["appliedAt"].endswith("Z") for found in told("db", "status"))
    assert assetgate("db", "upgrade").stdout == "0 applied; the schema is up to date\n"
    assert "waiting" not in assetgate("db", "status").stdout


# sign, explain, sweep


def test_a_signed_url_opens_the_asset(own: Own, folder: Path) -> None:
    printed = assetgate("sign", f"asset://{own.kept}", env=own.env)
    (found,) = told("sign", own.kept, "--expires", "10m", env=own.env)
    assert printed.exit_code == DONE
    assert found["assetRef"] == f"asset://{own.kept}"

    async def opened(gateway: Running, url: str) -> bytes:
        async with gateway.client.get(url) as response:
            return await response.read()

    async def both() -> list[bytes]:
        async with running(folder=folder) as gateway:
            return [await opened(gateway, url) for url in (printed.stdout.strip(), found["url"])]

    assert asyncio.run(both()) == [PNG, PNG]


def test_some_references_that_cannot_be_signed_end_with_one(own: Own) -> None:
    results = told("sign", own.kept, ABSENT, f"asset://{own.deleted}", "x", env=own.env, code=SOME_FAILED)
    assert [entry.get("error") for entry in results] == [None, "not_found", "asset_deleted", "not_found"]
    plain = assetgate("sign", own.kept, ABSENT, env=own.env)
    assert plain.exit_code == SOME_FAILED
    assert plain.stdout.count("?token=v1.") == 1
    assert plain.stderr == f"{ABSENT}: not_found\n"


@pytest.mark.parametrize("expires", ["soon", "8d", "0s", "-1h", ""])
def test_a_life_that_no_url_can_have_is_refused(own: Own, expires: str) -> None:
    result = assetgate("sign", own.kept, "--expires", expires, env=own.env)
    assert result.exit_code == CANNOT_START
    assert result.stdout == ""


def test_explain_names_the_rule_that_decided_and_what_it_read(own: Own) -> None:
    allowed = assetgate("explain", f"asset://{own.kept}", "--as", "user:u_1", env=own.env)
    assert allowed.exit_code == DONE
    assert allowed.stdout.startswith("allowed: owner, by owner\n")
    assert "read of the caller: kind=user, id=u_1" in allowed.stdout
    assert "visibility=private" in allowed.stdout
    denied = told("explain", own.deleted, "--as", "user:u_2", env=own.env, code=SOME_FAILED)
    assert (denied["allowed"], denied["rule"], denied["reason"]) == (False, "lifetime", "asset_deleted")
    assert denied["told"] == "no_rule_allowed"


def test_explain_takes_an_action_a_service_and_a_token(own: Own) -> None:
    service = told("explain", own.kept, "--as", "service:upload", "--action", "delete", env=own.env)
    assert (service["rule"], service["action"]) == ("service", "delete")
    token = told("sign", own.kept, env=own.env)[0]["url"].partition("token=")[2]
    assert told("explain", own.kept, "--token", token, env=own.env)["rule"] == "token"


@pytest.mark.parametrize(
    "arguments", [["x"], [ABSENT, "--as", "nobody"], [ABSENT, "--action", "fly"], [ABSENT, "--token", "x"]]
)
def test_explain_refuses_what_makes_no_sense(own: Own, arguments: list[str]) -> None:
    assert assetgate("explain", *arguments, env=own.env).exit_code == CANNOT_START


def test_sweep_removes_what_expired_and_was_deleted(own: Own, folder: Path) -> None:
    found = told("sweep", env=own.env)
    assert (found["expired"], found["removed"]) == (1, 2)
    assert len([path for path in (folder / "objects").rglob("*") if path.name == own.kept]) == 1
    assert told("sweep", env=own.env)["removed"] == 0
    assert "removed: 0" in assetgate("sweep", env=own.env).stdout


def test_sweep_lists_orphans_and_removes_them_when_told_to(own: Own, folder: Path) -> None:
    (lost,) = [path for path in (folder / "objects").rglob("*") if path.name == own.kept]
    stray = folder / "objects/aa/aa-a-stray-object"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(PNG)
    os.utime(stray, (1, 1))
    lost.unlink()
    listed = told("sweep", "--orphans", env=own.env, code=SOME_FAILED)["orphans"]
    assert (listed["strays"], listed["lost"]) == (["aa/aa-a-stray-object"], [own.kept])
    assert stray.exists()
    plain = assetgate("sweep", "--orphans", env=own.env)
    assert plain.exit_code == SOME_FAILED
    assert f"record without object: asset://{own.kept}" in plain.stdout
    assert "compared: " in plain.stderr  # progress, a line at a time where nobody watches
    assert assetgate("sweep", "--orphans", "--remove", env=own.env).exit_code == DONE
    assert not stray.exists()
    assert told("sweep", "--orphans", env=own.env)["orphans"]["lost"] == []


# keys


def test_new_keys_fit_the_settings() -> None:
    first, second = told("keys", "new"), told("keys", "new")
    assert first["signing_key"] != second["signing_key"]
    assert len(parse_signing_keys(first["signing_key"])[0].key) == 32
    assert first["service_key"].startswith("ag_")
    assert first["key_sha256"] == sha256(first["service_key"].encode()).hexdigest()
    assert not Path("data").exists()
    plain = assetgate("keys", "new").stdout
    assert "signing.keys" in plain
    assert "ag_" in plain


# as a process


@pytest.mark.parametrize(
    ("arguments", "env", "code", "words"),
    [
        (["keys", "new"], {}, DONE, ""),
        (["check"], {}, SOME_FAILED, ""),
        (["serve"], {"ASSETGATE_METADATA": "sqlite:///own.db"}, CANNOT_START, "assetgate: signing.keys: "),
        (["serve"], {"ASSETGATE_STORAGE": "file:///own"}, CANNOT_START, "assetgate: signing.keys: "),
        (["serve"], {"ASSETGATE_SERVER_HOST": "192.0.2.1"}, CANNOT_START, "assetgate: server.host, server.port: "),
        (["fly"], {}, CANNOT_START, "Usage: "),
    ],
)
def test_the_process_ends_with_the_code(arguments: list[str], env: dict[str, str], code: int, words: str) -> None:
    command = [sys.executable, "-m", "gateway", *arguments]
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "ASSETGATE_SERVER_PORT": "0", **env}
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
