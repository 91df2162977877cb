-- What version 2 may have left beside that: a parameter and a secret, sealed with the key of 32 bytes 7.

INSERT INTO settings (key, value) VALUES ('vault.key', '3f928921346b6ca8');
INSERT INTO parameters (account, region, name, version, tags) VALUES
    ('123456789012', 'eu-west-1', '/app/key', 2, '{"team":"a"}');
INSERT INTO parameter_versions (account, region, name, version, modified_ms, document, sealed) VALUES
    ('123456789012', 'eu-west-1', '/app/key', 1, 1000, '{"Type":"String"}', '3f928921346b6ca8.bt4JEdfME+IguFj/.4shdd2Km0G/Z0Sk5F6PkQsguoKRyA7QpgN1n'),
    ('123456789012', 'eu-west-1', '/app/key', 2, 1000, '{"Type":"SecureString"}', '3f928921346b6ca8.MRd/UYNb7A6oWaj1.bpXdNRds72C0KC3BZdy4l3+pz/fRxWeD5ykqqw==');
INSERT INTO secrets (account, region, name, suffix, created_ms, changed_ms, deletion_ms, stages, document) VALUES
    ('123456789012', 'eu-west-1', 'prod/db', 'AbCdEf', 2000, 2000, NULL, '{"AWSCURRENT":"v2","AWSPREVIOUS":"v1"}', '{}');
INSERT INTO secret_versions (account, region, secret, id, created_ms, sealed) VALUES
    ('123456789012', 'eu-west-1', 'prod/db', 'v1', 2000, '3f928921346b6ca8.zU97lNpdfjdAbD8t.9C/mjnXeqbdmvIsiv8eeG4TYKwo='),
    ('123456789012', 'eu-west-1', 'prod/db', 'v2', 2001, '3f928921346b6ca8.Y3kdPLEh02clsYzi.tr8I+9RJZWKQ8lIzU1DX/zTUXA==');
