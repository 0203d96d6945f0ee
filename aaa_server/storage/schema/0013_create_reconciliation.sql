-- A provider's call records held against ours: what was asked, what came of it, by code and
-- call by call. Calls that are exactly the same are counted by code and need no row.

CREATE TABLE reconciliation (
    reconciliation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider_id bigint NOT NULL REFERENCES account,
    created_at timestamptz NOT NULL DEFAULT now(),
    file_name text NOT NULL,
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    -- Calls that were answered, by our clock, in [begins, ends).
    begins timestamptz NOT NULL,
    ends timestamptz NOT NULL CHECK (ends > begins),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    tolerance_seconds integer NOT NULL CHECK (tolerance_seconds >= 0),
    tolerance_micros bigint NOT NULL CHECK (tolerance_micros >= 0),
    window_seconds integer NOT NULL CHECK (window_seconds > 0),
    -- How the file was read: headers by column, time zone. With the same the file is the same.
    reading jsonb NOT NULL,
    lines bigint NOT NULL CHECK (lines >= 0),       -- of the file, with data
    bad_lines bigint NOT NULL CHECK (bad_lines BETWEEN 0 AND lines),
    unanswered bigint NOT NULL CHECK (unanswered >= 0),     -- their lines of no second, no money
    outside bigint NOT NULL CHECK (outside >= 0),   -- their lines of another time
    UNIQUE (provider_id, sha256, begins, ends, tolerance_seconds, tolerance_micros,
            window_seconds, reading)
);

-- By code: the provider's own where its file has one, else ours.
CREATE TABLE reconciliation_code (
    reconciliation_id bigint NOT NULL REFERENCES reconciliation ON DELETE CASCADE,
    code text NOT NULL,
    destination text NOT NULL,
    our_calls bigint NOT NULL,
    our_seconds bigint NOT NULL,
    our_micros bigint NOT NULL,
    their_calls bigint NOT NULL,
    their_seconds bigint NOT NULL,
    their_micros bigint,                            -- null: the file has no amounts
    exact bigint NOT NULL,
    within bigint NOT NULL,
    different bigint NOT NULL,
    missing_at_ours bigint NOT NULL,
    missing_at_theirs bigint NOT NULL,
    PRIMARY KEY (reconciliation_id, code)
);

-- What is not exactly the same. Of a missing call one side is null.
CREATE TABLE reconciliation_call (
    reconciliation_id bigint NOT NULL REFERENCES reconciliation ON DELETE CASCADE,
    number bigint NOT NULL,
    class text NOT NULL
        CHECK (class IN ('within', 'different', 'missing-at-ours', 'missing-at-theirs')),
    differs text[] NOT NULL CHECK (differs <@ '{duration,rate,amount}'),
    code text NOT NULL,
    destination text NOT NULL,
    line bigint,                                    -- of the file
    their_number text,
    their_at timestamptz,
    their_seconds bigint,
    their_nanos bigint,                             -- per minute, where the file says it
    their_micros bigint,                            -- likewise
    call_id bigint,
    our_number text,
    our_at timestamptz,
    our_seconds bigint,
    our_nanos bigint,
    our_micros bigint,
    PRIMARY KEY (reconciliation_id, number),
    CHECK ((line IS NULL) = (class = 'missing-at-theirs')),
    CHECK ((call_id IS NULL) = (class = 'missing-at-ours'))
);

-- The operator's business: no grant and no policy lets a viewer near.
ALTER TABLE reconciliation ENABLE ROW LEVEL SECURITY;
ALTER TABLE reconciliation_code ENABLE ROW LEVEL SECURITY;
ALTER TABLE reconciliation_call ENABLE ROW LEVEL SECURITY;
