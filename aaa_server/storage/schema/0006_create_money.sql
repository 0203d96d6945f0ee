-- Money that is not calls: payments and what is paid back of them, transfers, coupons, and
-- what is charged again and again: subscriptions, packages by the period, DIDs by the month.
--
-- The ledger stays the one record of what moved. These rows say what the ledger has no
-- columns for: methods, who may use a coupon, up to when something has been charged.

-- ---------------------------------------------------------------- payments

-- From an account to its seller; to a provider, from the operator. References are unique by
-- seller and method: `top-up` is what `sky-aaa account top-up` posts.
CREATE TABLE payment (
    payment_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_id bigint NOT NULL UNIQUE,
    account_id bigint NOT NULL REFERENCES account,
    seller_id bigint NOT NULL REFERENCES account,
    method text NOT NULL CHECK (method ~ '^[a-z][a-z0-9-]{0,30}$'),
    reference text NOT NULL CHECK (reference <> ''),
    amount_micros bigint NOT NULL CHECK (amount_micros > 0),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    at timestamptz NOT NULL,
    note text NOT NULL DEFAULT '',
    UNIQUE (seller_id, method, reference)
);
CREATE INDEX payment_account ON payment (account_id, at);
CREATE INDEX payment_reference ON payment (reference);

-- Together never more than the payment: whoever adds one holds the account's lock.
CREATE TABLE refund (
    refund_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id bigint NOT NULL REFERENCES payment,
    number integer NOT NULL CHECK (number > 0),     -- 1 is the payment's first
    transaction_id bigint NOT NULL UNIQUE,
    amount_micros bigint NOT NULL CHECK (amount_micros > 0),
    at timestamptz NOT NULL,
    note text NOT NULL DEFAULT '',
    UNIQUE (payment_id, number)
);

CREATE TRIGGER payment_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON payment
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER refund_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON refund
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What was topped up before there was this table. A reseller's references stand in the
-- ledger behind its code.
INSERT INTO payment (transaction_id, account_id, seller_id, method, reference, amount_micros,
                     currency, at, note)
SELECT transaction_id,
       posting.account_id,
       posting.contra_account_id,
       'top-up',
       CASE WHEN seller.kind <> 'admin' AND starts_with(reference, seller.code || '/')
            THEN substr(reference, length(seller.code) + 2)
            ELSE reference END,
       posting.amount_micros,
       posting.currency,
       ledger_transaction.at,
       ledger_transaction.note
  FROM ledger_transaction
  JOIN posting USING (transaction_id)
  JOIN account AS seller ON seller.account_id = posting.contra_account_id
 WHERE ledger_transaction.kind = 'payment';

-- ---------------------------------------------------------------- transfers

-- Between two accounts of one seller. `exchange_e10` is what a unit of the payer's currency
-- was worth in the other's.
CREATE TABLE transfer (
    transaction_id bigint PRIMARY KEY,
    seller_id bigint NOT NULL REFERENCES account,
    reference text NOT NULL CHECK (reference <> ''),
    from_account_id bigint NOT NULL REFERENCES account,
    to_account_id bigint NOT NULL REFERENCES account CHECK (to_account_id <> from_account_id),
    amount_micros bigint NOT NULL CHECK (amount_micros > 0),
    received_micros bigint NOT NULL CHECK (received_micros > 0),
    exchange_e10 bigint NOT NULL CHECK (exchange_e10 > 0),
    UNIQUE (seller_id, reference)
);
CREATE TRIGGER transfer_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON transfer
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- ---------------------------------------------------------------- coupons

-- The key of the codes' keyed hash, sealed with the installation's key file: who has the
-- database alone can neither find a code nor try whether one is right. Of its own, since the
-- codes are nowhere, so that nothing could be hashed anew when the key file's keys change.
CREATE TABLE coupon_key (
    coupon_key_id bigint PRIMARY KEY CHECK (coupon_key_id = 1),
    key_sealed bytea NOT NULL
);

CREATE TABLE coupon (
    coupon_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id bigint NOT NULL REFERENCES account,    -- for accounts directly below it
    code_hash bytea NOT NULL UNIQUE CHECK (octet_length(code_hash) = 32),
    amount_micros bigint NOT NULL CHECK (amount_micros > 0),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    note text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    voided_at timestamptz,
    redeemed_at timestamptz,
    account_id bigint REFERENCES account,           -- whose it was
    transaction_id bigint UNIQUE,
    CHECK ((redeemed_at IS NULL) = (account_id IS NULL)),
    CHECK ((redeemed_at IS NULL) = (transaction_id IS NULL)),
    CHECK (redeemed_at IS NULL OR voided_at IS NULL)
);
CREATE INDEX coupon_owner ON coupon (owner_id, coupon_id);
CREATE INDEX coupon_account ON coupon (account_id) WHERE account_id IS NOT NULL;

-- ---------------------------------------------------------------- again and again

