-- Parameters and secrets. What is sealed is encrypted, and opens only where it was put.

CREATE TABLE parameters (
    account  TEXT   NOT NULL,
    region   TEXT   NOT NULL,
    name     TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    tags     TEXT   NOT NULL,
    PRIMARY KEY (account, region, name)
);

CREATE TABLE parameter_versions (
    account     TEXT   NOT NULL,
    region      TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    modified_ms BIGINT NOT NULL,
    document    TEXT   NOT NULL,
    sealed      TEXT   NOT NULL,
    PRIMARY KEY (account, region, name, version),
    FOREIGN KEY (account, region, name) REFERENCES parameters (account, region, name) ON DELETE CASCADE
);

-- A secret is gone once its deletion_ms has come.
CREATE TABLE secrets (
    account     TEXT   NOT NULL,
    region      TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    suffix      TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    changed_ms  BIGINT NOT NULL,
    deletion_ms BIGINT,
    stages      TEXT   NOT NULL,
    document    TEXT   NOT NULL,
    PRIMARY KEY (account, region, name)
);
CREATE INDEX secrets_by_deletion ON secrets (deletion_ms) WHERE deletion_ms IS NOT NULL;

CREATE TABLE secret_versions (
    account    TEXT   NOT NULL,
    region     TEXT   NOT NULL,
    secret     TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    created_ms BIGINT NOT NULL,
    sealed     TEXT   NOT NULL,
    PRIMARY KEY (account, region, secret, id),
    FOREIGN KEY (account, region, secret) REFERENCES secrets (account, region, name) ON DELETE CASCADE
);
