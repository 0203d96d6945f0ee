-- Days and months of the rollups, for what an hour has too many rows for: two things at once,
-- over a month. And a rollup of the ledger, so that what reports tie to is as fast as they are.
--
-- A span adds up whole hours of its rollup. It is there when rollup_span says so; an hour in it
-- that is counted anew takes it away, and the job makes it again.

-- ---------------------------------------------------------------- the ledger by the hour

-- Postings by the hour in which they were posted.
CREATE TABLE ledger_hour (
    hour timestamptz NOT NULL,
    account_id bigint NOT NULL,
    kind text NOT NULL,
    contra_account_id bigint NOT NULL,
    contra_book text NOT NULL,
    currency text NOT NULL,
    postings bigint NOT NULL,
    amount_micros bigint NOT NULL,
    debit_micros bigint NOT NULL,                   -- of it, what made the balance smaller
    PRIMARY KEY (hour, account_id, kind, contra_account_id, contra_book, currency)
);

-- Transactions are few beside all postings: these are looked up one by one.
CREATE FUNCTION count_ledger(begins timestamptz, ends timestamptz, width interval)
RETURNS SETOF ledger_hour LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT date_bin(width, ledger_transaction.posted_at, timestamptz '2000-01-01T00:00:00Z'),
           posting.account_id,
           ledger_transaction.kind,
           posting.contra_account_id,
           posting.contra_book,
           posting.currency,
           count(*),
           sum(posting.amount_micros)::bigint,
           sum(least(posting.amount_micros, 0))::bigint
      FROM ledger_transaction
     CROSS JOIN LATERAL (
           SELECT *
             FROM posting
            WHERE posting.transaction_id = ledger_transaction.transaction_id
           OFFSET 0) AS posting
     WHERE ledger_transaction.posted_at >= begins
       AND ledger_transaction.posted_at < ends
     GROUP BY 1, 2, 3, 4, 5, 6
$$;

ALTER TABLE rollup_stale DROP CONSTRAINT rollup_stale_rollup_check;
ALTER TABLE rollup_stale ADD CHECK (rollup IN ('call', 'charge', 'ledger'));

-- A call is posted in the transaction that charges it, so its charges tell the hour of both: one
-- look at what a batch wrote is enough. All other money is posted a transaction at a time.
CREATE OR REPLACE FUNCTION charges_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rollup_stale (rollup, hour)
    SELECT rollup, hour
      FROM (SELECT DISTINCT date_trunc('hour', at, 'UTC') AS hour FROM changed_to) AS charged
     CROSS JOIN (VALUES ('charge'), ('ledger')) AS both_of (rollup);
    RETURN NULL;
END $$;
CREATE FUNCTION ledger_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rollup_stale (rollup, hour)
    VALUES ('ledger', date_trunc('hour', NEW.posted_at, 'UTC'));
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_adds_to_rollup AFTER INSERT ON ledger_transaction
    FOR EACH ROW WHEN (NEW.kind <> 'call') EXECUTE FUNCTION ledger_changed();
INSERT INTO rollup_stale (rollup, hour)
SELECT DISTINCT 'ledger', date_trunc('hour', posted_at, 'UTC') FROM ledger_transaction;

-- ---------------------------------------------------------------- spans

-- Which there are. Days and months are of the operator's clock; a month that goes on ends,
-- so far, with the last week that was added to it.
CREATE TABLE rollup_span (
    rollup text NOT NULL CHECK (rollup IN ('call', 'charge', 'ledger')),
    width text NOT NULL CHECK (width IN ('day', 'month')),
    begins timestamptz NOT NULL,
    ends timestamptz NOT NULL CHECK (ends > begins),
    time_zone text NOT NULL,
    PRIMARY KEY (rollup, width, begins)
);

