"""JSON in and out, as every route of the contract has it."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from gateway.errors import InvalidRequest, RequestTooLarge, Unprocessable


class Body(BaseModel):
    """A request's JSON: names in camelCase, types as they are, nothing unknown."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, strict=True, hide_input_in_errors=True
    )


Some = TypeVar("Some", bound=BaseModel)


async def read_body(request: web.Request, model: type[Some]) -> Some:
    """Read and check a JSON body. Raises `RequestTooLarge`, `InvalidRequest`, and `Unprocessable` with `fields`."""
    document = parse_json(await _read(request))
    try:
        return model.model_validate(document)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_input=False, include_context=False)
        fields = {".".join(map(str, error["loc"])) or "body": error["msg"] for error in errors[:20]}
        detail = f"{len(errors)} of the fields are wrong: {', '.join(fields)}"
        raise Unprocessable(detail, fields=fields) from None


def parse_json(text: bytes) -> Any:
    """Parse JSON strictly: no duplicate names (RFC 8259, section 4, leaves them to chance), no NaN, bounded depth."""
    try:
        document = orjson.loads(text)
        if isinstance(document, dict | list):
            json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        duplicate = error.args[0] if isinstance(error, _DuplicateName) else "The body is not JSON"
        raise InvalidRequest(duplicate) from None
    return document


def ok(data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Answer JSON as every route of the contract does."""
    body = orjson.dumps({"code": 0, "message": "ok", "data": data})
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


async def _read(request: web.Request) -> bytes:
    # Judged by what is announced before a byte of it is read; aiohttp counts what really comes.
    limit = request.client_max_size
    if request.content_length is not None and request.content_length > limit:
        raise RequestTooLarge(f"The body may have {limit} bytes")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise RequestTooLarge(f"The body may have {limit} bytes") from None


class _DuplicateName(ValueError):
    """An object names a member twice."""


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _DuplicateName("The body is JSON with a duplicate name")
