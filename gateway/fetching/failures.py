"""Why a download failed: a closed list, each with whether asking again may help."""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class Reason(StrEnum):
    """What an operator and the task's owner are told."""

    URL_INVALID = "url_invalid"
    SCHEME_NOT_ALLOWED = "scheme_not_allowed"
    HOST_NOT_ALLOWED = "host_not_allowed"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    UNREACHABLE = "unreachable"  # no such name, no connection, no valid certificate
    NOT_FOUND = "not_found"  # 404, 410
    FORBIDDEN = "forbidden"  # 401, 403: credentials are missing, or the URL has expired
    RATE_LIMITED = "rate_limited"  # 429
    UNAVAILABLE = "unavailable"  # 5xx, 408, 425
    UNEXPECTED_STATUS = "unexpected_status"
    ENCODED = "encoded"  # compressed though identity was asked for
    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"
    TOO_SLOW = "too_slow"
    NOT_MEDIA = "not_media"  # said by whoever sniffs the bytes: an error page, most often


_MAY_PASS = {Reason.UNREACHABLE, Reason.RATE_LIMITED, Reason.UNAVAILABLE, Reason.TRUNCATED, Reason.TOO_SLOW}


class FetchFailed(Exception):
    """A download that did not come about, or broke. `detail` is for people; `retry_after` in seconds."""

    def __init__(
        self, reason: Reason, detail: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.status = status
        self.retry_after = retry_after

    @property
    def may_pass(self) -> bool:
        """Whether the same URL may be good later; for the others another URL, or credentials, may be."""
        return self.reason in _MAY_PASS