-- `cut` names what a row is counted by; all else is 0 or ''. Months alone have accounts by
-- destination, of which a day has nearly as many as calls.
CREATE TABLE call_span (
    width text NOT NULL CHECK (width IN ('day', 'month')),
    cut text NOT NULL CHECK (cut IN ('account', 'account route', 'route destination',
                                     'account destination')),
    begins timestamptz NOT NULL,
    account_id bigint NOT NULL,
    resource_group_id bigint NOT NULL,
    rate_id bigint NOT NULL,
    prefix text NOT NULL,
    attempts bigint NOT NULL,
    answered bigint NOT NULL,
    effective bigint NOT NULL,
    refused bigint NOT NULL,
    seconds bigint NOT NULL,
    timed bigint NOT NULL,
    setup_ms bigint NOT NULL,
    longest_seconds integer NOT NULL,
    PRIMARY KEY (width, cut, begins, account_id, resource_group_id, rate_id, prefix)
);

-- The cuts that begin with 'party' have what each account pays (levels 0 …), by whom and with
-- `rate_id` 0 for numbers of our own, else 1, or by destination. 'own row' is what providers are
-- paid by their own rows. The others are what the operator sold (level 0) and bought (-1).
CREATE TABLE charge_span (
    width text NOT NULL CHECK (width IN ('day', 'month')),
    cut text NOT NULL CHECK (cut IN ('account', 'account provider', 'provider destination',
                                     'account destination', 'own row', 'party account',
                                     'party destination')),
    begins timestamptz NOT NULL,
    account_id bigint NOT NULL,
    party_id bigint NOT NULL,
    level smallint NOT NULL,
    provider_id bigint NOT NULL,
    rate_id bigint NOT NULL,
    prefix text NOT NULL,
    own_rate_id bigint NOT NULL,
    currency text NOT NULL,
    calls bigint NOT NULL,
    corrections bigint NOT NULL,
    billed_seconds bigint NOT NULL,
    package_seconds bigint NOT NULL,
    amount_micros bigint NOT NULL,
    home_e10 numeric,       -- the amount in the seller's currency at each hour's rate, times 10^10
    PRIMARY KEY (width, cut, begins, party_id, level, account_id, provider_id, rate_id, prefix,
                 own_rate_id, currency)
);

CREATE TABLE ledger_span (
    width text NOT NULL CHECK (width IN ('day', 'month')),
    begins timestamptz NOT NULL,
    account_id bigint NOT NULL,
    kind text NOT NULL,
    contra_account_id bigint NOT NULL,
    contra_book text NOT NULL,
    currency text NOT NULL,
    postings bigint NOT NULL,
    amount_micros bigint NOT NULL,
    debit_micros bigint NOT NULL,
    PRIMARY KEY (width, begins, account_id, kind, contra_account_id, contra_book, currency)
);

-- What a unit of one currency was worth in another, as entered in either direction.
CREATE FUNCTION exchange_at(source text, target text, instant timestamptz) RETURNS numeric
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN source = target THEN 10000000000::numeric
                ELSE coalesce(
                    (SELECT rate_e10
                       FROM exchange_rate
                      WHERE (from_currency, to_currency) = (source, target)
                        AND effective_from <= instant
                      ORDER BY effective_from DESC
                      LIMIT 1),
                    (SELECT round(1e20 / rate_e10)
                       FROM exchange_rate
                      WHERE (from_currency, to_currency) = (target, source)
                        AND effective_from <= instant
                      ORDER BY effective_from DESC
                      LIMIT 1))
           END
$$;

-- The hours of [first, past) added up to a span that begins at `span_begins`.
CREATE FUNCTION add_up_calls(wide text, span_begins timestamptz, first timestamptz, past timestamptz)
RETURNS SETOF call_span LANGUAGE sql STABLE AS $$
    SELECT wide,
           CASE grouping(account_id, resource_group_id, prefix)
               WHEN 3 THEN 'account'
               WHEN 1 THEN 'account route'
               ELSE 'route destination' END,
           span_begins,
           coalesce(account_id, 0),
           coalesce(resource_group_id, 0),
           coalesce(rate_id, 0),
           coalesce(prefix, ''),
           sum(attempts)::bigint,
           sum(answered)::bigint,
           sum(effective)::bigint,
           sum(refused)::bigint,
           sum(seconds)::bigint,
           sum(timed)::bigint,
           sum(setup_ms)::bigint,
           max(longest_seconds)
      FROM call_hour
     WHERE cut = 'all'
       AND hour >= first
       AND hour < past
     GROUP BY GROUPING SETS ((account_id),
                             (account_id, resource_group_id),
                             (resource_group_id, rate_id, prefix))
     UNION ALL
    SELECT wide,
           'account destination',
           span_begins,
           account_id,
           0,
           rate_id,
           prefix,
           sum(attempts)::bigint,
           sum(answered)::bigint,
           sum(effective)::bigint,
           sum(refused)::bigint,
           sum(seconds)::bigint,
           sum(timed)::bigint,
           sum(setup_ms)::bigint,
           max(longest_seconds)
      FROM call_hour
     WHERE cut = 'all'
       AND hour >= first
       AND hour < past
       AND wide = 'month'
     GROUP BY account_id, rate_id, prefix
