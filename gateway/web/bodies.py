"""JSON in and out, as every route of the contract has it."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import orjson
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http_exceptions import BadHttpMessage
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from gateway.errors import InvalidRequest, RequestTimeout, RequestTooLarge, Unprocessable

BODY_TIMEOUT: Final = web.AppKey("body_timeout", float)  # seconds
MOST_NAMES: Final = 100  # that a body may have; all that are wrong would be weighed one by one
MOST_FIELDS: Final = 20  # that an answer names
LONGEST_NAME: Final = 100  # characters of a field that an answer repeats


class Body(BaseModel):
    """A request's JSON: names in camelCase, types as they are, nothing unknown."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, strict=True, hide_input_in_errors=True
    )


# What PostgreSQL keeps in no text.
NO_NUL: Final = r"^[^\x00]*$"

Some = TypeVar("Some", bound=BaseModel)


async def read_body(request: web.Request, model: type[Some]) -> Some:
    """Read and check a JSON body. Raises `RequestTooLarge`, `InvalidRequest`, and `Unprocessable` with `fields`."""
    document = parse_json(await _read(request))
    if isinstance(document, dict) and len(document) > MOST_NAMES:
        raise Unprocessable("The body has too many fields", fields={"body": "has too many fields"})
    try:
        return model.model_validate(document)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_input=False, include_context=False)
        fields = {_name(error["loc"]): error["msg"] for error in errors[:MOST_FIELDS]}
        detail = f"{len(errors)} of the fields are wrong: {', '.join(fields)}"
        raise Unprocessable(detail, fields=fields) from None


def parse_json(text: bytes) -> Any:
    """Parse JSON strictly: no duplicate names (RFC 8259, section 4, leaves them to chance), no NaN, bounded depth."""
    try:
        with _uncollected():
            document = orjson.loads(text)
            orjson.dumps({"data": document})  # what is nested deeper than it can write could not be answered either
            if isinstance(document, dict | list):
                json.loads(text, object_pairs_hook=_unique)
    except (ValueError, TypeError, RecursionError) as error:
        duplicate = error.args[0] if isinstance(error, _DuplicateName) else "The body is not JSON, or nested too deep"
        raise InvalidRequest(duplicate) from None
    return document


def ok(data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Answer JSON as every route of the contract does."""
    body = orjson.dumps({"code": 0, "message": "ok", "data": data})
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def _name(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))[:LONGEST_NAME] or "body"


async def _read(request: web.Request) -> bytes:
    # Judged by what is announced before a byte of it is read; aiohttp counts what really comes.
    limit = request.client_max_size
    if request.content_length is not None and request.content_length > limit:
        raise RequestTooLarge(f"The body may have {limit} bytes")
    try:
        async with patience(request):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise RequestTooLarge(f"The body may have {limit} bytes") from None


async def go_ahead(request: web.Request) -> None:
    """Answer `Expect: 100-continue`; what else a client expects may be passed over (RFC 9110, section 10.1.1)."""
    if request.version >= HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer proper has not begun


@asynccontextmanager
async def patience(request: web.Request) -> AsyncIterator[None]:
    """Wait for a body's bytes no longer than the settings have it, and say what is wrong with how they come."""
    try:
        async with asyncio.timeout(request.app[BODY_TIMEOUT]):
            yield
    except TimeoutError:
        raise RequestTimeout from None
    except (BadHttpMessage, ClientPayloadError, ConnectionError, web.RequestPayloadError):
        raise InvalidRequest("The body is malformed or ends too early") from None


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold the garbage collector: it would look through millions of small lists again and again, and find nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _DuplicateName(ValueError):
    """An object names a member twice."""


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _DuplicateName("The body is JSON with a duplicate name")
