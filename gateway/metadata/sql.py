"""The statements on the records, in the SQL that PostgreSQL, SQLite and D1 share.

Parameters are numbered `$1`, `$2` as PostgreSQL has them. A number that stands in no comparison with a column is cast,
so that PostgreSQL knows its type. What changes records returns their ids first: so the news of it are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Final

from gateway.errors import RecordsFault
from gateway.metadata import Changes, Listing, Quota
from gateway.metadata.driver import Row, Statement
from gateway.model import Asset
from policies.model import State, Visibility

COLUMNS: Final = tuple(field.name for field in fields(Asset))
_CHANGEABLE: Final = frozenset(Changes.__annotations__)
_NUMBERS: Final = {"size", "created_at", "updated_at", "stored", "expires_at", "deleted_at", "revoked_at"}

# What several statements say alike. The states are spelled out, for partial indexes serve no bound parameter.
_FRAGMENTS: Final = {
    "columns": ", ".join(COLUMNS),
    "values": ", ".join(
        f"CAST(${n} AS BIGINT)" if name in _NUMBERS else f"CAST(${n} AS TEXT)" for n, name in enumerate(COLUMNS, 1)
    ),
    "in_service": "state IN ('pending', 'ready')",
    "out_of_service": "state IN ('expired', 'deleted')",
    # Outside of the sub-select as well: a claim may have come between choosing the rows and locking them.
    "overdue": "(state = 'ready' AND expires_at <= $1 OR state = 'pending' AND (expires_at <= $1 OR updated_at < $2))",
}


def _sql(text: str, **more: str) -> str:
    for name, fragment in (more | _FRAGMENTS).items():
        text = text.replace(f"<{name}>", fragment)
    return " ".join(text.split())


PING: Final = "SELECT 1"

GET: Final = _sql("SELECT <columns> FROM assets WHERE id = $1")
GET_MANY: Final = _sql("SELECT <columns> FROM assets WHERE id IN <ids>")

ADD: Final = _sql("INSERT INTO assets (<columns>) SELECT <values> WHERE true ON CONFLICT (id) DO NOTHING RETURNING id")

HELD: Final = _sql("""
    SELECT count(*), coalesce(sum(size), 0) FROM assets
    WHERE owner = $1 AND <in_service> AND (expires_at IS NULL OR expires_at > $2)
""")

ADD_WITHIN_QUOTA: Final = _sql("""
    INSERT INTO assets (<columns>) SELECT <values>
    WHERE (
        SELECT count(*) < CAST($20 AS BIGINT) AND coalesce(sum(size), 0) + CAST($8 AS BIGINT) <= CAST($21 AS BIGINT)
        FROM assets WHERE owner = $2 AND <in_service> AND (expires_at IS NULL OR expires_at > $19)
    )
    ON CONFLICT (id) DO NOTHING RETURNING id
""")

HELD_BESIDE: Final = _sql("""
    SELECT count(other.id), coalesce(sum(other.size), 0) FROM assets AS own
    LEFT JOIN assets AS other ON other.owner = own.owner AND other.id <> own.id
        AND other.state IN ('pending', 'ready') AND (other.expires_at IS NULL OR other.expires_at > $3)
    WHERE own.id = $1 AND own.state = $2
    GROUP BY own.id
""")

_CHANGE_WITHIN_QUOTA: Final = """
    UPDATE assets SET <assigned>
    WHERE id = $1 AND state = $2 AND (
        SELECT count(*) < CAST($4 AS BIGINT) AND coalesce(sum(other.size), 0) + CAST($6 AS BIGINT) <= CAST($5 AS BIGINT)
        FROM assets AS other
        WHERE other.owner = assets.owner AND other.id <> assets.id AND other.state IN ('pending', 'ready')
            AND (other.expires_at IS NULL OR other.expires_at > $3)
    )
    RETURNING <columns>
"""

CLAIM: Final = _sql("""
    UPDATE assets SET owner = $2, expires_at = NULL, updated_at = $3
    WHERE owner = $1 AND <in_service> AND (expires_at IS NULL OR expires_at > $3)
    RETURNING id
""")

REVOKE: Final = _sql("""
    UPDATE assets SET revoked_at = CASE WHEN revoked_at > $2 THEN revoked_at ELSE $2 END
    WHERE id = $1 AND state = 'ready'
    RETURNING <columns>
""")

EXPIRE: Final = _sql("""
    UPDATE assets SET
        state = CASE state WHEN 'pending' THEN 'deleted' ELSE 'expired' END,
        deleted_at = CASE state WHEN 'pending' THEN CAST($1 AS BIGINT) END,
        updated_at = $1
    WHERE <overdue> AND id IN (
        SELECT id FROM (
            SELECT id FROM (
                SELECT id FROM assets WHERE <in_service> AND expires_at <= $1 ORDER BY expires_at LIMIT $3
            ) AS expired
            UNION
            SELECT id FROM (
                SELECT id FROM assets WHERE state = 'pending' AND updated_at < $2 ORDER BY updated_at LIMIT $3
            ) AS abandoned
        ) AS overdue LIMIT $3
    )
    RETURNING <columns>
