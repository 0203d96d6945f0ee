-- Who sees what, once more, in the database itself.
--
-- A command that runs with an account's eyes (`sky-aaa --as CODE`) runs as the role
-- sky_aaa_viewer with the account's number in sky_aaa.viewer_id. This role reaches the
-- account's own tree and nothing else, whatever a query forgot to say: no provider, no
-- termination rate, no route, nothing of other trees, no upstream price but its own.
-- The server and the operator's commands run as the owner, whom no policy concerns.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sky_aaa_viewer') THEN
        CREATE ROLE sky_aaa_viewer NOLOGIN;
    END IF;
EXCEPTION
    -- Roles belong to the whole cluster: another database's migration was quicker.
    WHEN duplicate_object OR unique_violation THEN
        NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the database user % may not create the role sky_aaa_viewer', current_user
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('As a superuser, once: CREATE ROLE sky_aaa_viewer NOLOGIN; '
                                'GRANT sky_aaa_viewer TO %I;', current_user);
END $$;

DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
       AND NOT EXISTS (SELECT
                         FROM pg_auth_members
                        WHERE roleid = 'sky_aaa_viewer'::regrole
                          AND member = current_user::regrole
                          AND coalesce((to_jsonb(pg_auth_members) ->> 'set_option')::boolean, true))
    THEN
        EXECUTE format('GRANT sky_aaa_viewer TO %I', current_user);
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the database user % may not act as the role sky_aaa_viewer', current_user
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('As a superuser, once: GRANT sky_aaa_viewer TO %I;', current_user);
END $$;

CREATE FUNCTION viewer_id() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT nullif(current_setting('sky_aaa.viewer_id', true), '')::bigint
$$;

-- These run for a viewer too, and touch what a viewer must not.
ALTER FUNCTION bump_catalogue() SECURITY DEFINER;
ALTER FUNCTION account_set_chain() SECURITY DEFINER;

-- Names the viewer's mistake before account_set_chain, which sees all, could tell about
-- an account of another tree. Triggers of one kind fire in the order of their names.
CREATE FUNCTION account_keep_viewer_below() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'sky_aaa_viewer' THEN
        RETURN NEW;
    END IF;
    IF NOT EXISTS (SELECT FROM account WHERE account_id = NEW.parent_id) THEN
        RAISE EXCEPTION 'account %: its parent is not below the viewer', NEW.code
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NEW.rate_group_id IS NOT NULL
       AND (TG_OP = 'INSERT' OR NEW.rate_group_id IS DISTINCT FROM OLD.rate_group_id)
       AND NOT EXISTS (SELECT
                         FROM rate_group
                        WHERE rate_group_id = NEW.rate_group_id
                          AND owner_id = NEW.parent_id) THEN
        RAISE EXCEPTION 'account %: its rate group does not belong to its parent', NEW.code
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER account_below_viewer BEFORE INSERT OR UPDATE OF rate_group_id ON account
    FOR EACH ROW EXECUTE FUNCTION account_keep_viewer_below();

-- A price list has one owner: without this a viewer could make a rate group of its own
-- over a provider's termination rates, and read them.
CREATE FUNCTION tariff_is_free(wanted_id bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT NOT EXISTS (SELECT FROM resource_group WHERE tariff_id = wanted_id)
       AND NOT EXISTS (SELECT FROM rate_group WHERE tariff_id = wanted_id)
       AND NOT EXISTS (SELECT FROM rate WHERE tariff_id = wanted_id)
$$;

-- What a viewer may know of an ended call beyond its plain columns: the frozen prices of
-- the levels from the caller up to the viewer, and the flags that are not about routes.
CREATE FUNCTION viewer_cdr(of_call_id bigint, OUT levels jsonb, OUT flags text[])
LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT (SELECT jsonb_agg(one.level ORDER BY one.position)
              FROM jsonb_array_elements(cdr.levels::jsonb) WITH ORDINALITY AS one (level, position)
             WHERE (one.level ->> 0)::bigint
                   = ANY (account.chain[1:array_position(account.chain, viewer_id())])),
           (SELECT array_agg(flag) FROM unnest(cdr.flags) AS flag WHERE flag NOT LIKE '%route%')
      FROM cdr
      JOIN account USING (account_id)
     WHERE cdr.call_id = of_call_id
       AND account.chain @> ARRAY[viewer_id()]
$$;

-- A temporary table is found before a real one of the same name, unless the path says
-- otherwise: a viewer's own "account" must not decide in these.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['bump_catalogue()', 'account_set_chain()',
                                'account_keep_viewer_below()', 'tariff_is_free(bigint)',
                                'viewer_cdr(bigint)']
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END $$;

