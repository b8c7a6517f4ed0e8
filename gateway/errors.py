"""Every error that a caller can be answered with, as a class with its HTTP status and code.

    AssetgateError
    ├── InvalidRequest 400 · Unprocessable 422        invalid_request
    ├── SignInRequired · CredentialInvalid 401        sign_in_required, credential_invalid
    ├── Forbidden 403                                 token_invalid, token_expired, scope_missing, …
    ├── NotFound 404 · MethodNotAllowed 405
    ├── RequestTimeout 408                            request_timeout
    ├── Gone 410                                      asset_expired, asset_deleted, endpoint_gone
    ├── PreconditionFailed 412
    ├── FileTooLarge · RequestTooLarge 413
    ├── TypeNotAllowed 415
    ├── RangeNotSatisfiable 416
    ├── TooManyRequests 429                           guest_quota_exceeded, rate_limited
    └── Unavailable                                   storage or records: wrong 502, away 503, late 504
        └── StorageFull 507

What a client reads is `detail`, written for them where the error is raised; it is never an exception's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from policies.model import Denied, Reason

RETRY_AFTER = 2  # seconds that a client is asked to wait when a part of ours is away


class AssetgateError(Exception):
    """Something a caller is told about. `detail` is for people, `error` for programs."""

    status: ClassVar[int] = 500
    error: str = "internal_error"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(
        self,
        detail: str = "",
        *,
        error: str | None = None,
        headers: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.headers = dict(headers or {})
        self.fields = dict(fields or {})
        if error is not None:
            self.error = error


class InvalidRequest(AssetgateError):
    status = 400
    error = "invalid_request"
    title = "The request is malformed"


class Unprocessable(AssetgateError):
    """Well-formed but wrong; `fields` says what, by the name to mend."""

    status = 422
    error = "invalid_request"
    title = "The request is well-formed but wrong"


class SignInRequired(AssetgateError):
    status = 401
    error = "sign_in_required"
    title = "Sign in first"


class CredentialInvalid(AssetgateError):
    """A credential was shown and is not good. It never falls back to anonymous."""

    status = 401
    error = "credential_invalid"
    title = "The credential is not valid"


class Forbidden(AssetgateError):
    """`error` is one of token_invalid, token_expired, purpose_not_allowed, scope_missing, cross_site."""

    status = 403
    error = "forbidden"
    title = "Not allowed"


class NotFound(AssetgateError):
    status = 404
    error = "not_found"
    title = "There is nothing here for you"


class MethodNotAllowed(AssetgateError):
    status = 405
    error = "method_not_allowed"
    title = "This path does not take that method"


class RequestTimeout(AssetgateError):
    status = 408
    error = "request_timeout"
    title = "The rest of the request did not come"


class Gone(AssetgateError):
    """`error` is one of asset_expired, asset_deleted, endpoint_gone."""

    status = 410
    error = "asset_deleted"
    title = "It was here and is gone"


class PreconditionFailed(AssetgateError):
    status = 412
    error = "precondition_failed"
    title = "The asset is not in the state that the request asked for"


class FileTooLarge(AssetgateError):
    status = 413
    error = "file_too_large"
    title = "The file is larger than its purpose allows"


class RequestTooLarge(AssetgateError):
    status = 413
    error = "request_too_large"
    title = "The request is larger than this route takes"


class TypeNotAllowed(AssetgateError):
    status = 415
    error = "type_not_allowed"
    title = "The purpose does not allow files of this type"


class RangeNotSatisfiable(AssetgateError):
    status = 416
    error = "range_not_satisfiable"
    title = "The range lies outside the asset"


class TooManyRequests(AssetgateError):
    """`error` is guest_quota_exceeded or rate_limited; always with `Retry-After`."""

    status = 429
    error = "rate_limited"
    title = "Too much at once"


class Unavailable(AssetgateError):
    """A part that we lean on is away; asking again later may work."""

    status = 503
    error = "unavailable"
    title = "A part of the service is away"

    def __init__(self, detail: str = "", *, error: str | None = None, retry_after: int = RETRY_AFTER) -> None:
        super().__init__(detail, error=error, headers={"Retry-After": str(retry_after)})


class StorageUnavailable(Unavailable):
    error = "storage_unavailable"
    title = "The storage is away"


class StorageFault(Unavailable):
    """The storage answered what it must not: missing bytes, another version, nonsense."""

    status = 502
    error = "storage_fault"
    title = "The storage answered wrongly"


class StorageTimeout(Unavailable):
    status = 504
    error = "storage_timeout"
    title = "The storage did not answer in time"


class StorageFull(Unavailable):
    status = 507
    error = "storage_full"
    title = "The storage is full"


class RecordsUnavailable(Unavailable):
    error = "records_unavailable"
    title = "The records are away"


class RecordsFault(Unavailable):
    status = 502
    error = "records_fault"
    title = "The records answered wrongly"


class RecordsTimeout(Unavailable):
    status = 504
    error = "records_timeout"
    title = "The records did not answer in time"


class CannotStart(Exception):
    """The operator's settings or surroundings do not allow a start; `problems` are all of them, each by name."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def of_denied(denied: Denied) -> AssetgateError:
    """The error that tells a caller of a denial just what its `reason` may tell."""
    kind, code, detail = _REFUSALS.get(denied.reason, (NotFound, NotFound.error, ""))
    return kind(detail, error=code)


_REFUSALS: dict[Reason, tuple[type[AssetgateError], str, str]] = {
    Reason.SIGN_IN_REQUIRED: (SignInRequired, "sign_in_required", ""),
    Reason.SCOPE_MISSING: (Forbidden, "scope_missing", "The service's key does not have the scope for this"),
    Reason.PURPOSE_NOT_ALLOWED: (Forbidden, "purpose_not_allowed", "You may not upload for this purpose"),
    Reason.GUEST_MAY_NOT_PUBLISH: (Forbidden, "purpose_not_allowed", "What guests upload stays private"),
    Reason.TOKEN_EXPIRED: (Forbidden, "token_expired", "The token has expired"),
    Reason.TOKEN_REVOKED: (Forbidden, "token_invalid", "The token is not valid"),
    Reason.TOKEN_OF_ANOTHER_USER: (Forbidden, "token_invalid", "The token is not valid"),
    Reason.TOKEN_OF_ANOTHER_NETWORK: (Forbidden, "token_invalid", "The token is not valid"),
    Reason.ASSET_EXPIRED: (Gone, "asset_expired", "The asset has expired"),
    Reason.ASSET_DELETED: (Gone, "asset_deleted", "The asset was deleted"),
}