$$;

CREATE FUNCTION add_up_charges(wide text, span_begins timestamptz, first timestamptz, past timestamptz)
RETURNS SETOF charge_span LANGUAGE sql STABLE AS $$
    WITH worth AS (
        SELECT hour.hour,
               pair.source,
               pair.target,
               exchange_at(pair.source, pair.target, hour.hour) AS rate_e10
          FROM generate_series(first, past - interval '1 hour', '1 hour') AS hour (hour)
         CROSS JOIN (SELECT DISTINCT
                            party.currency AS source,
                            seller.currency AS target
                       FROM account AS party
                       JOIN account AS seller ON seller.account_id = party.parent_id) AS pair
    ), charged AS NOT MATERIALIZED (
        SELECT charge_hour.*,
               cardinality(party.chain) = 1 AS own,
               charge_hour.amount_micros * worth.rate_e10 AS home_e10
          FROM charge_hour
          JOIN account AS party ON party.account_id = charge_hour.party_id
          LEFT JOIN account AS seller ON seller.account_id = party.parent_id
          LEFT JOIN worth
                 ON worth.hour = charge_hour.hour
                AND worth.source = charge_hour.currency
                AND worth.target = seller.currency
         WHERE charge_hour.cut = 'all'
           AND charge_hour.hour >= first
           AND charge_hour.hour < past
    )
    SELECT wide,
           CASE grouping(account_id, provider_id, prefix)
               WHEN 3 THEN 'account'
               WHEN 1 THEN 'account provider'
               ELSE 'provider destination' END,
           span_begins,
           coalesce(account_id, 0),
           0,
           least(level, 0),
           coalesce(provider_id, 0),
           coalesce(rate_id, 0),
           coalesce(prefix, ''),
           0,
           currency,
           sum(calls)::bigint,
           sum(corrections)::bigint,
           sum(billed_seconds)::bigint,
           sum(package_seconds)::bigint,
           sum(amount_micros)::bigint,
           sum(home_e10)
      FROM charged
     WHERE own
     GROUP BY least(level, 0),
              currency,
              GROUPING SETS ((account_id),
                             (account_id, provider_id),
                             (provider_id, rate_id, prefix))
     UNION ALL
    SELECT wide,
           'account destination',
           span_begins,
           account_id,
           0,
           least(level, 0),
           0,
           rate_id,
           prefix,
           0,
           currency,
           sum(calls)::bigint,
           sum(corrections)::bigint,
           sum(billed_seconds)::bigint,
           sum(package_seconds)::bigint,
           sum(amount_micros)::bigint,
           sum(home_e10)
      FROM charged
     WHERE own
       AND wide = 'month'
     GROUP BY least(level, 0), currency, account_id, rate_id, prefix
     UNION ALL
    SELECT wide,
           'own row',
           span_begins,
           0,
           party_id,
           level,
           party_id,
           0,
           '',
           own_rate_id,
           currency,
           sum(calls)::bigint,
           sum(corrections)::bigint,
           sum(billed_seconds)::bigint,
           sum(package_seconds)::bigint,
           sum(amount_micros)::bigint,
           sum(home_e10)
      FROM charged
     WHERE level = -1
     GROUP BY party_id, level, own_rate_id, currency
     UNION ALL
    SELECT wide,
           'party account',
           span_begins,
           account_id,
           party_id,
           level,
           0,
           least(rate_id, 1),
           '',
           0,
           currency,
           sum(calls)::bigint,
           sum(corrections)::bigint,
           sum(billed_seconds)::bigint,
           sum(package_seconds)::bigint,
           sum(amount_micros)::bigint,
           sum(home_e10)
      FROM charged
     WHERE level >= 0
     GROUP BY party_id, level, account_id, least(rate_id, 1), currency
     UNION ALL
    SELECT wide,
           'party destination',
           span_begins,
           0,
           party_id,
           level,
           0,
           rate_id,
           prefix,
           0,
           currency,
           sum(calls)::bigint,
           sum(corrections)::bigint,
           sum(billed_seconds)::bigint,
           sum(package_seconds)::bigint,
           sum(amount_micros)::bigint,
           sum(home_e10)
      FROM charged
     WHERE level >= 0
       AND wide = 'month'
     GROUP BY party_id, level, rate_id, prefix, currency
