"""The rules of the house, read off the source itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST_FUNCTION = 60  # lines
WIDEST_PORT = 6  # methods
# Put together here, so that this file does not hold them.
REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "npmjs" + ".org", "npmjs" + ".com", "deb.debian" + ".org"]

GATEWAY = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "gateway").rglob("*.py"))
POLICIES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "policies").rglob("*.py"))
MAY_SPEAK_HTTP = ("gateway/web/", "gateway/app.py")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), module)


def imported(module: str) -> Iterator[str]:
    """Name every module that is imported, those of `from x import y` in both readings: x and x.y."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def grants_made(code: ast.AST) -> Iterator[int]:
    """Give the line of everything that could make a `Grant`, or that hides one being made under another name."""
    return (getattr(node, "lineno", 0) for node in ast.walk(code) if _leads_to_grant(node))


def _leads_to_grant(node: ast.AST) -> bool:
    match node:
        case ast.Call():
            return _makes_grant(node)
        case ast.ImportFrom(names=names):
            return any(alias.name == "Grant" and alias.asname for alias in names)
        case ast.Assign(value=value) | ast.NamedExpr(value=value):
            return _is_grant(value)
        case ast.ClassDef(bases=bases):
            return any(map(_is_grant, bases))
    return False


def _makes_grant(call: ast.Call) -> bool:
    if _is_grant(call.func):
        return True
    if isinstance(call.func, ast.Attribute) and _is_grant(call.func.value):
        return True  # Grant.__new__
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    copied = [ast.unparse(argument).lower() for argument in call.args[:1]]
    return name in {"replace", "partial", "__new__"} and any(text.endswith("grant") for text in copied)


def _is_grant(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id == "Grant") or (
        isinstance(node, ast.Attribute) and node.attr == "Grant"
    )


@pytest.mark.parametrize("module", GATEWAY)
def test_no_module_of_the_gateway_makes_a_grant(module: str) -> None:
    assert list(grants_made(tree(module))) == []


@pytest.mark.parametrize(
    "code",
    [
        "Grant(a, b)",
        "model.Grant(a)",
        "Grant.__new__(Grant)",
        "object.__new__(Grant)",
        "dataclasses.replace(self._grant, subject=other)",
        "from policies.model import Grant as G",
        "make = Grant",
        "class Other(Grant): ...",
    ],
)
def test_every_way_to_a_grant_is_seen(code: str) -> None:
    assert list(grants_made(ast.parse(code))) == [1]


@pytest.mark.parametrize("module", [module for module in GATEWAY if not module.startswith(MAY_SPEAK_HTTP)])
def test_only_web_and_app_import_the_web_server(module: str) -> None:
    assert not [name for name in imported(module) if name == "aiohttp.web" or name.startswith("aiohttp.web_")]


@pytest.mark.parametrize("module", POLICIES)
def test_policies_import_nothing_but_themselves_and_the_standard_library(module: str) -> None:
    known = sys.stdlib_module_names | {"policies"}
    assert {name.partition(".")[0] for name in imported(module)} <= known


@pytest.mark.parametrize("module", [*GATEWAY, *POLICIES])
def test_a_module_says_what_it_is(module: str) -> None:
    assert (ast.get_docstring(tree(module)) or "").strip()


@pytest.mark.parametrize("module", [*GATEWAY, *POLICIES])
def test_no_function_is_too_long_to_read(module: str) -> None:
    functions = [node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("module", GATEWAY)
def test_a_port_is_narrow(module: str) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ClassDef) and "Protocol" in {
            ast.unparse(base).partition("[")[0] for base in node.bases
        }:
            methods = [part.name for part in node.body if isinstance(part, _FUNCTIONS) and not _is_property(part)]
            assert len(methods) <= WIDEST_PORT, f"{node.name}: {', '.join(methods)}"


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell what is read as an attribute from a method."""
    return any(ast.unparse(decorator) == "property" for decorator in function.decorator_list)


def test_rooms_import_only_what_lies_below_them() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_names_a_package_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert files
    found = {
        path.relative_to(ROOT).as_posix(): registry
        for path in files
        if path.is_file()
        for registry in REGISTRIES
        if registry.encode() in path.read_bytes()
    }
    assert found == {}
