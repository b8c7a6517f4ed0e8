"""The API described: the routes there are, the errors there are, and answers that look as it says."""

from __future__ import annotations

import ast
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway import errors
from gateway.app import web_application
from gateway.errors import AssetgateError, of_denied
from gateway.resources import resource
from policies.model import Denied, Reason
from tests.support.ai import GENERATE, LIST, QUERY, bench
from tests.support.gateway import PNG, UPLOAD, Running, form, running, service_headers, user_headers

DOCUMENT: Final[dict[str, Any]] = json.loads(resource("web/openapi.json").read_bytes())
SOURCES: Final = Path(errors.__file__).parent
METHODS: Final = {"get", "head", "post", "put", "patch", "delete", "options"}
# The start of the tree of what is Forbidden, which is never raised without a code of its own.
UNSAID: Final = {(403, "forbidden")}
# nginx's auth_request takes no other refusals than 401 and 403.
SAID_TO_NGINX: Final = {(403, "not_found"), (403, "asset_expired"), (403, "asset_deleted")}
ID: Final = "3f0d8f5a-0b1e-4c55-9a53-6f1f5f0e7c11"


def resolved(node: Any) -> Any:
    """Follow a `$ref` of the document, if it is one."""
    while isinstance(node, dict) and "$ref" in node:
        target = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        yield from ((method.upper(), path, operation) for method, operation in item.items() if method in METHODS)


def problems() -> Iterator[tuple[int, str]]:
    """Every status and error code that an answer of the document may have."""
    answers = [answer for _, _, operation in operations() for answer in operation["responses"].items()]
    answers += [("405", DOCUMENT["components"]["responses"]["MethodNotAllowed"])]
    for status, answer in answers:
        problem = resolved(answer).get("content", {}).get("application/problem+json")
        if problem is not None:
            told = resolved(problem["schema"])["properties"]
            assert told["status"] == {"const": int(status)}
            yield from ((int(status), code) for code in told["error"]["enum"])


def known_errors() -> set[tuple[int, str]]:
    """Every status and error code that the gateway can answer: by class, by denial, and where one is raised by name."""
    found = {(kind.status, kind.error) for kind in kinds().values()}
    told = [of_denied(Denied(reason)) for reason in Reason]
    found |= {(error.status, error.error) for error in told}
    for source in SOURCES.rglob("*.py"):
        found |= set(raised_by_name(ast.parse(source.read_text(encoding="utf-8"))))
    return (found | SAID_TO_NGINX) - UNSAID


def kinds() -> dict[str, type[AssetgateError]]:
    return {
        name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, AssetgateError)
    }


def raised_by_name(code: ast.AST) -> Iterator[tuple[int, str]]:
    """Read `Forbidden("…", error="token_invalid")` and its like off the source."""
    for node in ast.walk(code):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds():
            named = [keyword.value for keyword in node.keywords if keyword.arg == "error"]
            codes = [value.value for value in named if isinstance(value, ast.Constant)]
            yield from ((kinds()[node.func.id].status, str(code)) for code in codes)


