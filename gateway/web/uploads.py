"""The route that takes files in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aiohttp import web

from gateway.clock import iso
from gateway.errors import (
    AssetgateError,
    FileTooLarge,
    Forbidden,
    InvalidRequest,
    RequestTimeout,
    RequestTooLarge,
    Unprocessable,
    of_denied,
)
from gateway.identity.guest import GuestSessions
from gateway.ingest import Admission, Ingest, Staged
from gateway.metrics import Metrics
from gateway.model import Asset
from gateway.web.bodies import ok
from gateway.web.callers import Callers
from gateway.web.described import owner_type
from gateway.web.filenames import clean_filename
from gateway.web.forms import Field, File, Form
from policies.model import Caller, CallerKind, Denied, Visibility
from policies.purposes import Purpose, default_visibility, may_upload

MOST_FILES: Final = 20
# A file that is too large is read on for this much, so that those behind it are not lost; then the answer is given.
PATIENCE: Final = 64 * 1024 * 1024  # bytes
FIELDS: Final = frozenset({"purpose", "visibility", "owner"})
LONGEST_OWNER: Final = 255  # characters of a user id, as those of signed-in users may have
BROKEN_FORM: Final = (InvalidRequest, RequestTooLarge, RequestTimeout)

Result = Asset | AssetgateError


@dataclass
class _Upload:
    """One request on its way through the form."""

    caller: Caller
    fields: dict[str, str] = field(default_factory=dict)
    waiting: list[tuple[int, Staged]] = field(default_factory=list)
    results: list[tuple[str | None, Result | None]] = field(default_factory=list)
    guest_cookie: str | None = None


class UploadRoutes:
    """`POST /api/storage/upload-media`: fields and files in any order; each file stands or falls for itself."""

    def __init__(self, callers: Callers, ingest: Ingest, guests: GuestSessions, metrics: Metrics) -> None:
        self._callers = callers
        self._ingest = ingest
        self._guests = guests
        self._metrics = metrics

    async def upload_media(self, request: web.Request) -> web.Response:
        upload = await self.receive(request, {})
        return self.answer(request, upload, results_of(upload.results))

    async def receive(self, request: web.Request, fields: dict[str, str]) -> _Upload:
        """Take the whole form in, with `fields` given beforehand. Raises when no file of it could be kept."""
        upload = _Upload(await self._callers.identify(request), dict(fields))
        if "purpose" in upload.fields:
            self._admit_caller(upload)
        async with AsyncExitStack() as sinks:
            async for part in Form(request).parts():
                if isinstance(part, Field):
                    self._note_field(upload, part)
                elif not await self._take(upload, part, sinks):
                    break
            if not upload.results:
                raise Unprocessable("Send at least one file", fields={"files": "is missing"})
            await self._admit_all(upload)
        _raise_if_all_failed(upload.results)
        return upload

    def answer(self, request: web.Request, upload: _Upload, data: Any) -> web.Response:
        """Answer, and hand a guest the cookie that owns what was uploaded."""
        response = ok(data)
        if upload.guest_cookie is not None:
            secure = self._callers.is_secure(request)
            response.headers.add("Set-Cookie", self._guests.set_cookie_header(upload.guest_cookie, secure=secure))
        return response

    def _note_field(self, upload: _Upload, part: Field) -> None:
        if part.name not in FIELDS:
            return  # forms carry fields of their own, such as a CSRF token
        if part.name in upload.fields:
            raise Unprocessable(f"{part.name} stands there twice", fields={part.name: "stands there twice"})
        upload.fields[part.name] = part.value

    async def _take(self, upload: _Upload, part: File, sinks: AsyncExitStack) -> bool:
        """Stage one file, and admit it if all is known. False: the rest of the form is not worth reading."""
        if part.name != "files":
            return True
        if len(upload.results) >= MOST_FILES:
            raise Unprocessable(f"Send at most {MOST_FILES} files at once", fields={"files": "are too many"})
        upload.results.append((part.filename, None))
        number = len(upload.results) - 1
        known = self._admit_caller(upload) if "purpose" in upload.fields else upload.caller
        stage = self._ingest.stage(self._counted(part), clean_filename(part.filename), known)
        try:
            upload.waiting.append((number, await sinks.enter_async_context(stage)))
        except BROKEN_FORM:
            raise  # not the file is at fault but all of the form, and nothing of it is kept
        except AssetgateError as error:
            _settle(upload, number, error)
            return await self._passed_over(upload, part, error)
        return True

    async def _passed_over(self, upload: _Upload, part: File, error: AssetgateError) -> bool:
        passed = 0
        async for chunk in part:
            passed += len(chunk)
            if passed > PATIENCE or (isinstance(error, FileTooLarge) and passed > PATIENCE // 8):
                if "purpose" not in upload.fields:
                    raise error  # what is not read any more may have named it
                return False
        return True

    async def _admit_all(self, upload: _Upload) -> None:
        """Admit what was staged, now that the form is known to be whole: one that broke off leaves nothing."""
        admission = self._admit_caller(upload)
        for number, staged in upload.waiting:
            try:
                _settle(upload, number, await self._ingest.admit(staged, admission))
            except AssetgateError as error:
                _settle(upload, number, error)

    def _admit_caller(self, upload: _Upload) -> Admission:
        """Decide about the caller and the purpose, as far as the form is known. Raises what tells them why not."""
        purpose = self._purpose(upload.fields.get("purpose"))
        caller = upload.caller
        if caller.kind is CallerKind.ANONYMOUS and purpose.guests:
            caller = self._begin_session(upload)
        visibility = _visibility(upload.fields.get("visibility")) or default_visibility(caller, purpose)
        try:
            owner = may_upload(caller, purpose, visibility)
        except Denied as denied:
            raise of_denied(denied) from denied
        owner = named_owner(caller, upload.fields.get("owner"), owner)
        return Admission(purpose, owner, visibility)

    def _begin_session(self, upload: _Upload) -> Caller:
        """Make an anonymous caller a guest, so that what they upload is theirs."""
        upload.guest_cookie, session = self._guests.issue()
        upload.caller = replace(upload.caller, kind=CallerKind.GUEST, id=session, guest=session)
        return upload.caller

    def _purpose(self, name: str | None) -> Purpose:
        purpose = self._ingest.purposes.get(name or "")
        if purpose is None:
            known = ", ".join(sorted(self._ingest.purposes))
            raise Unprocessable(
                f"purpose is one of {known}", fields={"purpose": "is unknown" if name else "is missing"}
            )
        return purpose

    async def _counted(self, part: File) -> AsyncIterator[bytes]:
        async for chunk in part:
            self._metrics.received.inc(len(chunk))
            yield chunk


def results_of(results: list[tuple[str | None, Result | None]]) -> dict[str, Any]:
    """The contract's answer: the first asset flattened, and `results` in the order of the files."""
    told = [_told(filename, result) for filename, result in results]
    first = next(entry for entry in told if "error" not in entry)
    return {**first, "results": told}