""")

DISCARD: Final = _sql("DELETE FROM assets WHERE id = $1 AND state = 'pending' RETURNING id")

# An object that an asset in service shares keeps its bytes until that one goes as well.
UNSWEPT: Final = _sql("""
    SELECT <columns> FROM assets
    WHERE stored = 1 AND <out_of_service> AND id > $1 AND NOT EXISTS (
        SELECT 1 FROM assets AS sharer
        WHERE sharer.object_key = assets.object_key AND sharer.stored = 1 AND sharer.state IN ('pending', 'ready')
    )
    ORDER BY id LIMIT $2
""")

SWEPT: Final = _sql("UPDATE assets SET stored = 0 WHERE id IN <ids> AND <out_of_service> RETURNING id")

FORGET: Final = _sql("""
    DELETE FROM assets WHERE id IN (
        SELECT id FROM assets
        WHERE stored = 0 AND <out_of_service> AND coalesce(deleted_at, updated_at) < $1
        ORDER BY coalesce(deleted_at, updated_at) LIMIT $2
    )
    RETURNING id
""")

STORED_KEYS: Final = _sql("""
    SELECT object_key, id, state FROM assets
    WHERE stored = 1 AND (object_key, id) > ($1, $2)
    ORDER BY object_key, id LIMIT $3
""")


def change(changes: Changes, asset_id: str, when: State) -> Statement:
    """Change a record that is in the state `when`."""
    given = _given(changes)
    text = "UPDATE assets SET <assigned> WHERE id = $1 AND state = $2 RETURNING <columns>"
    return _sql(text, assigned=_assigned(given, 3)), (asset_id, str(when), *given.values())


def change_within_quota(changes: Changes, asset_id: str, when: State, quota: Quota, now: int) -> Statement:
    """Change a record if its owner then holds no more than allowed, the others that have not expired counted."""
    given = _given(changes)
    values = (asset_id, str(when), now, quota.max_files, quota.max_bytes, changes["size"], *given.values())
    return _sql(_CHANGE_WITHIN_QUOTA, assigned=_assigned(given, 7)), values


def listing(wanted: Listing) -> Statement:
    """Select a page of ready assets, newest first."""
    terms, values = ["state = 'ready'"], list[object]()

    def also(term: str, *given: object) -> None:
        numbers = range(len(values) + 1, len(values) + len(given) + 1)
        terms.append(term.format(*(f"${number}" for number in numbers)))
        values.extend(given)

    if wanted.owner is not None:
        also("owner = {}", wanted.owner)
    if wanted.purpose is not None:
        also("purpose = {}", wanted.purpose)
    if wanted.media_type is not None and "/" in wanted.media_type:
        also("media_type = {}", wanted.media_type)
    elif wanted.media_type is not None:
        # What lies between "image/" and "image0" begins with "image/": no pattern that a client could write into.
        also("media_type >= {} AND media_type < {}", f"{wanted.media_type}/", f"{wanted.media_type}0")
    if wanted.after is not None:
        also("(created_at, id) < ({}, {})", *wanted.after)
    values.append(wanted.limit)
    text = "SELECT <columns> FROM assets WHERE <conditions> ORDER BY created_at DESC, id DESC LIMIT $<last>"
    return _sql(text, conditions=" AND ".join(terms), last=str(len(values))), values


def values_of(asset: Asset) -> list[object]:
    """The parameters `$1` to `$18` of the statements that add a record."""
    return [_plain(getattr(asset, name)) for name in COLUMNS]


def asset_of(row: Row) -> Asset:
    """Make the record of a row that has all columns in order."""
    values = [*row]
    try:
        values[2], values[5], values[14] = Visibility(row[2]), State(row[5]), bool(row[14])
    except ValueError as unknown:
        raise RecordsFault from unknown
    return Asset(*values)


def _given(changes: Changes) -> Mapping[str, object]:
    unknown = changes.keys() - _CHANGEABLE
    if unknown:
        raise ValueError(f"no record changes its {', '.join(sorted(unknown))}")
    return {name: _plain(value) for name, value in changes.items()}


def _assigned(given: Mapping[str, object], first: int) -> str:
    return ", ".join(f"{name} = ${number}" for number, name in enumerate(given, first))


def _plain(value: object) -> object:
    """Strip what only Python knows: drivers take text and whole numbers."""
    if isinstance(value, bool):
        return int(value)
    return str(value) if isinstance(value, str) else value
