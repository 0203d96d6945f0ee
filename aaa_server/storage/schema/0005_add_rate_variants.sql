-- Rows of a price list that are for certain times of the day and week or for holidays
-- alone, and prices that change within a call.

-- ---------------------------------------------------------------- bands

-- The minutes of a week, from Monday 00:00, in which a window is open; on holidays it can
-- be any day of the week. A window over midnight belongs to the day on which it begins.
CREATE FUNCTION rate_band_week(weekdays smallint, holiday boolean, from_minute integer, to_minute integer)
RETURNS int4multirange LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    WITH opened AS (
        SELECT 1440 * day + from_minute AS begins,
               1440 * day + to_minute + CASE WHEN to_minute > from_minute THEN 0 ELSE 1440 END AS ends
          FROM generate_series(0, 6) AS day
         WHERE holiday OR (weekdays >> day) & 1 = 1
    )
    SELECT coalesce(range_agg(part), '{}')
      FROM (SELECT int4range(begins, least(ends, 10080)) AS part
              FROM opened
             UNION ALL
            SELECT int4range(0, ends - 10080)
              FROM opened
             WHERE ends > 10080) AS parts
$$;

-- One window of a band (peak, weekend, …); a band may have several. The clock of the price
-- list's time zone decides. Where several windows are open those of holidays go first,
-- then the lower position; of one position two are never open at once.
CREATE TABLE rate_band (
    rate_band_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tariff_id bigint NOT NULL REFERENCES tariff,
    name text NOT NULL CHECK (name ~ '^[a-z][a-z0-9-]{0,31}$'),
    holiday boolean NOT NULL DEFAULT false,
    -- Bits of the days on which it begins, Monday is 1, Sunday 64; 0 with `holiday`.
    weekdays smallint NOT NULL CHECK (weekdays BETWEEN 0 AND 127),
    from_minute integer NOT NULL CHECK (from_minute BETWEEN 0 AND 1439),
    to_minute integer NOT NULL CHECK (to_minute BETWEEN 1 AND 1440),
    position integer NOT NULL DEFAULT 0,
    week int4multirange NOT NULL
        GENERATED ALWAYS AS (rate_band_week(weekdays, holiday, from_minute, to_minute)) STORED,
    CONSTRAINT rate_band_has_days CHECK (holiday = (weekdays = 0)),
    CONSTRAINT rate_band_has_length CHECK (to_minute <> from_minute),
    CONSTRAINT rate_bands_do_not_overlap EXCLUDE USING gist (
        tariff_id WITH =, (holiday::integer) WITH =, position WITH =, week WITH &&)
);
CREATE TRIGGER rate_band_bumps AFTER INSERT OR UPDATE OR DELETE ON rate_band
    FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue();

CREATE TABLE rate_holiday (
    tariff_id bigint NOT NULL REFERENCES tariff,
    day date NOT NULL CHECK (isfinite(day)),
    name text NOT NULL DEFAULT '',
    PRIMARY KEY (tariff_id, day)
);
CREATE TRIGGER rate_holiday_bumps AFTER INSERT OR UPDATE OR DELETE ON rate_holiday
    FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue();

-- Whose clock termination rates go by.
ALTER TABLE resource_group ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC';
CREATE TRIGGER resource_group_time_zone_bumps AFTER UPDATE OF time_zone ON resource_group
    FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue();

-- ---------------------------------------------------------------- steps

-- Steps are pairs in one array: after so many billed seconds, so many nanos a minute.
CREATE FUNCTION rate_steps_are_in_order(steps bigint[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_ndims(steps) = 1
       AND array_lower(steps, 1) = 1
       AND cardinality(steps) BETWEEN 2 AND 16
       AND cardinality(steps) % 2 = 0
       AND NOT EXISTS (SELECT
                         FROM generate_series(1, cardinality(steps), 2) AS place
                        WHERE steps[place] IS NULL
                           OR steps[place] > 86400
                           OR steps[place] <= coalesce(steps[place - 2], 0)
                           OR steps[place + 1] IS NULL
                           OR steps[place + 1] < 0)
$$;

-- ---------------------------------------------------------------- rates

ALTER TABLE rate
    -- The band that the row is for; '': all times for which the prefix has no other row.
    ADD COLUMN band text NOT NULL DEFAULT '' CHECK (length(band) <= 32),
    -- Null: one price from beginning to end.
    ADD COLUMN steps bigint[]
        CONSTRAINT rate_steps_check CHECK (steps IS NULL OR rate_steps_are_in_order(steps)),
    DROP CONSTRAINT rate_periods_do_not_overlap;
-- Two constraints instead of one with the band in it: nearly all rows are without one, and
-- are written as fast as if there were none.
ALTER TABLE rate
    ADD CONSTRAINT rate_periods_do_not_overlap EXCLUDE USING gist (
        (rpad(translate(prefix, '*#', 'ab'), 32, 'f')::uuid) WITH =,
        tariff_id WITH =, account_id WITH =,
        tstzrange(effective_from, effective_to) WITH &&) WHERE (band = ''),
    ADD CONSTRAINT rate_band_periods_do_not_overlap EXCLUDE USING gist (
        (rpad(translate(prefix, '*#', 'ab'), 32, 'f')::uuid) WITH =,
        tariff_id WITH =, account_id WITH =, band WITH =,
        tstzrange(effective_from, effective_to) WITH &&) WHERE (band <> '');
CREATE INDEX rate_banded ON rate (tariff_id, band) WHERE band <> '';

-- ---------------------------------------------------------------- who sees what

ALTER TABLE rate_band ENABLE ROW LEVEL SECURITY;
ALTER TABLE rate_holiday ENABLE ROW LEVEL SECURITY;

GRANT INSERT (band, steps) ON rate TO sky_aaa_viewer;
GRANT SELECT, DELETE ON rate_band TO sky_aaa_viewer;
GRANT INSERT (tariff_id, name, holiday, weekdays, from_minute, to_minute, position)
   ON rate_band TO sky_aaa_viewer;
GRANT SELECT, INSERT, DELETE ON rate_holiday TO sky_aaa_viewer;

-- As with the rows: seen are the lists of its tree and the one it buys at, changed its own.
CREATE POLICY viewer_sees ON rate_band FOR SELECT TO sky_aaa_viewer
    USING (tariff_id IN (SELECT tariff_id FROM rate_group));
CREATE POLICY viewer_adds ON rate_band FOR INSERT TO sky_aaa_viewer
    WITH CHECK (tariff_id IN (SELECT tariff_id FROM rate_group WHERE owner_id = viewer_id()));
CREATE POLICY viewer_removes ON rate_band FOR DELETE TO sky_aaa_viewer
    USING (tariff_id IN (SELECT tariff_id FROM rate_group WHERE owner_id = viewer_id()));
CREATE POLICY viewer_sees ON rate_holiday FOR SELECT TO sky_aaa_viewer
    USING (tariff_id IN (SELECT tariff_id FROM rate_group));
CREATE POLICY viewer_adds ON rate_holiday FOR INSERT TO sky_aaa_viewer
    WITH CHECK (tariff_id IN (SELECT tariff_id FROM rate_group WHERE owner_id = viewer_id()));
CREATE POLICY viewer_removes ON rate_holiday FOR DELETE TO sky_aaa_viewer
    USING (tariff_id IN (SELECT tariff_id FROM rate_group WHERE owner_id = viewer_id()));