def misfits(schema: dict[str, Any], value: Any) -> list[str]:
    """Say what of a value does not fit a schema of the document."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return [error.message for error in OAS31Validator(whole, format_checker=oas31_format_checker).iter_errors(value)]


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with running() as gateway:
        yield gateway


def test_the_document_is_openapi() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_the_document_describes_the_routes_there_are(gateway: Running) -> None:
    described = {(method, path) for method, path, _ in operations()}
    described |= {("HEAD", path) for method, path in described if method == "GET"}
    routes = web_application(gateway.parts).router.routes()
    assert described == {(route.method, route.resource.canonical) for route in routes if route.resource}


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)


def test_the_document_knows_the_errors_that_the_gateway_knows() -> None:
    assert set(problems()) == known_errors()


def test_the_list_of_errors_is_closed() -> None:
    assert set(DOCUMENT["components"]["schemas"]["Error"]["enum"]) == {code for _, code in problems()}


def examples() -> Iterator[Any]:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for example in schema.get("examples", []):
            yield pytest.param(schema, example, id=name)
    for method, path, operation in operations():
        answers = [resolved(answer) for answer in operation["responses"].values()]
        for part in [operation.get("requestBody", {}), *answers]:
            for content in part.get("content", {}).values():
                if "example" in content:
                    yield pytest.param(content["schema"], content["example"], id=f"{method} {path}")


@pytest.mark.parametrize(("schema", "example"), list(examples()))
def test_every_example_fits_its_schema(schema: dict[str, Any], example: Any) -> None:
    assert misfits(schema, example) == []


async def answered(gateway: Running, method: str, path: str, url: str, **sent: Any) -> int:
    """Send a request, hold the answer against the operation `method` of `path`, and return its status."""
    async with gateway.client.request(method, url, allow_redirects=False, **sent) as response:
        described = resolved(DOCUMENT["paths"][path][method.lower()]["responses"][str(response.status)])
        headers = [name for name, header in described["headers"].items() if resolved(header).get("required")]
        assert [name for name in headers if name not in response.headers] == []
        data = await response.read()
    if data and "*/*" not in described["content"]:
        schema = described["content"][response.content_type]["schema"]
        assert misfits(schema, json.loads(data) if "json" in response.content_type else data.decode()) == []
    return response.status


ASSETS: Final = "/api/storage/assets"
ASSET: Final = ASSETS + "/{id}"
AUTHORIZE: Final = "/api/storage/authorize"
STRANGER: Final = [
    (200, "GET", "/healthz", "", {}),
    (200, "GET", "/readyz", "", {}),
    (200, "GET", "/metrics", "", {}),
    (200, "GET", "/openapi.json", "", {}),
    (404, "GET", ASSET, "", {}),
    (404, "HEAD", ASSET, "", {}),
    (403, "GET", ASSET, "?token=none", {}),
    (401, "GET", ASSET, "", {"headers": {"Authorization": "Bearer ag_wrong"}}),
    (401, "GET", ASSET + "/info", "", {}),
    (401, "PATCH", ASSET, "", {"json": {}}),
    (401, "DELETE", ASSET, "", {}),
    (401, "POST", ASSET + "/revoke", "", {}),
    (401, "GET", ASSET + "/explain", "", {}),
    (401, "GET", ASSETS, "", {}),
    (401, "POST", ASSETS + "/claim", "", {}),
    (401, "POST", ASSETS + "/sign", "", {"json": {"assetIds": [ID]}}),
    (401, "POST", ASSETS + "/resolve", "", {"json": {"document": None}}),
    (401, "POST", ASSETS + "/import", "", {"json": {}}),
    (401, "POST", GENERATE, "", {"json": {}}),
    (400, "POST", QUERY, "", {"data": "{", "headers": user_headers()}),
    (404, "POST", QUERY, "", {"json": {"taskId": ID}, "headers": user_headers()}),
    (401, "GET", LIST, "", {}),
    (422, "GET", LIST, "?limit=0", {"headers": user_headers()}),
    (404, "POST", "/api/ai/notify/{provider}", "", {}),
    (401, "GET", "/activity/ai-tasks", "", {}),
    (401, "GET", "/activity/ai-tasks/{id}/refresh", "", {}),
    (400, "GET", AUTHORIZE, "", {}),
    (403, "GET", AUTHORIZE, "", {"headers": {"X-Original-URI": f"{ASSETS}/{ID}"}}),
    (400, "POST", UPLOAD, "", {}),
    (307, "GET", "/api/proxy/file", f"?url=asset://{ID}", {}),
    (410, "GET", "/api/proxy/file", "?url=https://example.com/a.png", {}),
    (400, "GET", "/api/proxy/file", "", {}),
    (400, "POST", "/api/storage/upload-image", "", {}),
]


@pytest.mark.parametrize(("status", "method", "path", "query", "sent"), STRANGER)
async def test_a_stranger_is_answered_as_the_document_says(
    gateway: Running, status: int, method: str, path: str, query: str, sent: dict[str, Any]
) -> None:
    assert await answered(gateway, method, path, path.replace("{id}", ID) + query, **sent) == status


UPLOADS: Final = [(UPLOAD, [("purpose", "reference_image")]), ("/api/storage/upload-image", [])]


@pytest.mark.parametrize(("path", "fields"), UPLOADS)
@pytest.mark.parametrize(("status", "data"), [(200, PNG), (415, b"<html>"), (422, b"")], ids=["kept", "html", "empty"])
async def test_an_upload_is_answered_as_the_document_says(
    gateway: Running, path: str, fields: list[tuple[str, str]], status: int, data: bytes
) -> None:
    sent = form(*fields, ("files", "a.png", data))
    assert await answered(gateway, "POST", path, path, data=sent) == status


OWNED: Final = [
    (200, "GET", ASSET, {}),
    (206, "GET", ASSET, {"headers": {"Range": "bytes=0-0"}}),
    (416, "GET", ASSET, {"headers": {"Range": "bytes=999-"}}),
    (412, "GET", ASSET, {"headers": {"If-Match": '"other"'}}),
    (304, "GET", ASSET, {"headers": {"If-None-Match": "*"}}),
    (200, "HEAD", ASSET, {}),
    (304, "HEAD", ASSET, {"headers": {"If-None-Match": "*"}}),
    (412, "HEAD", ASSET, {"headers": {"If-Match": '"other"'}}),
    (200, "PATCH", ASSET, {"json": {"visibility": "public", "filename": "b.png"}}),
    (422, "PATCH", ASSET, {"json": {"visibility": None}}),
    (200, "DELETE", ASSET, {}),
    (200, "GET", ASSET + "/info", {}),
    (200, "GET", ASSET + "/explain", {}),
    (422, "GET", ASSET + "/explain", {"params": {"action": "fly"}}),
    (204, "GET", AUTHORIZE, {"headers": {"X-Original-URI": ASSET}}),
    (200, "POST", ASSET + "/revoke", {}),
    (200, "GET", ASSETS, {"params": {"limit": "1"}}),
    (422, "GET", ASSETS, {"params": {"limit": "0"}}),
    (400, "GET", ASSETS, {"params": {"cursor": "none"}}),
    (200, "POST", ASSETS + "/sign", {"json": {"assetIds": [ID, ""], "assetRefs": ["asset://{id}", "none"]}}),
    (422, "POST", ASSETS + "/sign", {"json": {"assetIds": []}}),
    (400, "POST", ASSETS + "/sign", {"data": "{"}),
    (422, "POST", ASSETS + "/resolve", {"json": {"document": f"asset://{ID}"}}),
    (200, "POST", ASSETS + "/resolve", {"json": {"document": {"text": "![cat](asset://{id})"}}}),
]


@pytest.mark.parametrize(("status", "method", "path", "sent"), OWNED)
async def test_a_service_is_answered_as_the_document_says(
    gateway: Running, status: int, method: str, path: str, sent: dict[str, Any]
) -> None:
    asset_id = await gateway.asset()
    sent = json.loads(json.dumps(sent).replace("{id}", asset_id))
    sent["headers"] = {**service_headers(), **sent.get("headers", {})}
    assert await answered(gateway, method, path, path.replace("{id}", asset_id), **sent) == status


async def test_an_owner_is_told_of_a_deletion_as_the_document_says(gateway: Running) -> None:
    url = f"{ASSETS}/{await gateway.asset()}"
    for status, method in ((200, "DELETE"), (410, "GET"), (410, "HEAD"), (410, "DELETE")):
        assert await answered(gateway, method, ASSET, url, headers=user_headers()) == status


async def test_a_user_claims_as_the_document_says(gateway: Running) -> None:
    path = ASSETS + "/claim"
    assert await answered(gateway, "POST", path, path, headers=user_headers()) == 200


async def test_a_method_that_a_path_does_not_take_is_answered_as_the_document_says(gateway: Running) -> None:
    described = DOCUMENT["components"]["responses"]["MethodNotAllowed"]["content"]["application/problem+json"]
    async with gateway.client.put("/healthz") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
        assert misfits(described["schema"], await response.json(content_type=None)) == []


async def test_tasks_are_answered_as_the_document_says() -> None:
    async with bench() as ai:
        user, path = {"headers": user_headers()}, "/api/ai/notify/{provider}"
        assert await answered(ai.gateway, "POST", GENERATE, GENERATE, json=ai.body(), **user) == 200
        task = await ai.generate()
        for state in ("running", "copying", "done"):
            if state == "copying":
                ai.succeed(task)
                headers, body = ai.simulator.signed(ai.job(task).id)
                sent: dict[str, Any] = {"data": body, "headers": headers}
                assert await answered(ai.gateway, "POST", path, ai.notify_path, **sent) == 200
                sent["headers"] = {**headers, "webhook-id": "another"}
                assert await answered(ai.gateway, "POST", path, ai.notify_path, **sent) == 401
            if state == "done":
                await ai.work()
            assert await answered(ai.gateway, "POST", QUERY, QUERY, json={"taskId": task["id"]}, **user) == 200
            assert await answered(ai.gateway, "GET", LIST, LIST, **user) == 200
        pages = "/activity/ai-tasks"
        assert await answered(ai.gateway, "GET", pages, pages, **user) == 200
        refresh = pages + "/{id}/refresh"
        assert await answered(ai.gateway, "GET", refresh, refresh.replace("{id}", task["id"]), **user) == 303
        ai.simulator.scripted.append((503, {}, {}))
        assert await answered(ai.gateway, "POST", GENERATE, GENERATE, json=ai.body(), **user) == 503
        wanted = {"url": "https://files.example/x.png", "purpose": "avatar", "owner": "user:u_1"}
        importing = ASSETS + "/import"
        assert await answered(ai.gateway, "POST", importing, importing, json=wanted, headers=service_headers()) == 202
        assert await answered(ai.gateway, "POST", importing, importing, json=wanted, **user) == 403
