-- What reports add up: calls and charges by the hour, worked out in advance. An hour in
-- which something has changed since is noted as stale in the transaction that changed it;
-- reports count stale hours afresh, so what they say is that of the records at any moment.

-- ---------------------------------------------------------------- when it was posted

-- `at` is when it happened, which may be told late or be entered later. A period that is
-- closed must not change: reports and closings of money go by the time of posting. It is
-- the same instant as `charge.at` of what was charged in the same database transaction.
ALTER TABLE ledger_transaction ADD COLUMN posted_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE ledger_transaction DISABLE TRIGGER ledger_transaction_is_final;
UPDATE ledger_transaction SET posted_at = at;
ALTER TABLE ledger_transaction ENABLE TRIGGER ledger_transaction_is_final;
-- Rows come in this order, so a block range index finds a period and costs next to nothing.
CREATE INDEX ledger_transaction_posted_at ON ledger_transaction
 USING brin (posted_at) WITH (pages_per_range = 32);
CREATE INDEX charge_at ON charge USING brin (at) WITH (pages_per_range = 32);

-- ---------------------------------------------------------------- the rollups

-- Calls by the hour in which they ended. 0 and '' where there is none: no account was found,
-- no route was tried, no price was looked up. `cut` says what a row is counted by besides the
-- hour: by everything, or, for reports over months, by one thing alone, the others being 0.
CREATE TABLE call_hour (
    cut text NOT NULL CHECK (cut IN ('all', 'account', 'route', 'destination')),
    hour timestamptz NOT NULL,
    account_id bigint NOT NULL,
    resource_group_id bigint NOT NULL,              -- carried it, or was tried last or first
    rate_id bigint NOT NULL,                        -- the caller's row
    prefix text NOT NULL,
    attempts bigint NOT NULL,                       -- that were not refused
    answered bigint NOT NULL,
    effective bigint NOT NULL,                      -- the network did its part: answered, busy, …
    refused bigint NOT NULL,
    seconds bigint NOT NULL,
    timed bigint NOT NULL,                          -- answered, and the end told in time
    setup_ms bigint NOT NULL,                       -- of those: from authorisation to answer
    longest_seconds integer NOT NULL,
    PRIMARY KEY (cut, hour, account_id, resource_group_id, rate_id, prefix)
);

-- Charges by the hour in which they were posted; `account_id` is the caller, `party_id` who
-- pays (level 0 …) or is paid (level -1). Prefix and row are the caller's, `own_rate_id` the
-- party's; the provider is the one of the moment of that charge. The cuts are the operator's
-- alone: what it sold (level 0) and bought (level -1), by the account directly below it, by
-- provider, by destination.
CREATE TABLE charge_hour (
    cut text NOT NULL CHECK (cut IN ('all', 'customer', 'provider', 'destination')),
    hour timestamptz NOT NULL,
    account_id bigint NOT NULL,
    party_id bigint NOT NULL,
    level smallint NOT NULL,
    provider_id bigint NOT NULL,
    rate_id bigint NOT NULL,
    prefix text NOT NULL,
    own_rate_id bigint NOT NULL,
    currency text NOT NULL,
    calls bigint NOT NULL,                          -- charged for the first time
    corrections bigint NOT NULL,                    -- rows that correct an earlier charge
    billed_seconds bigint NOT NULL,
    package_seconds bigint NOT NULL,
    amount_micros bigint NOT NULL,
    PRIMARY KEY (cut, hour, party_id, level, account_id, provider_id, rate_id, prefix, own_rate_id,
                 currency)
);

-- Hours of a rollup that are to be worked out anew. No key and no conflict: transactions at
-- once never wait for each other here.
CREATE TABLE rollup_stale (
    rollup text NOT NULL CHECK (rollup IN ('call', 'charge')),
    hour timestamptz NOT NULL
);

-- ---------------------------------------------------------------- what they are made of

