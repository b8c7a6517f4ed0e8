"""What PostgreSQL and its library say went wrong, as errors of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from gateway.errors import RecordsFault, RecordsTimeout, RecordsUnavailable, StorageFull, Unavailable


class Broken(RecordsUnavailable):
    """The connection broke; what was asked may have been done."""


class Clashed(RecordsTimeout):
    """Two transactions waited for each other. The server undid this one, so that it may be tried again."""


TROUBLE: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
_ERRORS: Final[Sequence[tuple[type[BaseException] | tuple[type[BaseException], ...], type[Unavailable]]]] = [
    ((asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError), RecordsTimeout),
    ((asyncpg.DeadlockDetectedError, asyncpg.SerializationError), Clashed),
    (asyncpg.DiskFullError, StorageFull),
    ((OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError), Broken),
    ((asyncpg.InsufficientResourcesError, asyncpg.InvalidAuthorizationSpecificationError), RecordsUnavailable),
    # A server that only replays another one's log: the other one is to be found again.
    ((asyncpg.InvalidCatalogNameError, asyncpg.ReadOnlySQLTransactionError), RecordsUnavailable),
    (asyncpg.DataError, RecordsFault),
    (asyncpg.InterfaceError, Broken),
]


def error_of(trouble: BaseException) -> Unavailable:
    """Translate one of `TROUBLE`."""
    return next((error() for kind, error in _ERRORS if isinstance(trouble, kind)), RecordsFault())
