-- The records of the assets. Times are milliseconds since 1970, revoked_at whole seconds; booleans are 0 or 1.
CREATE TABLE assets (
    id             TEXT    NOT NULL PRIMARY KEY,
    owner          TEXT    NOT NULL,
    visibility     TEXT    NOT NULL,
    purpose        TEXT    NOT NULL,
    source         TEXT    NOT NULL,
    state          TEXT    NOT NULL,
    media_type     TEXT    NOT NULL,
    size           INTEGER NOT NULL,
    sha256         TEXT    NOT NULL,
    object_key     TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    filename       TEXT,
    object_version TEXT    NOT NULL,
    stored         INTEGER NOT NULL,
    expires_at     INTEGER,
    deleted_at     INTEGER,
    revoked_at     INTEGER
) STRICT;

-- An owner's list, quota and claim.
CREATE INDEX assets_of_owner ON assets (owner, state, created_at, id);

-- The list of everybody's.
CREATE INDEX assets_newest ON assets (created_at, id) WHERE state = 'ready';

-- What the sweeper asks. Each of these holds only the few that may concern it.
CREATE INDEX assets_expiring ON assets (expires_at)
    WHERE expires_at IS NOT NULL AND state IN ('pending', 'ready');
CREATE INDEX assets_pending ON assets (updated_at) WHERE state = 'pending';
CREATE INDEX assets_unswept ON assets (id) WHERE stored = 1 AND state IN ('expired', 'deleted');
CREATE INDEX assets_forgettable ON assets (coalesce(deleted_at, updated_at))
    WHERE stored = 0 AND state IN ('expired', 'deleted');

-- The comparison of the records with the storage, in the order of the keys. Two assets may share an object.
CREATE INDEX assets_stored ON assets (object_key, id, state, stored) WHERE stored = 1;
