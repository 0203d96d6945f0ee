-- What is sold besides plain calls: packages, numbers (DIDs), calling cards; limits that
-- guard against fraud; rules that rewrite numbers; emergency numbers; and events, which
-- tell people what happened. Charges become a history: a correction adds rows.

-- ---------------------------------------------------------------- ledger

ALTER TABLE ledger_transaction DROP CONSTRAINT ledger_transaction_kind_check;
ALTER TABLE ledger_transaction ADD CONSTRAINT ledger_transaction_kind_check
    CHECK (kind IN ('call', 'payment', 'refund', 'adjustment', 'transfer', 'coupon', 'card', 'fee'));
ALTER TABLE posting DROP CONSTRAINT posting_contra_book_check;
ALTER TABLE posting ADD CONSTRAINT posting_contra_book_check
    CHECK (contra_book IN ('sales', 'purchases', 'cash', 'adjustments', 'rounding', 'exchange',
                           'transfers', 'coupons', 'cards', 'fees'));

-- ---------------------------------------------------------------- charges

-- Never changed once written: what a party pays is the sum of its rows. A late Stop adds
-- the difference (number 2 …); a new rating adds the old charge turned round, then the new one.
-- `number` counts how often the call was charged. (A correction may pay another provider.)
ALTER TABLE charge DROP CONSTRAINT charge_pkey;
ALTER TABLE charge ADD COLUMN number smallint NOT NULL DEFAULT 1 CHECK (number > 0);
ALTER TABLE charge ADD PRIMARY KEY (call_id, level, number, account_id);
ALTER TABLE charge DROP CONSTRAINT charge_amount_micros_check;
ALTER TABLE charge DROP CONSTRAINT charge_billed_seconds_check;
ALTER TABLE charge
    ADD CHECK (number > 1 OR (amount_micros >= 0 AND billed_seconds >= 0)),
    -- Units of the account's currency that one of the price list's was worth.
    -- Wider than the rates that are entered: those may be turned round.
    ADD COLUMN exchange_e10 numeric(30) NOT NULL DEFAULT 10000000000,
    ADD COLUMN package_seconds integer NOT NULL DEFAULT 0,
    -- When it was posted, which decides the invoice it stands on; not when the call was.
    ADD COLUMN at timestamptz NOT NULL DEFAULT now();

-- ---------------------------------------------------------------- events

