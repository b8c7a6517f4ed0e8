-- The records of the assets. Times are milliseconds since 1970, revoked_at whole seconds; booleans are 0 or 1.
-- What is compared by its order has the order of its bytes, as SQLite and the storage have it.
CREATE TABLE assets (
    id             TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    owner          TEXT   COLLATE "C" NOT NULL,
    visibility     TEXT   COLLATE "C" NOT NULL,
    purpose        TEXT   COLLATE "C" NOT NULL,
    source         TEXT   COLLATE "C" NOT NULL,
    state          TEXT   COLLATE "C" NOT NULL,
    media_type     TEXT   COLLATE "C" NOT NULL,
    size           BIGINT NOT NULL,
    sha256         TEXT   COLLATE "C" NOT NULL,
    object_key     TEXT   COLLATE "C" NOT NULL,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    filename       TEXT   COLLATE "C",
    object_version TEXT   COLLATE "C" NOT NULL,
    stored         BIGINT NOT NULL,
    expires_at     BIGINT,
    deleted_at     BIGINT,
    revoked_at     BIGINT
);

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
CREATE INDEX assets_stored ON assets (object_key, id, state) WHERE stored = 1;

-- Whoever changes records, by whatever means, tells all that remember them, in the same transaction. A notification
-- holds less than 8,000 bytes: a hundred ids of 64. After ten thousand ids it is simpler to forget everything.
CREATE FUNCTION assets_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM changed) > 10000 THEN
        PERFORM pg_notify('assetgate_assets', '*');
    ELSE
        PERFORM pg_notify('assetgate_assets', string_agg(id, ' '))
        FROM (SELECT id, (row_number() OVER () - 1) / 100 AS part FROM changed) AS numbered
        GROUP BY part;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER assets_updated AFTER UPDATE ON assets
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION assets_changed();
CREATE TRIGGER assets_removed AFTER DELETE ON assets
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION assets_changed();
