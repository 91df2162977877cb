-- What version 3 may have left beside that: a credential sealed with the same key, a policy, and a public project.

INSERT INTO source_credentials (account, region, server_type, document, sealed) VALUES
    ('123456789012', 'eu-west-1', 'GITHUB', '{"authType":"PERSONAL_ACCESS_TOKEN"}', '3f928921346b6ca8.ITmm4auo0Bg4c9Jo.6gchjwbu2GrA/ohCz9G128cZtUClpxw=');
INSERT INTO resource_policies (account, region, resource, modified_ms, policy) VALUES
    ('123456789012', 'eu-west-1', 'project/shop', 3000, '{"Version":"2012-10-17","Statement":[]}');
INSERT INTO project_aliases (alias, account, region, project) VALUES ('an-alias', '123456789012', 'eu-west-1', 'shop');
UPDATE projects SET cache_generation = 2 WHERE account = '123456789012' AND region = 'eu-west-1' AND name = 'shop';
