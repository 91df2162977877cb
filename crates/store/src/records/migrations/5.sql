-- Report groups, and what builds reported.

CREATE TABLE report_groups (
    account     TEXT   NOT NULL,
    region      TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    modified_ms BIGINT NOT NULL,
    document    TEXT   NOT NULL,
    PRIMARY KEY (account, region, name)
);
CREATE INDEX report_groups_by_created ON report_groups (account, region, created_ms, name);
CREATE INDEX report_groups_by_modified ON report_groups (account, region, modified_ms, name);

-- An id is '<report group>:<uuid>'. A report is gone once its expires_ms has come.
CREATE TABLE reports (
    account      TEXT   NOT NULL,
    region       TEXT   NOT NULL,
    id           TEXT   NOT NULL,
    report_group TEXT   NOT NULL,
    status       TEXT   NOT NULL,
    created_ms   BIGINT NOT NULL,
    expires_ms   BIGINT NOT NULL,
    document     TEXT   NOT NULL,
    PRIMARY KEY (account, region, id),
    FOREIGN KEY (account, region, report_group) REFERENCES report_groups (account, region, name) ON DELETE CASCADE
);
CREATE INDEX reports_by_created ON reports (account, region, created_ms, id);
CREATE INDEX reports_by_status ON reports (account, region, status, created_ms, id);
CREATE INDEX reports_by_group ON reports (account, region, report_group, created_ms, id);
CREATE INDEX reports_by_group_and_status ON reports (account, region, report_group, status, created_ms, id);
CREATE INDEX reports_by_expiry ON reports (expires_ms);

-- Test cases or coverages. Apart from reports: lists do not read them.
CREATE TABLE report_findings (
    account  TEXT NOT NULL,
    region   TEXT NOT NULL,
    report   TEXT NOT NULL,
    findings TEXT NOT NULL,
    PRIMARY KEY (account, region, report),
    FOREIGN KEY (account, region, report) REFERENCES reports (account, region, id) ON DELETE CASCADE
);
