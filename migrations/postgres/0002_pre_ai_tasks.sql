-- AI tasks, the media of their results on the way into the storage, and the notifications seen. Times are milliseconds
-- since 1970; options, task_info, task_result and details are JSON.
CREATE TABLE tasks (
    id               TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    user_id          TEXT   COLLATE "C" NOT NULL,
    provider         TEXT   COLLATE "C" NOT NULL,
    provider_task_id TEXT   COLLATE "C",
    media_type       TEXT   COLLATE "C" NOT NULL,
    model            TEXT   COLLATE "C" NOT NULL,
    prompt           TEXT   COLLATE "C" NOT NULL,
    scene            TEXT   COLLATE "C",
    options          TEXT   COLLATE "C" NOT NULL,
    status           TEXT   COLLATE "C" NOT NULL,
    stage            TEXT   COLLATE "C" NOT NULL,
    task_info        TEXT   COLLATE "C" NOT NULL,
    task_result      TEXT   COLLATE "C",
    error_code       TEXT   COLLATE "C",
    error_message    TEXT   COLLATE "C",
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    deadline         BIGINT NOT NULL,
    idempotency_key  TEXT   COLLATE "C",
    next_ask_at      BIGINT,
    asks             BIGINT NOT NULL,
    retention_ends   BIGINT,
    answer_id        TEXT   COLLATE "C"
);

CREATE UNIQUE INDEX tasks_of_provider ON tasks (provider, provider_task_id) WHERE provider_task_id IS NOT NULL;
CREATE UNIQUE INDEX tasks_by_key ON tasks (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_of_user ON tasks (user_id, created_at, id);

-- What the poller asks. Finished tasks are not in it.
CREATE INDEX tasks_due ON tasks (next_ask_at) WHERE next_ask_at IS NOT NULL;

-- One row a media item. While a worker has it, next_try_at is when its lease ends.
CREATE TABLE copies (
    id               TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    task_id          TEXT   COLLATE "C",
    provider         TEXT   COLLATE "C" NOT NULL,
    provider_task_id TEXT   COLLATE "C" NOT NULL,
    role             TEXT   COLLATE "C" NOT NULL,
    ordinal          BIGINT NOT NULL,
    url              TEXT   COLLATE "C",
    details          TEXT   COLLATE "C" NOT NULL,
    owner            TEXT   COLLATE "C" NOT NULL,
    purpose          TEXT   COLLATE "C" NOT NULL,
    visibility       TEXT   COLLATE "C" NOT NULL,
    asset_id         TEXT   COLLATE "C" NOT NULL,
    state            TEXT   COLLATE "C" NOT NULL,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    next_try_at      BIGINT NOT NULL,
    retention_ends   BIGINT NOT NULL,
    attempts         BIGINT NOT NULL,
    leased_by        TEXT   COLLATE "C",
    media_type       TEXT   COLLATE "C",
    size             BIGINT,
    sha256           TEXT   COLLATE "C",
    reason           TEXT   COLLATE "C",
    reason_detail    TEXT   COLLATE "C"
);

CREATE UNIQUE INDEX copies_of_provider ON copies (provider, provider_task_id, role, ordinal);
CREATE INDEX copies_of_task ON copies (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX copies_waiting ON copies (retention_ends, next_try_at) WHERE state = 'waiting';

-- The ids of notifications, so that a replay is dropped. The nonce tells who came first.
CREATE TABLE task_events (
    provider         TEXT   COLLATE "C" NOT NULL,
    event_id         TEXT   COLLATE "C" NOT NULL,
    nonce            TEXT   COLLATE "C" NOT NULL,
    expires_at       BIGINT NOT NULL,
    PRIMARY KEY (provider, event_id)
);

CREATE INDEX task_events_expiring ON task_events (expires_at);