def uploaded(asset: Asset) -> dict[str, Any]:
    """What is told about a new asset."""
    return {
        "assetId": asset.id,
        "assetRef": asset.ref,
        "previewUrl": asset.path,
        "expiresAt": None if asset.expires_at is None else iso(asset.expires_at),
        "ownerType": owner_type(asset),
        "mimeType": asset.media_type,
        "purpose": asset.purpose,
        "source": asset.source,
        "sizeBytes": asset.size,
    }


def _told(filename: str | None, result: Result | None) -> dict[str, Any]:
    if isinstance(result, Asset):
        return uploaded(result)
    error = result or AssetgateError()
    return {"error": error.error, "message": error.detail, "status": error.status, "filename": clean_filename(filename)}


def _settle(upload: _Upload, number: int, result: Result) -> None:
    upload.results[number] = (upload.results[number][0], result)


def _raise_if_all_failed(results: list[tuple[str | None, Result | None]]) -> None:
    errors = [result for _, result in results if isinstance(result, AssetgateError)]
    if len(errors) == len(results):
        raise errors[0]


def _visibility(asked: str | None) -> Visibility | None:
    if not asked:
        return None
    try:
        return Visibility(asked)
    except ValueError:
        raise Unprocessable("visibility is private or public", fields={"visibility": "is unknown"}) from None


def named_owner(caller: Caller, asked: str | None, owner: str) -> str:
    """The owner that a service names: `user:<id>` or `system`. Nobody else may name another than themselves."""
    if asked is None or asked in {"", owner}:
        return owner
    if caller.kind is not CallerKind.SERVICE:
        raise Forbidden("Only a service may upload for another owner", error="purpose_not_allowed")
    kind, _, user_id = asked.partition(":")
    # What does not print (NUL, line breaks) would break databases and logs later.
    if asked == "system" or (kind == "user" and 0 < len(user_id) <= LONGEST_OWNER and user_id.isprintable()):
        return asked
    raise Unprocessable("owner is user:<id> or system", fields={"owner": "is malformed"})