ALTER TABLE account ENABLE ROW LEVEL SECURITY;
ALTER TABLE tariff ENABLE ROW LEVEL SECURITY;
ALTER TABLE rate_group ENABLE ROW LEVEL SECURITY;
ALTER TABLE rate ENABLE ROW LEVEL SECURITY;
ALTER TABLE rate_group_route ENABLE ROW LEVEL SECURITY;
ALTER TABLE resource_group ENABLE ROW LEVEL SECURITY;
ALTER TABLE resource_group_endpoint ENABLE ROW LEVEL SECURITY;
ALTER TABLE extension_map ENABLE ROW LEVEL SECURITY;
ALTER TABLE ani_map ENABLE ROW LEVEL SECURITY;
ALTER TABLE client ENABLE ROW LEVEL SECURITY;
ALTER TABLE call ENABLE ROW LEVEL SECURITY;
ALTER TABLE cdr ENABLE ROW LEVEL SECURITY;
ALTER TABLE charge ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_transaction ENABLE ROW LEVEL SECURITY;
ALTER TABLE posting ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;

-- ---------------------------------------------------------------- accounts

GRANT SELECT (account_id, code, kind, parent_id, chain, name, email, prepaid, currency,
              credit_limit_micros, rate_group_id, max_channels, calls_per_second,
              maximum_call_seconds, status, expires_at, language, time_zone, created_at,
              revision, balance_micros, reserved_micros, channels)
   ON account TO sky_aaa_viewer;
GRANT INSERT (code, kind, parent_id, name, email, prepaid, currency, credit_limit_micros,
              rate_group_id, max_channels, calls_per_second, maximum_call_seconds, status,
              expires_at, language, time_zone)
   ON account TO sky_aaa_viewer;
-- Not the balance: money is posted by the owner once the viewer's lock on the row was granted.
GRANT UPDATE (name, email, prepaid, credit_limit_micros, rate_group_id, max_channels,
              calls_per_second, maximum_call_seconds, status, expires_at, language, time_zone,
              password_sealed, pin_sealed)
   ON account TO sky_aaa_viewer;

CREATE POLICY viewer_sees ON account FOR SELECT TO sky_aaa_viewer
    USING (chain @> ARRAY[viewer_id()]);
CREATE POLICY viewer_adds ON account FOR INSERT TO sky_aaa_viewer
    WITH CHECK (chain @> ARRAY[viewer_id()] AND account_id <> viewer_id());
CREATE POLICY viewer_changes ON account FOR UPDATE TO sky_aaa_viewer
    USING (chain @> ARRAY[viewer_id()] AND account_id <> viewer_id());

-- ---------------------------------------------------------------- price lists

-- Strategy, minimum margin and routes are how the operator buys.
GRANT SELECT (rate_group_id, owner_id, name, tariff_id, markup_ppm, initial_seconds,
              increment_seconds, time_zone)
   ON rate_group TO sky_aaa_viewer;
GRANT INSERT (owner_id, name, tariff_id, markup_ppm, initial_seconds, increment_seconds, time_zone)
   ON rate_group TO sky_aaa_viewer;
GRANT UPDATE (markup_ppm, initial_seconds, increment_seconds, time_zone)
   ON rate_group TO sky_aaa_viewer;
GRANT SELECT ON tariff TO sky_aaa_viewer;
GRANT INSERT (currency), UPDATE (revision) ON tariff TO sky_aaa_viewer;
GRANT USAGE ON SEQUENCE tariff_tariff_id_seq TO sky_aaa_viewer;
GRANT SELECT ON rate TO sky_aaa_viewer;
GRANT INSERT (tariff_id, account_id, prefix, destination, per_minute_nanos, connect_fee_micros,
              included_seconds, initial_seconds, increment_seconds, minimum_charge_micros,
              blocked, strip, prepend, priority, effective_from, effective_to, revision)
   ON rate TO sky_aaa_viewer;
GRANT UPDATE (effective_to, revision) ON rate TO sky_aaa_viewer;
GRANT SELECT ON exchange_rate TO sky_aaa_viewer;

-- Its tree's lists, and the one that its parent gave it: those prices are its own.
CREATE POLICY viewer_sees ON rate_group FOR SELECT TO sky_aaa_viewer
    USING (owner_id IN (SELECT account_id FROM account)
           OR rate_group_id = (SELECT rate_group_id FROM account WHERE account_id = viewer_id()));
