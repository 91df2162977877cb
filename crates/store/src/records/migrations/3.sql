-- Source credentials, resource policies and public projects.

-- One for each kind of server. What is sealed is encrypted, and opens only where it was put.
CREATE TABLE source_credentials (
    account     TEXT NOT NULL,
    region      TEXT NOT NULL,
    server_type TEXT NOT NULL,
    document    TEXT NOT NULL,
    sealed      TEXT NOT NULL,
    PRIMARY KEY (account, region, server_type)
);

-- By the end of an ARN, what the policy is about: 'project/demo'.
CREATE TABLE resource_policies (
    account     TEXT   NOT NULL,
    region      TEXT   NOT NULL,
    resource    TEXT   NOT NULL,
    modified_ms BIGINT NOT NULL,
    policy      TEXT   NOT NULL,
    PRIMARY KEY (account, region, resource)
);
CREATE INDEX resource_policies_by_region ON resource_policies (region, resource);

-- Made when a project is first public, and the same whenever it is public again.
CREATE TABLE project_aliases (
    alias   TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    region  TEXT NOT NULL,
    project TEXT NOT NULL
);
CREATE UNIQUE INDEX project_aliases_by_project ON project_aliases (account, region, project);

-- A project's cache is good for builds of its own generation.
ALTER TABLE projects ADD COLUMN cache_generation BIGINT NOT NULL DEFAULT 0;