-- What somebody should know; the worker mails them.
CREATE TABLE event (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    account_id bigint,
    kind text NOT NULL CHECK (kind ~ '^[a-z][a-z-]{1,40}$'),
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX event_account ON event (account_id, at);

-- ---------------------------------------------------------------- accounts

CREATE DOMAIN account_pin_failures AS smallint
    CHECK (VALUE >= 0);
CREATE DOMAIN account_valid_days AS integer
    CHECK (VALUE > 0);
CREATE DOMAIN account_surcharge_micros AS bigint
    CHECK (VALUE >= 0);
CREATE TABLE card_batch (
    card_batch_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Who sells the cards: the parent of their accounts.
    owner_id bigint NOT NULL REFERENCES account,
    name text NOT NULL CHECK (name <> ''),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    face_value_micros bigint NOT NULL CHECK (face_value_micros >= 0),
    rate_group_id bigint REFERENCES rate_group,
    valid_days integer CHECK (valid_days > 0),
    surcharge_micros bigint NOT NULL DEFAULT 0 CHECK (surcharge_micros >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (owner_id, name)
);
ALTER TABLE account
    -- It has packages or limits: its calls are decided on rows that are read, never on memory.
    ADD COLUMN metered boolean NOT NULL DEFAULT false,
    ADD COLUMN card_batch_id bigint REFERENCES card_batch,
    ADD COLUMN pin_failures account_pin_failures NOT NULL DEFAULT 0,
    ADD COLUMN locked_until timestamptz,
    ADD COLUMN first_used_at timestamptz,
    -- Expires so many days after its first call; null: when expires_at says.
    ADD COLUMN valid_days account_valid_days,
    -- Added to the connect fee of each call that comes over an access number.
    ADD COLUMN surcharge_micros account_surcharge_micros NOT NULL DEFAULT 0,
    -- Below this an event is raised, once until the balance is above it again; null: never.
    ADD COLUMN low_balance_micros bigint,
    ADD COLUMN low_balance_raised boolean NOT NULL DEFAULT false;
CREATE INDEX account_card_batch ON account (card_batch_id) WHERE card_batch_id IS NOT NULL;
CREATE TRIGGER account_service_is_revised
    BEFORE UPDATE OF metered, pin_failures, locked_until, first_used_at, valid_days,
        surcharge_micros
    ON account FOR EACH ROW EXECUTE FUNCTION account_revise();

-- ---------------------------------------------------------------- packages

CREATE TABLE package (
    package_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id bigint NOT NULL REFERENCES account,     -- the seller: the buyers' parent
    name text NOT NULL CHECK (name <> ''),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    price_micros bigint NOT NULL DEFAULT 0 CHECK (price_micros >= 0),
    seconds integer NOT NULL CHECK (seconds > 0),
    prefixes text[] COLLATE "C" NOT NULL DEFAULT '{}', -- '{}': every number
    period text NOT NULL DEFAULT 'month' CHECK (period IN ('once', 'day', 'week', 'month', 'year')),
    valid_days integer CHECK (valid_days > 0),       -- of period once
    priority integer NOT NULL DEFAULT 0,             -- the lower is used up first
    active boolean NOT NULL DEFAULT true,
    UNIQUE (owner_id, name)
);

-- The seconds that an account has for one period. Frozen from the package when they were given.
CREATE TABLE package_holding (
    holding_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES account,
    package_id bigint NOT NULL REFERENCES package,
    prefixes text[] COLLATE "C" NOT NULL DEFAULT '{}',
    priority integer NOT NULL DEFAULT 0,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz CHECK (valid_to > valid_from),
    granted_seconds integer NOT NULL CHECK (granted_seconds > 0),
    used_seconds integer NOT NULL DEFAULT 0 CHECK (used_seconds >= 0),
    reserved_seconds integer NOT NULL DEFAULT 0 CHECK (reserved_seconds >= 0),
    CHECK (used_seconds + reserved_seconds <= granted_seconds),
    CONSTRAINT package_holdings_do_not_overlap EXCLUDE USING gist (
        account_id WITH =, package_id WITH =, tstzrange(valid_from, valid_to) WITH &&)
) WITH (fillfactor = 60);
CREATE INDEX package_holding_account ON package_holding (account_id, valid_to);

-- ---------------------------------------------------------------- limits against fraud

CREATE TABLE velocity_limit (
    limit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES account,
    name text NOT NULL CHECK (name <> ''),
    prefixes text[] COLLATE "C" NOT NULL DEFAULT '{}', -- '{}': every number
    -- Periods begin as the clock does in the account's time zone.
    period text NOT NULL CHECK (period IN ('hour', 'day', 'week', 'month')),
    measure text NOT NULL CHECK (measure IN ('calls', 'seconds', 'money')),
    maximum bigint NOT NULL CHECK (maximum > 0),     -- calls, seconds, micros of its currency
    action text NOT NULL DEFAULT 'block' CHECK (action IN ('block', 'alert')),
    active boolean NOT NULL DEFAULT true,
    UNIQUE (account_id, name)
);
-- What has been used of a limit in the period that began at `period_from`, calls in
-- progress with what they may come to.
CREATE TABLE velocity_use (
    limit_id bigint NOT NULL REFERENCES velocity_limit ON DELETE CASCADE,
    period_from timestamptz NOT NULL,
    amount bigint NOT NULL DEFAULT 0 CHECK (amount >= 0),
    alerted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (limit_id, period_from)
) WITH (fillfactor = 60);

CREATE FUNCTION account_is_metered() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE account SET metered = true WHERE account_id = NEW.account_id AND NOT metered;
    RETURN NULL;
END $$;
CREATE TRIGGER package_holding_meters AFTER INSERT ON package_holding
    FOR EACH ROW EXECUTE FUNCTION account_is_metered();
CREATE TRIGGER velocity_limit_meters AFTER INSERT ON velocity_limit
    FOR EACH ROW EXECUTE FUNCTION account_is_metered();

-- ---------------------------------------------------------------- DIDs

-- A number that is called from outside, and what its provider takes for it, in the
-- provider's currency. An access number is one that calling cards are used over.
CREATE TABLE did (
    did_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number text NOT NULL UNIQUE CHECK (number ~ '^[0-9]{3,32}$'),
    provider_id bigint NOT NULL REFERENCES account,
    access boolean NOT NULL DEFAULT false,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'retired')),
    setup_micros bigint NOT NULL DEFAULT 0 CHECK (setup_micros >= 0),
    monthly_micros bigint NOT NULL DEFAULT 0 CHECK (monthly_micros >= 0),
    per_minute_nanos bigint NOT NULL DEFAULT 0 CHECK (per_minute_nanos >= 0),
    connect_fee_micros bigint NOT NULL DEFAULT 0 CHECK (connect_fee_micros >= 0),
    included_seconds integer NOT NULL DEFAULT 0 CHECK (included_seconds >= 0),
    initial_seconds integer NOT NULL DEFAULT 60 CHECK (initial_seconds >= 0),
    increment_seconds integer NOT NULL DEFAULT 60 CHECK (increment_seconds > 0),
    -- The catalogue's revision that last changed the number, its prices or its assignments:
    -- servers read again what is above the one that they hold.
    revision bigint NOT NULL DEFAULT 0
);
CREATE INDEX did_revision ON did (revision);
-- Before, so that whoever changes numbers holds the catalogue's row from then on: revisions
-- are given out in the order in which they are committed.
CREATE TRIGGER did_bumps BEFORE INSERT OR UPDATE OR DELETE ON did
    FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue();
