-- What version 4 may have left beside that: a disabled access key, sealed with the same key.

INSERT INTO access_keys (id, account, user_name, policy, enabled, created_ms, sealed) VALUES
    ('AKIAEXAMPLE', '123456789012', 'ci', '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}', 0, 4000, '3f928921346b6ca8.e5gHGqn141TdMx40.Twi5I+z/CPKtPd68uKXJ8BfMhS/GhffC');