$$;

CREATE FUNCTION add_up_ledger(wide text, span_begins timestamptz, first timestamptz, past timestamptz)
RETURNS SETOF ledger_span LANGUAGE sql STABLE AS $$
    SELECT wide,
           span_begins,
           account_id,
           kind,
           contra_account_id,
           contra_book,
           currency,
           sum(postings)::bigint,
           sum(amount_micros)::bigint,
           sum(debit_micros)::bigint
      FROM ledger_hour
     WHERE hour >= first
       AND hour < past
     GROUP BY account_id, kind, contra_account_id, contra_book, currency
$$;

-- A rate of exchange that is entered for the past changes what hours since then were worth.
CREATE FUNCTION exchange_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM rollup_span
     WHERE rollup = 'charge'
       AND ends > least(CASE WHEN TG_OP <> 'INSERT' THEN OLD.effective_from END,
                        CASE WHEN TG_OP <> 'DELETE' THEN NEW.effective_from END);
    RETURN NULL;
END $$;
CREATE TRIGGER exchange_rate_changes_spans AFTER INSERT OR UPDATE OR DELETE ON exchange_rate
    FOR EACH ROW EXECUTE FUNCTION exchange_changed();

-- ---------------------------------------------------------------- what covers a period

-- The spans within [first, past) of which no hour is stale, the longest ones: of these widths and,
-- where days are told apart, of this clock.
CREATE FUNCTION spans_within(of_rollup text, first timestamptz, past timestamptz, widths text[],
                             clock text)
RETURNS TABLE (width text, begins timestamptz, ends timestamptz)
LANGUAGE sql STABLE ROWS 40 AS $$
    WITH usable AS MATERIALIZED (
        SELECT span.width,
               span.begins,
               span.ends
          FROM rollup_span AS span
         WHERE span.rollup = of_rollup
           AND span.width = ANY (widths)
           AND (clock IS NULL OR span.time_zone = clock)
           AND span.begins >= first
           AND span.ends <= past
           AND NOT EXISTS (SELECT
                             FROM rollup_stale
                            WHERE rollup_stale.rollup = of_rollup
                              AND rollup_stale.hour >= span.begins
                              AND rollup_stale.hour < span.ends)
    )
    SELECT *
      FROM usable
     WHERE usable.width = 'month'
        OR NOT EXISTS (SELECT
                         FROM usable AS longer
                        WHERE longer.width = 'month'
                          AND longer.begins <= usable.begins
                          AND longer.ends >= usable.ends)
$$;

-- The rest of [first, past), without stale hours.
CREATE FUNCTION hours_within(of_rollup text, first timestamptz, past timestamptz, widths text[],
                             clock text)
RETURNS TABLE (begins timestamptz, ends timestamptz)
LANGUAGE sql STABLE ROWS 10 AS $$
    SELECT lower(gap),
           upper(gap)
      FROM unnest(tstzmultirange(tstzrange(first, past))
                  - coalesce((SELECT range_agg(tstzrange(span.begins, span.ends))
                                FROM spans_within(of_rollup, first, past, widths, clock) AS span),
                             '{}')
                  - coalesce((SELECT range_agg(tstzrange(hour, hour + interval '1 hour'))
                                FROM rollup_stale
                               WHERE rollup = of_rollup
                                 AND hour >= first
                                 AND hour < past),
                             '{}')) AS gap
$$;

-- ---------------------------------------------------------------- who sees what

