-- Call records by months (of authorized_at, in UTC): old months can be taken out of the way
-- as they are, without a row being changed.
--
-- A record is found by its key and a time that it cannot be older than, so that a look costs
-- the same after ten years. Rows of a month that has no table yet (a switch's clock that is
-- years ahead) go to cdr_default, and move when their month is made.

ALTER TABLE cdr RENAME TO cdr_whole;
CREATE TABLE cdr (LIKE cdr_whole INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
    PARTITION BY RANGE (authorized_at);

CREATE FUNCTION cdr_month_begins(at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT date_trunc('month', at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
$$;

CREATE FUNCTION cdr_month_ends(at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT (date_trunc('month', at AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'
$$;

CREATE FUNCTION cdr_keep_rows(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER cdr_stays BEFORE DELETE OR TRUNCATE ON %I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
    -- No policy: nobody but the owner reads a month by its own name.
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
END $$;

CREATE TABLE cdr_default PARTITION OF cdr DEFAULT;
SELECT cdr_keep_rows('cdr_default');

-- Makes the table of the month that `at` lies in; whether there was none.
CREATE FUNCTION cdr_add_month(at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    begins timestamptz := cdr_month_begins(at);
    ends timestamptz := cdr_month_ends(at);
    name text := 'cdr_' || to_char(at AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    IF to_regclass(name) IS NOT NULL
       OR to_regclass(replace(name, 'cdr_', 'cdr_detached_')) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE cdr INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    LOCK TABLE cdr_default IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM cdr_default WHERE authorized_at >= begins AND authorized_at < ends) THEN
        ALTER TABLE cdr_default DISABLE TRIGGER cdr_stays;
        EXECUTE format('WITH moved AS (DELETE FROM cdr_default '
                       'WHERE authorized_at >= %L AND authorized_at < %L RETURNING *) '
                       'INSERT INTO %I SELECT * FROM moved', begins, ends, name);
        ALTER TABLE cdr_default ENABLE TRIGGER cdr_stays;
    END IF;
    EXECUTE format('ALTER TABLE cdr ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   name, begins, ends);
    PERFORM cdr_keep_rows(name);
    RETURN true;
END $$;

-- The months that there are tables of, by name.
CREATE FUNCTION cdr_months() RETURNS TABLE (name text, begins timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT relname::text,
           to_timestamp(substr(relname, 5) || ' +00', 'YYYY_MM TZH')
      FROM pg_inherits
      JOIN pg_class ON pg_class.oid = inhrelid
     WHERE inhparent = 'cdr'::regclass
       AND relname ~ '^cdr_[0-9]{4}_[0-9]{2}$'
$$;

-- All records there ever were, those of detached months too: what proves the books reads it.
CREATE FUNCTION cdr_join_detached() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    source regclass;
    query text := '';
BEGIN
    FOR source IN
        SELECT 'cdr'::regclass
         UNION ALL
        SELECT pg_class.oid::regclass
          FROM pg_class
         WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'cdr'::regclass)
           AND relkind = 'r'
           AND relname ~ '^cdr_detached_[0-9]{4}_[0-9]{2}$'
    LOOP
        -- A column that is younger than a detached month is null there.
        query := query || CASE query WHEN '' THEN '' ELSE ' UNION ALL ' END || (
            SELECT 'SELECT ' || string_agg(
                       CASE WHEN own.attname IS NULL
                            THEN format('NULL::%s AS %I', format_type(wanted.atttypid, NULL),
                                        wanted.attname)
                            ELSE quote_ident(wanted.attname)
                       END, ', ' ORDER BY wanted.attnum) || ' FROM ' || source
              FROM pg_attribute AS wanted
              LEFT JOIN pg_attribute AS own
                     ON own.attrelid = source
                    AND own.attname = wanted.attname
                    AND NOT own.attisdropped
             WHERE wanted.attrelid = 'cdr'::regclass
               AND wanted.attnum > 0
               AND NOT wanted.attisdropped);
    END LOOP;
    EXECUTE 'CREATE OR REPLACE VIEW cdr_ever AS ' || query;
END $$;

-- Takes a month out of cdr: its table stays, as cdr_detached_YYYY_MM.
CREATE FUNCTION cdr_detach_month(at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    name text := 'cdr_' || to_char(at AT TIME ZONE 'UTC', 'YYYY_MM');
    detached text := replace(name, 'cdr_', 'cdr_detached_');
BEGIN
    EXECUTE format('ALTER TABLE cdr DETACH PARTITION %I', name);
    EXECUTE format('ALTER TABLE %I RENAME TO %I', name, detached);
    PERFORM cdr_join_detached();
    RETURN detached;
END $$;

-- ---------------------------------------------------------------- the rows that there are

SELECT cdr_add_month(month)
  FROM (SELECT DISTINCT cdr_month_begins(authorized_at) AS month
          FROM cdr_whole
         UNION
        SELECT cdr_month_begins(now())
         UNION
        SELECT cdr_month_ends(now())
         UNION
        SELECT cdr_month_ends(cdr_month_ends(now()))) AS wanted
 ORDER BY month;
INSERT INTO cdr SELECT * FROM cdr_whole;

-- What looks into the table is made anew with it.
DROP POLICY viewer_sees ON dispute;
DROP TABLE cdr_whole;
CREATE POLICY viewer_sees ON dispute FOR SELECT TO sky_aaa_viewer
    USING (call_id IN (SELECT call_id FROM cdr));

ALTER TABLE cdr ADD PRIMARY KEY (call_id, authorized_at);
ALTER TABLE cdr ADD UNIQUE (client_id, session_key, authorized_at);
CREATE INDEX cdr_ended_at ON cdr USING brin (ended_at) WITH (pages_per_range = 32);
CREATE TRIGGER cdr_stays BEFORE DELETE OR TRUNCATE ON cdr
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
SELECT cdr_join_detached();

ALTER TABLE cdr ENABLE ROW LEVEL SECURITY;
GRANT SELECT (call_id, session_key, account_id, resource_group_in_id, granted_seconds,
              authorized_at, started_at, found_by, ani, called, sip_call_id, refusal, ended_at,
              ended_by, duration_ms, seconds, cause, postings)
   ON cdr TO sky_aaa_viewer;
CREATE POLICY viewer_sees ON cdr FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