-- What an account pays each period: a fee, or, with `package_id`, that package's price for
-- its seconds. Periods are counted from `anchor_at` by the clock of `time_zone`, which is
-- the account's when it began: to move the account does not move what is charged.
CREATE TABLE subscription (
    subscription_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES account,
    name text NOT NULL CHECK (name <> ''),
    package_id bigint REFERENCES package,
    setup_micros bigint NOT NULL DEFAULT 0 CHECK (setup_micros >= 0),
    price_micros bigint NOT NULL DEFAULT 0 CHECK (price_micros >= 0),  -- without package
    unit text NOT NULL DEFAULT 'month' CHECK (unit IN ('day', 'week', 'month', 'year')),
    calendar boolean NOT NULL,                      -- else by the anniversary of anchor_at
    prorate boolean NOT NULL,
    time_zone text NOT NULL,
    begins_at timestamptz NOT NULL,
    ends_at timestamptz CHECK (ends_at >= begins_at),
    anchor_at timestamptz NOT NULL,                 -- begins_at, or when it was paid again
    created_at timestamptz NOT NULL DEFAULT now(),
    setup_charged boolean NOT NULL DEFAULT false,
    -- The period that is to be charged next, and when it begins; null: never again.
    next_number integer NOT NULL DEFAULT 0,
    next_at timestamptz,
    -- What was charged last, and for what: null, nothing yet.
    period_from timestamptz,
    period_to timestamptz,
    period_micros bigint CHECK (period_micros >= 0),
    suspended_at timestamptz,                       -- since when it cannot be paid
    CHECK ((period_from IS NULL) = (period_to IS NULL)),
    CHECK ((period_from IS NULL) = (period_micros IS NULL))
);
CREATE UNIQUE INDEX subscription_runs_once ON subscription (account_id, name)
 WHERE next_at IS NOT NULL;
CREATE INDEX subscription_due ON subscription (next_at) WHERE next_at IS NOT NULL;

-- When the operator began and ceased to pay a number's provider.
ALTER TABLE did
    ADD COLUMN acquired_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN retired_at timestamptz;
CREATE FUNCTION did_keep_dates() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status = 'retired' AND OLD.status <> 'retired' THEN
        NEW.retired_at := now();
    ELSIF NEW.provider_id <> OLD.provider_id
          OR (NEW.status <> 'retired' AND OLD.status = 'retired') THEN
        NEW.acquired_at := now();
        NEW.retired_at := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER did_dates_are_kept BEFORE UPDATE OF status, provider_id ON did
    FOR EACH ROW EXECUTE FUNCTION did_keep_dates();

-- How far one party's months of one number have been charged. [since, until) is its time with
-- the number without a break: its own, or that of accounts below it; of a provider, the time
-- that the number is in the inventory.
CREATE TABLE did_fee (
    did_id bigint NOT NULL REFERENCES did,
    account_id bigint NOT NULL REFERENCES account,
    since timestamptz NOT NULL,
    until timestamptz CHECK (until >= since),
    time_zone text NOT NULL,
    setup_charged boolean NOT NULL DEFAULT false,
    next_number integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL,
    unpaid_since timestamptz,                       -- since when it cannot be paid
    PRIMARY KEY (did_id, account_id, since)
);
CREATE INDEX did_fee_due ON did_fee (next_at);

-- ---------------------------------------------------------------- who sees what

ALTER TABLE payment ENABLE ROW LEVEL SECURITY;
ALTER TABLE refund ENABLE ROW LEVEL SECURITY;
ALTER TABLE transfer ENABLE ROW LEVEL SECURITY;
ALTER TABLE coupon_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE coupon ENABLE ROW LEVEL SECURITY;
ALTER TABLE subscription ENABLE ROW LEVEL SECURITY;
ALTER TABLE did_fee ENABLE ROW LEVEL SECURITY;

-- All of it is written by the owner's role, once storage.viewer has allowed it.
GRANT SELECT ON payment, refund, transfer, subscription, did_fee TO sky_aaa_viewer;
-- Not the hashes, nor anything of their key.
GRANT SELECT (coupon_id, owner_id, amount_micros, currency, note, created_at, expires_at,
              voided_at, redeemed_at, account_id, transaction_id)
   ON coupon TO sky_aaa_viewer;

CREATE POLICY viewer_sees ON payment FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON refund FOR SELECT TO sky_aaa_viewer
    USING (payment_id IN (SELECT payment_id FROM payment));
-- Who sees one side only finds the posting in its statement, not who was on the other side.
CREATE POLICY viewer_sees ON transfer FOR SELECT TO sky_aaa_viewer
    USING (from_account_id IN (SELECT account_id FROM account)
           AND to_account_id IN (SELECT account_id FROM account));
-- Those that its tree sells, and those that were redeemed in it.
CREATE POLICY viewer_sees ON coupon FOR SELECT TO sky_aaa_viewer
    USING (owner_id IN (SELECT account_id FROM account)
           OR account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON subscription FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON did_fee FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
