-- AI tasks, the media of their results on the way into the storage, and the notifications seen. Times are milliseconds
-- since 1970; options, task_info, task_result and details are JSON.
CREATE TABLE tasks (
    id               TEXT    NOT NULL PRIMARY KEY,
    user_id          TEXT    NOT NULL,
    provider         TEXT    NOT NULL,
    provider_task_id TEXT,
    media_type       TEXT    NOT NULL,
    model            TEXT    NOT NULL,
    prompt           TEXT    NOT NULL,
    scene            TEXT,
    options          TEXT    NOT NULL,
    status           TEXT    NOT NULL,
    stage            TEXT    NOT NULL,
    task_info        TEXT    NOT NULL,
    task_result      TEXT,
    error_code       TEXT,
    error_message    TEXT,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    deadline         INTEGER NOT NULL,
    idempotency_key  TEXT,
    next_ask_at      INTEGER,
    asks             INTEGER NOT NULL,
    retention_ends   INTEGER,
    answer_id        TEXT
) STRICT;

CREATE UNIQUE INDEX tasks_of_provider ON tasks (provider, provider_task_id) WHERE provider_task_id IS NOT NULL;
CREATE UNIQUE INDEX tasks_by_key ON tasks (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_of_user ON tasks (user_id, created_at, id);

-- What the poller asks. Finished tasks are not in it.
CREATE INDEX tasks_due ON tasks (next_ask_at) WHERE next_ask_at IS NOT NULL;

-- One row a media item. While a worker has it, next_try_at is when its lease ends.
CREATE TABLE copies (
    id               TEXT    NOT NULL PRIMARY KEY,
    task_id          TEXT,
    provider         TEXT    NOT NULL,
    provider_task_id TEXT    NOT NULL,
    role             TEXT    NOT NULL,
    ordinal          INTEGER NOT NULL,
    url              TEXT,
    details          TEXT    NOT NULL,
    owner            TEXT    NOT NULL,
    purpose          TEXT    NOT NULL,
    visibility       TEXT    NOT NULL,
    asset_id         TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    next_try_at      INTEGER NOT NULL,
    retention_ends   INTEGER NOT NULL,
    attempts         INTEGER NOT NULL,
    leased_by        TEXT,
    media_type       TEXT,
    size             INTEGER,
    sha256           TEXT,
    reason           TEXT,
    reason_detail    TEXT
) STRICT;

CREATE UNIQUE INDEX copies_of_provider ON copies (provider, provider_task_id, role, ordinal);
CREATE INDEX copies_of_task ON copies (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX copies_waiting ON copies (retention_ends, next_try_at) WHERE state = 'waiting';

-- The ids of notifications, so that a replay is dropped. The nonce tells who came first.
CREATE TABLE task_events (
    provider         TEXT    NOT NULL,
    event_id         TEXT    NOT NULL,
    nonce            TEXT    NOT NULL,
    expires_at       INTEGER NOT NULL,
    PRIMARY KEY (provider, event_id)
) STRICT;

CREATE INDEX task_events_expiring ON task_events (expires_at);
