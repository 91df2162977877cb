-- Access keys that were made while a server ran. Those of the configuration are not here.

-- Ids are everybody's, and so there is no region. What is sealed is encrypted, and opens only where it was put.
CREATE TABLE access_keys (
    id         TEXT   NOT NULL PRIMARY KEY,
    account    TEXT   NOT NULL,
    user_name  TEXT   NOT NULL,
    policy     TEXT   NOT NULL,
    enabled    BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    sealed     TEXT   NOT NULL
);
