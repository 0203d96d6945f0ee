-- What the worker remembers: when each of its jobs ran and is due again, and which calls
-- switches were told to end.

CREATE TABLE job (
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z-]{1,40}$'),
    due_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    result text NOT NULL DEFAULT '',                -- of the last run, or why it failed
    runs bigint NOT NULL DEFAULT 0,
    failed_runs bigint NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0             -- in a row; 0: the last run went well
) WITH (fillfactor = 50);

-- A call that its switch is to end (Disconnect-Request, RFC 5176), once for each reason.
CREATE TABLE disconnect_order (
    order_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    call_id bigint NOT NULL,
    client_id integer NOT NULL,
    session_key text NOT NULL,
    account_id bigint,
    reason text NOT NULL CHECK (reason IN ('credit-ended', 'account-suspended', 'operator')),
    -- waiting, sent; then acknowledged: its Stop will come; gone: the switch does not know
    -- it (any more); refused: see error_cause; unanswered; ended: its Stop was quicker;
    -- impossible: see detail.
    state text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'sent', 'acknowledged', 'gone', 'refused', 'unanswered',
                         'ended', 'impossible')),
    attempts integer NOT NULL DEFAULT 0,            -- packets sent
    error_cause integer,                            -- RFC 5176 §3.5
    detail text NOT NULL DEFAULT '',
    ordered_at timestamptz NOT NULL,
    answered_at timestamptz,                        -- or given up at
    UNIQUE (call_id, reason)
) WITH (fillfactor = 70);
CREATE INDEX disconnect_order_open ON disconnect_order (order_id)
    WHERE state IN ('waiting', 'sent');
CREATE INDEX disconnect_order_ordered_at ON disconnect_order (ordered_at);

ALTER TABLE job ENABLE ROW LEVEL SECURITY;
ALTER TABLE disconnect_order ENABLE ROW LEVEL SECURITY;
GRANT SELECT (order_id, call_id, account_id, reason, state, ordered_at, answered_at)
   ON disconnect_order TO sky_aaa_viewer;
CREATE POLICY viewer_sees ON disconnect_order FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));

-- The end that has been told of in an event; another end is told again.
ALTER TABLE account ADD COLUMN expiry_told timestamptz;

-- None of these has a column that calls change: what calls write stays in its page (HOT).
CREATE INDEX account_inactive ON account (account_id) WHERE status <> 'active';
CREATE INDEX account_low_balance ON account (account_id) WHERE low_balance_micros IS NOT NULL;
CREATE INDEX account_expires_at ON account (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX event_at ON event (at);
