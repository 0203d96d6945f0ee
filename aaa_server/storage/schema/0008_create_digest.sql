-- SIP digests: who makes the nonces, and how often each was used.

ALTER TABLE client ADD COLUMN digest_nonces text NOT NULL DEFAULT 'client'
    CHECK (digest_nonces IN ('client', 'server'));

-- What was used of a digest's nonce, so that what somebody has overheard is not taken from
-- him again, by whatever server. One row for user, realm and nonce: their hash is the key.
CREATE TABLE digest_nonce (
    nonce_hash bytea PRIMARY KEY CHECK (octet_length(nonce_hash) = 16),
    account_id bigint NOT NULL,
    last_count bigint NOT NULL CHECK (last_count BETWEEN 1 AND 4294967295),
    last_response text NOT NULL,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 60);
CREATE INDEX digest_nonce_seen_at ON digest_nonce (seen_at);

ALTER TABLE digest_nonce ENABLE ROW LEVEL SECURITY;