CREATE POLICY viewer_adds ON rate_group FOR INSERT TO sky_aaa_viewer
    WITH CHECK (owner_id = viewer_id()
                AND (SELECT kind FROM account WHERE account_id = viewer_id()) = 'reseller'
                AND tariff_is_free(tariff_id));
CREATE POLICY viewer_changes ON rate_group FOR UPDATE TO sky_aaa_viewer
    USING (owner_id = viewer_id());

CREATE POLICY viewer_sees ON tariff FOR SELECT TO sky_aaa_viewer
    USING (tariff_id IN (SELECT tariff_id FROM rate_group));
CREATE POLICY viewer_adds ON tariff FOR INSERT TO sky_aaa_viewer
    WITH CHECK (true);
CREATE POLICY viewer_changes ON tariff FOR UPDATE TO sky_aaa_viewer
    USING (tariff_id IN (SELECT tariff_id FROM rate_group WHERE owner_id = viewer_id()));

CREATE POLICY viewer_sees ON rate FOR SELECT TO sky_aaa_viewer
    USING (tariff_id IN (SELECT tariff_id FROM rate_group)
           AND (account_id = 0 OR account_id IN (SELECT account_id FROM account)));
CREATE POLICY viewer_adds ON rate FOR INSERT TO sky_aaa_viewer
    WITH CHECK (tariff_id IN (SELECT tariff_id FROM rate_group WHERE owner_id = viewer_id())
                AND (account_id = 0 OR account_id IN (SELECT account_id FROM account)));
CREATE POLICY viewer_changes ON rate FOR UPDATE TO sky_aaa_viewer
    USING (tariff_id IN (SELECT tariff_id FROM rate_group WHERE owner_id = viewer_id()));

-- ---------------------------------------------------------------- whose call is it

GRANT SELECT (resource_group_id, name, direction, account_id, max_calls, calls_per_second,
              precedence, strip, prepend, status, channels)
   ON resource_group TO sky_aaa_viewer;
GRANT SELECT ON resource_group_endpoint TO sky_aaa_viewer;
GRANT SELECT, INSERT, DELETE ON extension_map TO sky_aaa_viewer;
GRANT SELECT, INSERT, DELETE ON ani_map TO sky_aaa_viewer;
GRANT UPDATE (account_id) ON extension_map TO sky_aaa_viewer;
GRANT UPDATE (account_id) ON ani_map TO sky_aaa_viewer;

CREATE POLICY viewer_sees ON resource_group FOR SELECT TO sky_aaa_viewer
    USING (direction = 'in' AND account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON resource_group_endpoint FOR SELECT TO sky_aaa_viewer
    USING (resource_group_id IN (SELECT resource_group_id FROM resource_group));

CREATE POLICY viewer_sees ON extension_map FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_writes ON extension_map TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account)
           AND (SELECT kind FROM account WHERE account_id = viewer_id()) = 'reseller');
CREATE POLICY viewer_sees ON ani_map FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_writes ON ani_map TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account)
           AND (SELECT kind FROM account WHERE account_id = viewer_id()) = 'reseller');

-- ---------------------------------------------------------------- calls and money

-- Without routes, their costs, the switch, and what upstream levels pay or reserve.
GRANT SELECT (session_key, call_id, status, account_id, resource_group_in_id, granted_seconds,
              last_seconds, expires_at, authorized_at, started_at, found_by, ani, called,
              sip_call_id, refusal)
   ON call TO sky_aaa_viewer;
GRANT SELECT (call_id, session_key, account_id, resource_group_in_id, granted_seconds,
              authorized_at, started_at, found_by, ani, called, sip_call_id, refusal, ended_at,
              ended_by, duration_ms, seconds, cause, postings)
   ON cdr TO sky_aaa_viewer;
GRANT SELECT ON charge TO sky_aaa_viewer;
GRANT SELECT ON posting TO sky_aaa_viewer;
GRANT SELECT ON ledger_transaction TO sky_aaa_viewer;
GRANT INSERT (actor, acting_as_id, action, subject, before, after) ON audit_log TO sky_aaa_viewer;

CREATE POLICY viewer_sees ON call FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON cdr FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON charge FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON posting FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON ledger_transaction FOR SELECT TO sky_aaa_viewer
    USING (EXISTS (SELECT
                     FROM posting
                    WHERE posting.transaction_id = ledger_transaction.transaction_id));
CREATE POLICY viewer_notes ON audit_log FOR INSERT TO sky_aaa_viewer
    WITH CHECK (acting_as_id = viewer_id());