-- The calls that ended in [begins, ends), by periods of `width`; also of months whose records
-- were taken out of the way.
CREATE FUNCTION count_calls(begins timestamptz, ends timestamptz, width interval)
RETURNS SETOF call_hour LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE grouping(ended.account_id, ended.resource_group_id, ended.prefix)
               WHEN 0 THEN 'all'
               WHEN 3 THEN 'account'
               WHEN 5 THEN 'route'
               ELSE 'destination' END,
           ended.hour,
           coalesce(ended.account_id, 0),
           coalesce(ended.resource_group_id, 0),
           coalesce(ended.rate_id, 0),
           coalesce(ended.prefix, ''),
           count(*) FILTER (WHERE NOT ended.refused),
           count(*) FILTER (WHERE ended.answered),
           count(*) FILTER (WHERE ended.effective),
           count(*) FILTER (WHERE ended.refused),
           coalesce(sum(ended.seconds) FILTER (WHERE NOT ended.refused), 0)::bigint,
           count(*) FILTER (WHERE ended.timed),
           coalesce(sum(ended.setup_ms) FILTER (WHERE ended.timed), 0)::bigint,
           coalesce(max(ended.seconds) FILTER (WHERE NOT ended.refused), 0)
      FROM (SELECT date_bin(width, cdr.ended_at, timestamptz '2000-01-01T00:00:00Z') AS hour,
                   coalesce(cdr.account_id, 0) AS account_id,
                   coalesce(cdr.resource_group_out_id, (cdr.routes::jsonb #>> '{0,0}')::bigint, 0)
                   AS resource_group_id,
                   -- Where the level holds shares of packages or limits, they come before its price.
                   coalesce((price.level ->> (1 + price.moved))::bigint, 0) AS rate_id,
                   coalesce(price.level ->> (2 + price.moved), '') AS prefix,
                   cdr.refusal IS NOT NULL AS refused,
                   cdr.refusal IS NULL AND cdr.seconds > 0 AS answered,
                   cdr.refusal IS NULL
                   AND (cdr.seconds > 0
                        OR cdr.cause IN ('16', '17', '18', '19', '21', '31', 'SIP 480', 'SIP 486',
                                         'SIP 487', 'SIP 600', 'SIP 603')) AS effective,
                   cdr.refusal IS NULL AND cdr.seconds > 0 AND cdr.ended_by IN ('stop', 'end')
                   AS timed,
                   cdr.seconds,
                   greatest(0, 1000 * extract(epoch FROM cdr.ended_at - cdr.authorized_at)
                               - cdr.duration_ms)::bigint AS setup_ms
              FROM cdr_ever AS cdr
             CROSS JOIN LATERAL (
                   SELECT cdr.levels::jsonb -> 0 AS level,
                          CASE jsonb_typeof(cdr.levels::jsonb #> '{0,1}') WHEN 'array' THEN 1
                                                                          ELSE 0 END AS moved
                   OFFSET 0) AS price
             WHERE cdr.ended_at >= begins
               AND cdr.ended_at < ends) AS ended
     GROUP BY GROUPING SETS (
              (ended.hour, ended.account_id, ended.resource_group_id, ended.rate_id, ended.prefix),
              (ended.hour, ended.account_id),
              (ended.hour, ended.resource_group_id),
              (ended.hour, ended.rate_id, ended.prefix))
     ORDER BY 1, 2
$$;

-- The charges that were posted in [begins, ends), by periods of `width`.
CREATE FUNCTION count_charges(begins timestamptz, ends timestamptz, width interval)
RETURNS SETOF charge_hour LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH posted AS (
        SELECT date_bin(width, charge.at, timestamptz '2000-01-01T00:00:00Z') AS hour,
               caller.account_id,
               charge.account_id AS party_id,
               charge.level,
               coalesce(CASE charge.level WHEN -1 THEN charge.account_id END,
                        provider.account_id,
                        0) AS provider_id,
               caller.rate_id,
               caller.prefix,
               charge.rate_id AS own_rate_id,
               charge.currency,
               charge.number,
               charge.billed_seconds,
               charge.package_seconds,
               charge.amount_micros
          FROM charge
         -- Rows of the same or an earlier number never change: neither does what is said of them.
         CROSS JOIN LATERAL (
               SELECT first.account_id,
                      first.rate_id,
                      first.prefix
                 FROM charge AS first
                WHERE first.call_id = charge.call_id
                  AND first.level = 0
                  AND first.number <= charge.number
                ORDER BY first.number DESC
                LIMIT 1) AS caller
          LEFT JOIN LATERAL (
               SELECT carrier.account_id
                 FROM charge AS carrier
                WHERE carrier.call_id = charge.call_id
                  AND carrier.level = -1
                  AND carrier.number <= charge.number
                ORDER BY carrier.number DESC,
                         carrier.billed_seconds DESC,
                         carrier.account_id
                LIMIT 1) AS provider ON charge.level <> -1
         WHERE charge.at >= begins
           AND charge.at < ends
    ), own AS (
        -- What the operator sold and bought itself.
        SELECT posted.*,
               caller.chain[cardinality(caller.chain)] AS customer_id
          FROM posted
          JOIN account AS party ON party.account_id = posted.party_id
          JOIN account AS caller ON caller.account_id = posted.account_id
         WHERE cardinality(party.chain) = 1
    )
    SELECT 'all',
           hour,
           account_id,
           party_id,
           level,
           provider_id,
           rate_id,
           prefix,
           own_rate_id,
           currency,
           count(*) FILTER (WHERE number = 1),
           count(*) FILTER (WHERE number > 1),
           sum(billed_seconds)::bigint,
           sum(package_seconds)::bigint,
           sum(amount_micros)::bigint
      FROM posted
     GROUP BY 2, 3, 4, 5, 6, 7, 8, 9, 10
     UNION ALL
    SELECT CASE grouping(customer_id, provider_id, prefix)
               WHEN 3 THEN 'customer'
               WHEN 5 THEN 'provider'
               ELSE 'destination' END,
           hour,
           coalesce(customer_id, 0),
           0,
           least(level, 0),
           coalesce(provider_id, 0),
           coalesce(rate_id, 0),
           coalesce(prefix, ''),
           0,
           currency,
           count(*) FILTER (WHERE number = 1),
           count(*) FILTER (WHERE number > 1),
           sum(billed_seconds)::bigint,
           sum(package_seconds)::bigint,
           sum(amount_micros)::bigint
      FROM own
     GROUP BY hour,
              least(level, 0),
              currency,
              GROUPING SETS ((customer_id), (provider_id), (rate_id, prefix))
$$;

-- ---------------------------------------------------------------- what is stale

CREATE FUNCTION calls_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO rollup_stale (rollup, hour)
        SELECT 'call', date_trunc('hour', ended_at, 'UTC') FROM changed_from
         UNION
        SELECT 'call', date_trunc('hour', ended_at, 'UTC') FROM changed_to;
    ELSE
        INSERT INTO rollup_stale (rollup, hour)
        SELECT DISTINCT 'call', date_trunc('hour', ended_at, 'UTC') FROM changed_to;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER cdr_adds_to_rollup AFTER INSERT ON cdr
    REFERENCING NEW TABLE AS changed_to
    FOR EACH STATEMENT EXECUTE FUNCTION calls_changed();
CREATE TRIGGER cdr_changes_rollup AFTER UPDATE ON cdr
    REFERENCING OLD TABLE AS changed_from NEW TABLE AS changed_to
    FOR EACH STATEMENT EXECUTE FUNCTION calls_changed();

CREATE FUNCTION charges_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rollup_stale (rollup, hour)
    SELECT DISTINCT 'charge', date_trunc('hour', at, 'UTC') FROM changed_to;
    RETURN NULL;
END $$;
CREATE TRIGGER charge_adds_to_rollup AFTER INSERT ON charge
    REFERENCING NEW TABLE AS changed_to
    FOR EACH STATEMENT EXECUTE FUNCTION charges_changed();

INSERT INTO rollup_stale (rollup, hour)
SELECT DISTINCT 'call', date_trunc('hour', ended_at, 'UTC') FROM cdr_ever
 UNION ALL
SELECT DISTINCT 'charge', date_trunc('hour', at, 'UTC') FROM charge;

-- ---------------------------------------------------------------- who sees what

-- What is not rolled up of [begins, ends): its stale hours, or, where periods are not whole
-- hours, all of it by quarters. A viewer gets its tree's rows, and nothing of routes; who is
-- one is told by the role that it has taken, for here the owner's rights are in force.
CREATE FUNCTION uncounted_calls(begins timestamptz, ends timestamptz, rolled boolean)
RETURNS SETOF call_hour LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE AS $$
    SELECT counted.cut,
           counted.hour,
           counted.account_id,
           CASE WHEN current_setting('role') <> 'sky_aaa_viewer' THEN counted.resource_group_id ELSE 0 END,
           counted.rate_id,
           counted.prefix,
           counted.attempts,
           counted.answered,
           counted.effective,
           counted.refused,
           counted.seconds,
           counted.timed,
           counted.setup_ms,
           counted.longest_seconds
      FROM (SELECT DISTINCT
                   hour AS begins,
                   hour + interval '1 hour' AS ends,
                   interval '1 hour' AS width
              FROM rollup_stale
             WHERE rolled
               AND rollup = 'call'
               AND hour >= begins
               AND hour < ends
             UNION ALL
            SELECT begins, ends, interval '15 minutes'
             WHERE NOT rolled) AS part
     CROSS JOIN LATERAL count_calls(part.begins, part.ends, part.width) AS counted
     WHERE current_setting('role') <> 'sky_aaa_viewer'
        OR counted.account_id IN (SELECT account_id FROM account
                                   WHERE chain @> ARRAY[viewer_id()])
$$;

CREATE FUNCTION uncounted_charges(begins timestamptz, ends timestamptz, rolled boolean)
RETURNS SETOF charge_hour LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE AS $$
    SELECT counted.cut,
           counted.hour,
           counted.account_id,
           counted.party_id,
           counted.level,
           CASE WHEN current_setting('role') <> 'sky_aaa_viewer' THEN counted.provider_id ELSE 0 END,
           counted.rate_id,
           counted.prefix,
           counted.own_rate_id,
           counted.currency,
           counted.calls,
           counted.corrections,
           counted.billed_seconds,
           counted.package_seconds,
           counted.amount_micros
      FROM (SELECT DISTINCT
                   hour AS begins,
                   hour + interval '1 hour' AS ends,
                   interval '1 hour' AS width
              FROM rollup_stale
             WHERE rolled
               AND rollup = 'charge'
               AND hour >= begins
               AND hour < ends
             UNION ALL
            SELECT begins, ends, interval '15 minutes'
             WHERE NOT rolled) AS part
     CROSS JOIN LATERAL count_charges(part.begins, part.ends, part.width) AS counted
     WHERE current_setting('role') <> 'sky_aaa_viewer'
        OR counted.level >= 0
           AND counted.party_id IN (SELECT account_id FROM account
                                     WHERE chain @> ARRAY[viewer_id()])
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['uncounted_calls(timestamptz, timestamptz, boolean)',
                                'uncounted_charges(timestamptz, timestamptz, boolean)']
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END $$;

ALTER TABLE call_hour ENABLE ROW LEVEL SECURITY;
ALTER TABLE charge_hour ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollup_stale ENABLE ROW LEVEL SECURITY;
GRANT SELECT (cut, hour, account_id, rate_id, prefix, attempts, answered, effective, refused, seconds,
              timed, setup_ms, longest_seconds)
   ON call_hour TO sky_aaa_viewer;
GRANT SELECT (cut, hour, account_id, party_id, level, rate_id, prefix, own_rate_id, currency, calls,
              corrections, billed_seconds, package_seconds, amount_micros)
   ON charge_hour TO sky_aaa_viewer;
-- Hours, of everybody: nothing but that somewhere a call has ended.
GRANT SELECT ON rollup_stale TO sky_aaa_viewer;
CREATE POLICY viewer_sees ON call_hour FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON charge_hour FOR SELECT TO sky_aaa_viewer
    USING (level >= 0 AND party_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON rollup_stale FOR SELECT TO sky_aaa_viewer
    USING (true);
