"""Says what is wrong with a read that the lane took on, in the words and fields of the other lane."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

from gateway.errors import AssetgateError
from gateway.web.express.lane import Answer
from gateway.web.express.requests import plain
from gateway.web.heads import SERVER, Shared, http_now
from gateway.web.middleware import as_assetgate_error, log, problem


def refusal(answer: Answer, data: bytes, trouble: Exception, shared: Shared) -> Answer:
    """Make the answer to the request in `data` that takes the place of one of which nothing was sent yet."""
    known = as_assetgate_error(trouble)
    if known.status == AssetgateError.status:
        log.error("request %s failed", answer.request_id, exc_info=trouble)
    response = problem(known, answer.request_id)
    body = response.body
    assert isinstance(body, bytes)  # noqa: S101 - `problem` made it
    request = plain(data)
    fields = (
        *response.headers.items(),
        ("X-Request-Id", answer.request_id),
        ("Content-Length", str(len(body))),
        ("Date", http_now()),
        ("Server", SERVER),
        *shared.vary(()),
        *shared.allowed(request[1].origin if request is not None else None),
    )
    lines = [
        f"HTTP/1.1 {known.status} {HTTPStatus(known.status).phrase}",
        *(f"{name}: {value}" for name, value in fields),
    ]
    facts = replace(answer.facts, status=known.status, reason=known.error, size=len(body))
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return answer._replace(head=head, body=memoryview(body), facts=facts)
