-- What version 7 may have left beside that: a build whose document has a table of its own.

INSERT INTO builds (key, account, region, id, project, number, status, complete, created_ms, ended_ms, lifecycle, plan) VALUES
    (3427181992068647028, '123456789012', 'us-east-1', 'shop:nine', 'shop', 9, 'SUCCEEDED', 1, 1400, 1500, '{}', '{}');
INSERT INTO build_documents (key, account, region, id, document) VALUES
    (3427181992068647028, '123456789012', 'us-east-1', 'shop:nine', '{"id":"shop:nine"}');
