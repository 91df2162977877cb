-- What version 1 may have left: a project with builds, one of them running, and another that was deleted since.

INSERT INTO settings (key, value) VALUES ('a setting', 'its value');
INSERT INTO projects (account, region, name, created_ms, modified_ms, document) VALUES
    ('123456789012', 'eu-west-1', 'shop', 1000, 2000, '{"name":"shop","description":"größer"}'),
    ('123456789012', 'eu-west-1', 'Zoo', 1500, 1500, '{"name":"Zoo"}'),
    ('999999999999', 'us-east-1', 'shop', 1000, 1000, '{"name":"shop"}');
INSERT INTO build_numbers (account, region, project, last) VALUES
    ('123456789012', 'eu-west-1', 'shop', 3), ('123456789012', 'eu-west-1', 'gone', 7);
INSERT INTO builds (account, region, id, project, number, status, complete, created_ms, ended_ms, document, lifecycle, plan) VALUES
    ('123456789012', 'eu-west-1', 'shop:one', 'shop', 1, 'SUCCEEDED', 1, 1100, 1200, '{"id":"shop:one"}', '{"state":"complete"}', '{}'),
    ('123456789012', 'eu-west-1', 'gone:seven', 'gone', 7, 'FAILED', 1, 1150, 1250, '{"id":"gone:seven"}', '{"state":"complete"}', '{}'),
    ('123456789012', 'eu-west-1', 'shop:three', 'shop', 3, 'IN_PROGRESS', 0, 1300, NULL, '{"id":"shop:three"}', '{"state":"running"}', '{"commands":[]}');
INSERT INTO idempotency_tokens (account, region, operation, token, parameters_hash, build, expires_ms) VALUES
    ('123456789012', 'eu-west-1', 'StartBuild', 'token', 'hash', 'shop:three', 900000);
INSERT INTO log_groups (account, region, name, created_ms, retention_days, tags) VALUES
    ('123456789012', 'eu-west-1', '/aws/codebuild/shop', 1100, 30, '{"team":"a"}');
INSERT INTO log_streams (account, region, log_group, name, created_ms, segment, first_event_ms, last_event_ms, stored_bytes) VALUES
    ('123456789012', 'eu-west-1', '/aws/codebuild/shop', 'one', 1100, 'logs/one', 1101, 1199, 4096),
    ('123456789012', 'eu-west-1', '/aws/codebuild/shop', 'three', 1300, 'logs/three', 0, 0, 0);
