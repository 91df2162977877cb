-- What version 5 may have left beside that: a report group with a report and what was found.

INSERT INTO report_groups (account, region, name, created_ms, modified_ms, document) VALUES
    ('123456789012', 'eu-west-1', 'shop-unit', 5000, 6000, '{"name":"shop-unit"}');
INSERT INTO reports (account, region, id, report_group, status, created_ms, expires_ms, document) VALUES
    ('123456789012', 'eu-west-1', 'shop-unit:one', 'shop-unit', 'SUCCEEDED', 7000, 9000, '{"name":"shop-unit:one"}');
INSERT INTO report_findings (account, region, report, findings) VALUES
    ('123456789012', 'eu-west-1', 'shop-unit:one', '{"Tests":{"counts":{},"duration_ns":0,"cases":[]}}');
