-- Logs that are forwarded elsewhere.

-- Where in its segment the forwarding of a stream goes on; NULL: nothing of it is to be forwarded any more.
ALTER TABLE log_streams ADD COLUMN forwarding TEXT;
CREATE INDEX log_streams_to_forward ON log_streams (created_ms) WHERE forwarding IS NOT NULL;
