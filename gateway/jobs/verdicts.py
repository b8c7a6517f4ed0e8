"""Whether a copy that failed is tried again, and when: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.clock import Randomness, milliseconds
from gateway.errors import AssetgateError, FileTooLarge, TypeNotAllowed, Unavailable, Unprocessable
from gateway.fetching import FetchFailed, Reason
from gateway.jobs.settling import RETENTION_ENDED
from gateway.jobs.waits import backoff
from gateway.metadata.task_records import Copy

FIRST_WAIT: Final = 2.0  # seconds
LONGEST_WAIT: Final = 3600.0  # seconds
PART_OF_RETENTION: Final = 12  # no wait is longer than this part of the time there is
MOST_REFUSALS: Final = 5  # tries of what no waiting mends, most likely: 404, 403, an error page
WITHDRAWN: Final = "withdrawn"

_AT_ONCE: Final = {
    Reason.URL_INVALID,
    Reason.SCHEME_NOT_ALLOWED,
    Reason.HOST_NOT_ALLOWED,
    Reason.ADDRESS_NOT_ALLOWED,
    Reason.TOO_MANY_REDIRECTS,
    Reason.TOO_LARGE,
    WITHDRAWN,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed. `reason` is of a closed list, `detail` for people; `passing`: waiting may mend it."""

    reason: str
    detail: str
    passing: bool = False
    retry_after: float = 0.0


def failure_of(error: Exception) -> Failure:
    """Say in the words of a task what an attempt raised."""
    if isinstance(error, FetchFailed):
        return Failure(str(error.reason), error.detail, error.may_pass, error.retry_after or 0.0)
    if isinstance(error, FileTooLarge):
        return Failure(str(Reason.TOO_LARGE), error.detail)
    if isinstance(error, TypeNotAllowed):
        return Failure(str(Reason.NOT_MEDIA), error.detail)
    if isinstance(error, Unprocessable):
        return Failure("empty", "The file is empty")
    if isinstance(error, Unavailable):
        return Failure(error.error, error.detail, passing=True)
    return Failure(AssetgateError.error, AssetgateError.title, passing=True)


def next_try(copy: Copy, failure: Failure, now: int, randomness: Randomness) -> int | None:
    """Return when to try again (milliseconds), None when it is over."""
    if failure.reason in _AT_ONCE or (not failure.passing and copy.attempts >= MOST_REFUSALS):
        return None
    longest = min(LONGEST_WAIT, (copy.retention_ends - copy.created_at) / 1000 / PART_OF_RETENTION)
    wait = max(backoff(copy.attempts, FIRST_WAIT, max(longest, FIRST_WAIT), randomness), failure.retry_after)
    at = now + milliseconds(wait)
    if at < copy.retention_ends:
        return at
    # One last try, in the middle of the time that is left.
    return (now + copy.retention_ends) // 2 if copy.retention_ends - now > milliseconds(FIRST_WAIT) else None


def expired(copy: Copy) -> Failure:
    """Say why an item whose retention is over was not stored: what failed last, if anything was tried."""
    return Failure(copy.reason or "not_tried", copy.reason_detail or "Nobody came to try it", passing=True)


def final_failure(copy: Copy, failure: Failure, now: int) -> Failure:
    """Say why it is over: the retention has ended, or what failed last."""
    if failure.passing or now >= copy.retention_ends:
        detail = "The provider deletes its results, and this one could not be copied before"
        return Failure(RETENTION_ENDED, f"{detail}; at last: {failure.reason}: {failure.detail}")
    return failure