CREATE FUNCTION uncounted_ledger(begins timestamptz, ends timestamptz, rolled boolean)
RETURNS SETOF ledger_hour LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE AS $$
    SELECT counted.*
      FROM (SELECT DISTINCT
                   hour AS begins,
                   hour + interval '1 hour' AS ends,
                   interval '1 hour' AS width
              FROM rollup_stale
             WHERE rolled
               AND rollup = 'ledger'
               AND hour >= begins
               AND hour < ends
             UNION ALL
            SELECT begins, ends, interval '15 minutes'
             WHERE NOT rolled) AS part
     CROSS JOIN LATERAL count_ledger(part.begins, part.ends, part.width) AS counted
     WHERE current_setting('role') <> 'sky_aaa_viewer'
        OR counted.account_id IN (SELECT account_id FROM account
                                   WHERE chain @> ARRAY[viewer_id()])
$$;
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION uncounted_ledger(timestamptz, timestamptz, boolean) '
                   'SET search_path = %I, pg_temp', current_schema());
END $$;

-- The ledger of [first, past): spans of these widths and, where it is said, of this clock; hours;
-- and by itself what is neither.
CREATE FUNCTION ledger_between(first timestamptz, past timestamptz, widths text[], clock text)
RETURNS SETOF ledger_hour LANGUAGE sql STABLE AS $$
    WITH cut AS (
        SELECT whole_from,
               greatest(whole_from, date_trunc('hour', past, 'UTC')) AS whole_to
          FROM (SELECT least(past, date_trunc('hour', first + interval '59 minutes 59.999999 seconds', 'UTC')))
               AS cut (whole_from)
    )
    SELECT span.*
      FROM cut
     CROSS JOIN LATERAL spans_within('ledger', whole_from, whole_to, widths, clock) AS part
     CROSS JOIN LATERAL (
           SELECT begins,
                  account_id,
                  kind,
                  contra_account_id,
                  contra_book,
                  currency,
                  postings,
                  amount_micros,
                  debit_micros
             FROM ledger_span
            WHERE width = part.width
              AND begins = part.begins
           OFFSET 0) AS span
     UNION ALL
    SELECT counted.*
      FROM cut
     CROSS JOIN LATERAL hours_within('ledger', whole_from, whole_to, widths, clock) AS part
     CROSS JOIN LATERAL (
           SELECT *
             FROM ledger_hour
            WHERE hour >= part.begins
              AND hour < part.ends
           OFFSET 0) AS counted
     UNION ALL
    SELECT part.*
      FROM cut
     CROSS JOIN LATERAL (
           SELECT * FROM uncounted_ledger(whole_from, whole_to, true)
            UNION ALL
           SELECT * FROM uncounted_ledger(first, whole_from, false) WHERE first < whole_from
            UNION ALL
           SELECT * FROM uncounted_ledger(whole_to, past, false) WHERE whole_to < past) AS part
$$;

ALTER TABLE ledger_hour ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_span ENABLE ROW LEVEL SECURITY;
ALTER TABLE call_span ENABLE ROW LEVEL SECURITY;
ALTER TABLE charge_span ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollup_span ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON ledger_hour TO sky_aaa_viewer;
GRANT SELECT ON ledger_span TO sky_aaa_viewer;
GRANT SELECT (width, cut, begins, account_id, rate_id, prefix, attempts, answered, effective,
              refused, seconds, timed, setup_ms, longest_seconds)
   ON call_span TO sky_aaa_viewer;
GRANT SELECT (width, cut, begins, account_id, party_id, level, rate_id, prefix, currency, calls,
              corrections, billed_seconds, package_seconds, amount_micros, home_e10)
   ON charge_span TO sky_aaa_viewer;
-- Days and months, of everybody: nothing of anybody's calls.
GRANT SELECT ON rollup_span TO sky_aaa_viewer;
CREATE POLICY viewer_sees ON ledger_hour FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON ledger_span FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON call_span FOR SELECT TO sky_aaa_viewer
    USING (cut IN ('account', 'account destination')
           AND account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON charge_span FOR SELECT TO sky_aaa_viewer
    USING (cut IN ('party account', 'party destination')
           AND party_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON rollup_span FOR SELECT TO sky_aaa_viewer
    USING (true);