CREATE FUNCTION did_revise() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    NEW.revision := (SELECT revision FROM catalogue);
    RETURN NEW;
END $$;
CREATE TRIGGER did_is_revised BEFORE INSERT OR UPDATE ON did
    FOR EACH ROW EXECUTE FUNCTION did_revise();
CREATE FUNCTION did_touch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE did SET revision = 0 WHERE did_id IN (SELECT did_id FROM changed);
    RETURN NULL;
END $$;

-- What one buyer (the number's owner, or a reseller above it) pays its seller for it, in
-- the buyer's currency.
CREATE TABLE did_price (
    did_id bigint NOT NULL REFERENCES did,
    account_id bigint NOT NULL REFERENCES account,
    setup_micros bigint NOT NULL DEFAULT 0 CHECK (setup_micros >= 0),
    monthly_micros bigint NOT NULL DEFAULT 0 CHECK (monthly_micros >= 0),
    per_minute_nanos bigint NOT NULL DEFAULT 0 CHECK (per_minute_nanos >= 0),
    connect_fee_micros bigint NOT NULL DEFAULT 0 CHECK (connect_fee_micros >= 0),
    included_seconds integer NOT NULL DEFAULT 0 CHECK (included_seconds >= 0),
    initial_seconds integer NOT NULL DEFAULT 60 CHECK (initial_seconds >= 0),
    increment_seconds integer NOT NULL DEFAULT 60 CHECK (increment_seconds > 0),
    PRIMARY KEY (did_id, account_id)
);
CREATE INDEX did_price_account ON did_price (account_id);
CREATE TRIGGER did_price_added AFTER INSERT ON did_price REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION did_touch();
CREATE TRIGGER did_price_changed AFTER UPDATE ON did_price REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION did_touch();
CREATE TRIGGER did_price_removed AFTER DELETE ON did_price REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION did_touch();

-- Whose the number is in [valid_from, valid_to), and where it rings: an extension
-- ("1001@sip.example"), a SIP URI, or a number that is called at the owner's expense.
CREATE TABLE did_assignment (
    assignment_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    did_id bigint NOT NULL REFERENCES did,
    account_id bigint NOT NULL REFERENCES account,
    valid_from timestamptz NOT NULL DEFAULT now(),
    valid_to timestamptz CHECK (valid_to >= valid_from),
    destination_kind text NOT NULL CHECK (destination_kind IN ('extension', 'sip', 'pstn')),
    destination text NOT NULL CHECK (destination <> ''),
    CONSTRAINT did_assignments_do_not_overlap EXCLUDE USING gist (
        did_id WITH =, tstzrange(valid_from, valid_to) WITH &&)
);
CREATE INDEX did_assignment_account ON did_assignment (account_id);
CREATE TRIGGER did_assignment_added AFTER INSERT ON did_assignment
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION did_touch();
CREATE TRIGGER did_assignment_changed AFTER UPDATE ON did_assignment
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION did_touch();
CREATE TRIGGER did_assignment_removed AFTER DELETE ON did_assignment
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION did_touch();

-- Calls to numbers of our own inventory cost this a minute instead of the row of the
-- price list; null: they cost what the price list says.
ALTER TABLE rate_group ADD COLUMN on_net_per_minute_nanos bigint
    CHECK (on_net_per_minute_nanos >= 0);

-- ---------------------------------------------------------------- numbers

-- The first rule of a scope that fits, in order of `position`, rewrites or blocks the
-- number. Scopes in order: everybody's (no owner), the client's, the inbound resource
-- group's, the account's; then, on the way to a provider, the outbound resource group's.
CREATE TABLE number_rule (
    number_rule_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id integer REFERENCES client ON DELETE CASCADE,
    account_id bigint REFERENCES account,
    resource_group_id bigint REFERENCES resource_group,
    field text NOT NULL DEFAULT 'called' CHECK (field IN ('called', 'caller')),
    position integer NOT NULL DEFAULT 0,
    prefix text COLLATE "C" NOT NULL DEFAULT '' CHECK (prefix ~ '^[0-9*#]{0,32}$'),
    min_digits integer NOT NULL DEFAULT 1 CHECK (min_digits BETWEEN 1 AND 32),
    max_digits integer NOT NULL DEFAULT 32 CHECK (max_digits BETWEEN min_digits AND 32),
    action text NOT NULL DEFAULT 'translate' CHECK (action IN ('translate', 'block')),
    strip integer NOT NULL DEFAULT 0 CHECK (strip BETWEEN 0 AND 32),
    prepend text NOT NULL DEFAULT '' CHECK (prepend ~ '^[0-9*#]{0,32}$'),
    note text NOT NULL DEFAULT '',
    CHECK (num_nonnulls(client_id, account_id, resource_group_id) <= 1),
    CONSTRAINT number_rules_have_places UNIQUE NULLS NOT DISTINCT
        (client_id, account_id, resource_group_id, field, position)
);
CREATE TRIGGER number_rule_bumps AFTER INSERT OR UPDATE OR DELETE ON number_rule
    FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue();

-- Always pass, at price 0, whoever calls and whatever is blocked, and are on record.
CREATE TABLE emergency_number (
    number text PRIMARY KEY CHECK (number ~ '^[0-9]{2,8}$'),
    note text NOT NULL DEFAULT '',
    resource_group_id bigint REFERENCES resource_group -- the way out; null: the switch knows it
);
CREATE TRIGGER emergency_number_bumps AFTER INSERT OR UPDATE OR DELETE ON emergency_number
    FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue();

-- ---------------------------------------------------------------- who sees what

ALTER TABLE event ENABLE ROW LEVEL SECURITY;
ALTER TABLE card_batch ENABLE ROW LEVEL SECURITY;
ALTER TABLE package ENABLE ROW LEVEL SECURITY;
ALTER TABLE package_holding ENABLE ROW LEVEL SECURITY;
ALTER TABLE velocity_limit ENABLE ROW LEVEL SECURITY;
ALTER TABLE velocity_use ENABLE ROW LEVEL SECURITY;
ALTER TABLE did ENABLE ROW LEVEL SECURITY;
ALTER TABLE did_price ENABLE ROW LEVEL SECURITY;
ALTER TABLE did_assignment ENABLE ROW LEVEL SECURITY;
ALTER TABLE number_rule ENABLE ROW LEVEL SECURITY;
ALTER TABLE emergency_number ENABLE ROW LEVEL SECURITY;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['account_is_metered()', 'did_revise()', 'did_touch()']
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END $$;

GRANT SELECT (metered, card_batch_id, pin_failures, locked_until, first_used_at, valid_days,
              surcharge_micros, low_balance_micros, low_balance_raised)
   ON account TO sky_aaa_viewer;
GRANT INSERT (valid_days, surcharge_micros, low_balance_micros, card_batch_id)
   ON account TO sky_aaa_viewer;
GRANT UPDATE (valid_days, surcharge_micros, low_balance_micros, locked_until, pin_failures)
   ON account TO sky_aaa_viewer;
GRANT SELECT (on_net_per_minute_nanos), INSERT (on_net_per_minute_nanos),
      UPDATE (on_net_per_minute_nanos)
   ON rate_group TO sky_aaa_viewer;

GRANT SELECT ON event, card_batch, package, package_holding, velocity_limit, velocity_use,
                did_price, did_assignment, number_rule TO sky_aaa_viewer;
-- Not what the provider takes.
GRANT SELECT (did_id, number, access, status) ON did TO sky_aaa_viewer;

CREATE POLICY viewer_sees ON event FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON card_batch FOR SELECT TO sky_aaa_viewer
    USING (owner_id IN (SELECT account_id FROM account));
-- Its tree's packages, and those that its parent sells to it.
CREATE POLICY viewer_sees ON package FOR SELECT TO sky_aaa_viewer
    USING (owner_id IN (SELECT account_id FROM account)
           OR owner_id = (SELECT parent_id FROM account WHERE account_id = viewer_id()));
CREATE POLICY viewer_sees ON package_holding FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON velocity_limit FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON velocity_use FOR SELECT TO sky_aaa_viewer
    USING (limit_id IN (SELECT limit_id FROM velocity_limit));
CREATE POLICY viewer_sees ON did_price FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON did_assignment FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON did FOR SELECT TO sky_aaa_viewer
    USING (did_id IN (SELECT did_id FROM did_price) OR did_id IN (SELECT did_id FROM did_assignment));
CREATE POLICY viewer_sees ON number_rule FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
-- What a reseller may write of these is written by the owner's role once the one function
-- that decides (storage.viewer.may) has allowed it: storage.viewer.as_owner.
