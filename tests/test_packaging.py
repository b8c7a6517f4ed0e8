"""The wheel: all that it needs, nothing that it must not carry, and it runs from anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGED = ["gateway", "policies", "migrations", "config", "pyproject.toml", "README.md", "LICENSE", ".gitignore"]
SECRET = "planted.local.toml"


def run(command: list[str | Path], folder: Path, **env: str) -> str:
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **env}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources in which operators have left their own settings."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, sources / name)
    for place in ("config", "gateway", "migrations"):
        (sources / place / SECRET).write_text('service_key = "ag_secret"')
    pip(["wheel", "--no-deps", "--wheel-dir", folder, sources])
    (built,) = folder.glob("assetgate-*.whl")
    return built


def pip(arguments: list[str | Path], python: Path | None = None) -> None:
    command = [python or sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an empty environment and return the folder of its programs."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=60)
    pip(["install", wheel], folder / "bin/python")
    return folder / "bin"


def test_the_wheel_carries_settings_and_migrations_inside_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = [path for place in ("migrations", "config") for path in (ROOT / place).rglob("*") if path.is_file()]
    expected = {f"gateway/{path.relative_to(ROOT).as_posix()}" for path in ours if not path.match("*.local.toml")}
    assert "gateway/config/default.toml" in expected
    assert any(name.startswith("gateway/migrations/sqlite/") for name in expected)
    assert expected <= names


def test_the_wheel_carries_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"gateway", "policies", "assetgate"}
    assert [name for name in names if name.endswith(".local.toml") or "__pycache__" in name] == []


@pytest.mark.parametrize("arguments", [["--help"], ["settings"]])
def test_the_command_works_from_any_directory(environment: Path, tmp_path: Path, arguments: list[str]) -> None:
    assert run([environment / "assetgate", *arguments], tmp_path)
    assert run([environment / "python", "-m", "gateway", *arguments], tmp_path)


def test_the_installed_package_finds_its_own_settings(environment: Path, tmp_path: Path) -> None:
    code = "from gateway.resources import resource; print(resource('config').joinpath('default.toml'))"
    found = run([environment / "python", "-c", code], tmp_path).strip()
    assert Path(found).is_relative_to(environment.parent)
