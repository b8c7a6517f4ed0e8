"""The README's page of curl and its function that signs, word for word against a gateway that was just started."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import orjson
import pytest

from tests.support.servers import processes

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GATEWAY = "http://127.0.0.1:8080"
PORT = 8080


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which `assetgate serve` runs with nothing set."""
    folder = tmp_path_factory.mktemp("readme")
    assert not processes.accepts(PORT), f"port {PORT} is taken: the README's page needs it, so end what listens there"
    command: processes.Command = [sys.executable, "-m", "gateway", "serve"]
    process = processes.start("assetgate", command, folder / "serve.log", env={"PYTHONPATH": str(ROOT)}, cwd=folder)
    try:
        assert process.wait_for(r"Assetgate listening on (\S+)$") == GATEWAY
        yield folder
    finally:
        process.stop()


@pytest.fixture(scope="module")
def printed(folder: Path) -> list[str]:
    """The lines that the page prints when it is pasted whole."""
    done = subprocess.run(
        ["bash"], input=block("sh"), cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def documents(lines: list[str]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in lines if line.startswith("{")]


def test_the_page_prints_what_it_says(printed: list[str], folder: Path) -> None:
    size = (folder / "photo.png").stat().st_size
    assert [line for line in printed if not line.startswith("{")] == [
        "a stranger gets 404",
        f"with the token it is 200, {size} bytes of image/png",
        "byte for byte",
        "two bytes: 206, 2 bytes",
        "not modified: 304",
        "the guest gets 200",
        "anyone else gets 404",
    ]


def test_the_answers_of_the_page_are_those_of_the_api(printed: list[str]) -> None:
    uploaded, signed, resolved, revoked, refused, explained, deleted = documents(printed)
    asset_id = uploaded["data"]["assetId"]
    assert (uploaded["data"]["ownerType"], uploaded["data"]["mimeType"]) == ("user", "image/png")
    assert signed["data"]["results"][0]["assetRef"] == f"asset://{asset_id}"
    assert resolved["data"]["document"]["post"]["image"].startswith(f"/api/storage/assets/{asset_id}?token=")
    assert revoked["data"]["assetId"] == asset_id
    assert (refused["status"], refused["error"]) == (403, "token_invalid")
    assert explained["data"]["allowed"] is False
    assert deleted["data"] == {"assetId": asset_id, "deleted": True}


def test_the_function_that_signs_opens_an_asset(folder: Path, printed: list[str]) -> None:
    room: dict[str, Any] = {}
    exec(block("python"), room)  # noqa: S102 - the README's own words are what is tested
    secrets = tomllib.loads((folder / "data/secrets.toml").read_text())
    kid, _, key = secrets["signing"]["keys"].partition(":")
    asset_id = orjson.loads((folder / "guest.json").read_bytes())["data"]["assetId"]
    path = room["signed_path"](asset_id, kid, base64.urlsafe_b64decode(key + "=="))
    with urlopen(GATEWAY + path, timeout=20) as answer:
        assert answer.read() == (folder / "photo.png").read_bytes()
    with pytest.raises(HTTPError, match="403") as refused:
        urlopen(GATEWAY + path[:-1] + ("A" if path[-1] != "A" else "B"), timeout=20)
    refused.value.close()


def test_every_command_that_is_named_is_there() -> None:
    table = [line for line in README.splitlines() if line.startswith("| `assetgate ")]
    names = {name for line in table for name in re.findall(r"`(?:assetgate )?([a-z]+)", line.split("|")[1])}
    shown = subprocess.run(
        [sys.executable, "-m", "gateway", "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    commands = set(re.findall(r"^  ([a-z]+)  ", shown.stdout, re.MULTILINE))
    assert names
    assert names <= commands


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_every_file_that_is_linked_is_there(link: str) -> None:
    assert (ROOT / link).exists()
