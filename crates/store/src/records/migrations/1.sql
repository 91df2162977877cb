-- The first schema. Text is compared byte by byte (COLLATE "C" where that is not the default).

CREATE TABLE settings (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE projects (
    account     TEXT   NOT NULL,
    region      TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    modified_ms BIGINT NOT NULL,
    document    TEXT   NOT NULL,
    PRIMARY KEY (account, region, name)
);
CREATE INDEX projects_by_created ON projects (account, region, created_ms, name);
CREATE INDEX projects_by_modified ON projects (account, region, modified_ms, name);

-- Apart from projects: builds outlive their project, and a new project of that name goes on counting.
CREATE TABLE build_numbers (
    account TEXT   NOT NULL,
    region  TEXT   NOT NULL,
    project TEXT   NOT NULL,
    last    BIGINT NOT NULL,
    PRIMARY KEY (account, region, project)
);

CREATE TABLE builds (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    account    TEXT    NOT NULL,
    region     TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    project    TEXT    NOT NULL,
    number     BIGINT  NOT NULL,
    status     TEXT    NOT NULL,
    complete   INTEGER NOT NULL,
    created_ms BIGINT  NOT NULL,
    ended_ms   BIGINT,
    document   TEXT    NOT NULL,
    lifecycle  TEXT    NOT NULL,
    plan       TEXT    NOT NULL
);
CREATE UNIQUE INDEX builds_by_id ON builds (account, region, id);
CREATE INDEX builds_by_acceptance ON builds (account, region, sequence, id);
CREATE UNIQUE INDEX builds_by_number ON builds (account, region, project, number, id);
CREATE INDEX builds_incomplete ON builds (sequence) WHERE complete = 0;

CREATE TABLE idempotency_tokens (
    account         TEXT   NOT NULL,
    region          TEXT   NOT NULL,
    operation       TEXT   NOT NULL,
    token           TEXT   NOT NULL,
    parameters_hash TEXT   NOT NULL,
    build           TEXT   NOT NULL,
    expires_ms      BIGINT NOT NULL,
    PRIMARY KEY (account, region, operation, token)
);
CREATE INDEX idempotency_tokens_by_expiry ON idempotency_tokens (expires_ms);
CREATE INDEX idempotency_tokens_by_build ON idempotency_tokens (account, region, build);

CREATE TABLE log_groups (
    account        TEXT   NOT NULL,
    region         TEXT   NOT NULL,
    name           TEXT   NOT NULL,
    created_ms     BIGINT NOT NULL,
    retention_days BIGINT,
    tags           TEXT   NOT NULL,
    PRIMARY KEY (account, region, name)
);

-- 0 stands for no event yet, so that streams without events have a place in the order.
CREATE TABLE log_streams (
    account        TEXT   NOT NULL,
    region         TEXT   NOT NULL,
    log_group      TEXT   NOT NULL,
    name           TEXT   NOT NULL,
    created_ms     BIGINT NOT NULL,
    segment        TEXT   NOT NULL,
    first_event_ms BIGINT NOT NULL,
    last_event_ms  BIGINT NOT NULL,
    stored_bytes   BIGINT NOT NULL,
    PRIMARY KEY (account, region, log_group, name),
    FOREIGN KEY (account, region, log_group) REFERENCES log_groups (account, region, name) ON DELETE CASCADE
);
CREATE INDEX log_streams_by_event ON log_streams (account, region, log_group, last_event_ms, name);
