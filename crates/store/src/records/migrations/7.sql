-- The documents of builds, apart from what the server decides by. Who asks for a hundred builds reads a hundred places of this table
-- and nothing else, however many there are: `key` is made from the account, the region and the id, so that no index is needed.

CREATE TABLE build_documents (
    key      INTEGER PRIMARY KEY,
    account  TEXT NOT NULL,
    region   TEXT NOT NULL,
    id       TEXT NOT NULL,
    document TEXT NOT NULL
);
INSERT INTO build_documents (key, account, region, id, document) SELECT key, account, region, id, document FROM builds;
ALTER TABLE builds DROP COLUMN document;
