"""What an S3 server's answers and failures mean to us, as errors that a client can be told."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own
    ConnectTimeoutError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from gateway.errors import StorageFault, StorageFull, StorageTimeout, StorageUnavailable, Unavailable

log = logging.getLogger("assetgate.storage")

_BY_STATUS: Final[dict[int, type[Unavailable]]] = {
    408: StorageTimeout,
    429: StorageUnavailable,
    500: StorageUnavailable,
    502: StorageUnavailable,
    503: StorageUnavailable,
    504: StorageTimeout,
    507: StorageFull,
}
_BY_CODE: Final[dict[str, type[Unavailable]]] = {
    "RequestTimeout": StorageTimeout,  # with status 400
    "QuotaExceeded": StorageFull,
    "XMinioStorageFull": StorageFull,
}
_HINTS: Final = {
    301: "the bucket is in another region or at another endpoint",
    307: "the bucket is in another region or at another endpoint",
    308: "the bucket is in another region or at another endpoint",
    401: "the credentials are refused",
    403: "the credentials are refused, or may not do this",
    404: "the object is missing",
    412: "the object is another version",
    416: "the object is shorter",
}
# What a server says of a request that it read and understood; one that is merely away says none of it.
HOPELESS: Final = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidBucketName": "the bucket's name is refused",
    "AccessDenied": "the credentials may not list the bucket",
    "InvalidAccessKeyId": "the access key is unknown",
    "SignatureDoesNotMatch": "the secret key is not that of the access key",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is refused",
    "RequestTimeTooSkewed": "this machine's clock differs too much from the server's",
    "PermanentRedirect": "the bucket is at another endpoint",
    "AuthorizationHeaderMalformed": "the region is another one",
}


def is_passing(status: int) -> bool:
    """Tell whether the same request may well succeed a moment later."""
    return _BY_STATUS.get(status) in {StorageUnavailable, StorageTimeout}


def judged(status: int, code: str, doing: str, region: str = "") -> Unavailable:
    """Make the error that an answer amounts to, and tell the operator what the client will not hear."""
    hint = _HINTS.get(status, "")
    said = " ".join(part for part in (str(status), code, f"(region {region})" if region else "") if part)
    log.warning("The storage answered %s to %s%s", said, doing, f": {hint}" if hint else "")
    return (_BY_CODE.get(code) or _BY_STATUS.get(status) or StorageFault)()


@contextmanager
def answered(doing: str) -> Iterator[None]:
    """Turn what botocore raises into what a client can be told."""
    try:
        yield
    except ClientError as error:
        status, code = facts_of(error)
        raise judged(status, code, doing) from error
    except (BotoCoreError, OSError) as error:
        raise unreached(error, doing) from error


def unreached(error: BaseException, doing: str) -> Unavailable:
    """Make the error for a request that got no answer."""
    log.warning("The storage gave no answer to %s: %s", doing, error)
    if isinstance(error, SSLError | ssl.SSLCertVerificationError):
        return StorageFault()
    if isinstance(error, TimeoutError | ConnectTimeoutError | ReadTimeoutError):
        return StorageTimeout()
    if isinstance(error, OSError | ConnectionError | HTTPClientError | NoCredentialsError | CredentialRetrievalError):
        return StorageUnavailable()
    return StorageFault()


def facts_of(error: Any) -> tuple[int, str]:
    """Return the status and the code of a `ClientError`; HEAD has no code, then it is empty."""
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    return status, "" if code.isdigit() else code
