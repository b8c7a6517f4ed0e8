"""Multipart forms as a stream of fields and files, within bounds (RFC 7578)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from gateway.errors import InvalidRequest, RequestTooLarge
from gateway.web.bodies import patience

MOST_PARTS: Final = 64
MOST_HEADERS: Final = 8  # RFC 7578 knows three
LONGEST_HEADER: Final = 4096  # bytes
LONGEST_FIELD: Final = 4096  # bytes of a field that is no file


@dataclass(frozen=True, slots=True)
class Field:
    """A part that is no file."""

    name: str
    value: str


class File:
    """A part that is a file: read its chunks before asking for the next part, or they are passed over."""

    def __init__(self, name: str, filename: str | None, form: Form) -> None:
        self.name = name
        self.filename = filename
        self._form = form

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._form.chunks()


class Form:
    """The parts of a request in their order.

    Every method raises `InvalidRequest`, `RequestTooLarge` or `RequestTimeout`.
    """

    def __init__(self, request: web.Request) -> None:
        kind, options = parse_options_header(request.headers.get("Content-Type", ""))
        if kind != "multipart/form-data" or not options.get("boundary"):
            raise InvalidRequest("Send multipart/form-data with a boundary")
        try:
            self._parser = PushMultipartParser(
                options["boundary"],
                max_header_size=LONGEST_HEADER,
                max_header_count=MOST_HEADERS,
                max_segment_count=MOST_PARTS,
                strict=True,  # a wrong boundary is told at once, not after the whole body
            )
        except MultipartError:
            raise InvalidRequest("The boundary is malformed") from None
        self._request = request
        self._events: Iterator[MultipartSegment | bytearray | None] = iter(())
        self._in_part = False

    async def parts(self) -> AsyncIterator[Field | File]:
        """The parts of the form, and at its end the certainty that it was whole."""
        while True:
            async for _ in self.chunks():
                pass  # what nobody read of the part before
            segment = await self._next()
            if segment is None:
                return
            if not isinstance(segment, MultipartSegment):
                raise InvalidRequest("The form is malformed")
            self._in_part = True
            if segment.filename is None and segment.name != "files":
                yield Field(segment.name or "", await self._text(segment.name or ""))
            else:
                yield File(segment.name or "", segment.filename, self)

    async def chunks(self) -> AsyncIterator[bytes]:
        """What is left of the part at hand."""
        while self._in_part:
            event = await self._next()
            if event is None:
                self._in_part = False
            elif isinstance(event, MultipartSegment):
                raise InvalidRequest("The form is malformed")
            else:
                yield bytes(event)

    async def _text(self, name: str) -> str:
        value = b""
        async for chunk in self.chunks():
            value += chunk
            if len(value) > LONGEST_FIELD:
                raise RequestTooLarge(f"The field {name[:40]!r} is longer than {LONGEST_FIELD} bytes")
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"The field {name[:40]!r} is not UTF-8") from None

    async def _next(self) -> MultipartSegment | bytearray | None:
        """The parser's next event; None ends a part, or the form."""
        try:
            while True:
                for event in self._events:
                    return event
                if self._parser.closed:
                    return None
                async with patience(self._request):
                    data = await self._request.content.readany()
                self._events = iter(self._parser.parse(data))
        except ParserLimitReached:
            raise RequestTooLarge("The form has too many parts, or a part's header is too long") from None
        except MultipartError:
            raise InvalidRequest("The form is malformed or ends too early") from None
