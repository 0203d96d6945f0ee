-- Invoices: who issues them, what is taxed how, what stands on them, what has paid them.
--
-- A charge and a posted fee carry the invoice line that billed them, so nothing is billed
-- twice, and whatever carries none is billed by the next run. What was issued stays as it is:
-- a mistake is put right by a credit note, which sets free what the invoice had billed.

-- ---------------------------------------------------------------- ledger

-- `invoice` posts what an invoice adds to its usage: tax, rounding, discount; `credit-note`
-- takes that back, or gives an amount back.
ALTER TABLE ledger_transaction DROP CONSTRAINT ledger_transaction_kind_check;
ALTER TABLE ledger_transaction ADD CONSTRAINT ledger_transaction_kind_check
    CHECK (kind IN ('call', 'payment', 'refund', 'adjustment', 'transfer', 'coupon', 'card', 'fee',
                    'invoice', 'credit-note'));
ALTER TABLE posting DROP CONSTRAINT posting_contra_book_check;
ALTER TABLE posting ADD CONSTRAINT posting_contra_book_check
    CHECK (contra_book IN ('sales', 'purchases', 'cash', 'adjustments', 'rounding', 'exchange',
                           'transfers', 'coupons', 'cards', 'fees', 'tax'));

-- ---------------------------------------------------------------- who sells, who buys

-- A picture is kept under its own hash: what an old invoice shows does not change.
CREATE TABLE issuer_logo (
    sha256 bytea PRIMARY KEY CHECK (octet_length(sha256) = 32),
    owner_id bigint NOT NULL REFERENCES account,
    format text NOT NULL CHECK (format IN ('png', 'jpg', 'svg')),
    content bytea NOT NULL CHECK (octet_length(content) <= 1048576)
);

-- What stands on the invoices of the operator or a reseller. In the series "{year}" is the
-- year of issue; a number is the series and at least five digits.
CREATE TABLE issuer (
    account_id bigint PRIMARY KEY REFERENCES account,
    name text NOT NULL DEFAULT '',
    street text NOT NULL DEFAULT '',
    postcode text NOT NULL DEFAULT '',
    city text NOT NULL DEFAULT '',
    country text NOT NULL DEFAULT '' CHECK (country ~ '^([A-Z]{2})?$'),
    tax_number text NOT NULL DEFAULT '',
    vat_id text NOT NULL DEFAULT '',
    register text NOT NULL DEFAULT '',              -- court and number, or the like
    iban text NOT NULL DEFAULT '',
    bic text NOT NULL DEFAULT '',
    email text NOT NULL DEFAULT '',
    phone text NOT NULL DEFAULT '',
    website text NOT NULL DEFAULT '',
    logo_sha256 bytea REFERENCES issuer_logo,
    colour text NOT NULL DEFAULT '#0f4c81' CHECK (colour ~ '^#[0-9a-f]{6}$'),
    series text NOT NULL DEFAULT 'INV-{year}-',
    credit_series text NOT NULL DEFAULT 'CN-{year}-' CHECK (credit_series <> series),
    language text NOT NULL DEFAULT 'en',            -- of buyers whose own is not spoken
    payment_days integer NOT NULL DEFAULT 14 CHECK (payment_days BETWEEN 0 AND 366),
    note text NOT NULL DEFAULT ''                   -- below the totals
);

-- A buyer's name, address and how it is taxed. Prices of prepaid accounts include the tax.
CREATE TABLE billing_profile (
    account_id bigint PRIMARY KEY REFERENCES account,
    name text NOT NULL DEFAULT '',
    street text NOT NULL DEFAULT '',
    postcode text NOT NULL DEFAULT '',
    city text NOT NULL DEFAULT '',
    country text NOT NULL DEFAULT '' CHECK (country ~ '^([A-Z]{2})?$'),
    vat_id text NOT NULL DEFAULT '',
    tax_number text NOT NULL DEFAULT '',
    email text NOT NULL DEFAULT '',
    reference text NOT NULL DEFAULT '',             -- the buyer's own: a cost centre, a Leitweg-ID
    treatment text NOT NULL DEFAULT 'standard'
        CHECK (treatment IN ('standard', 'exempt', 'reverse-charge')),
    exempt_reason text NOT NULL DEFAULT '',
    tax_name text NOT NULL DEFAULT 'VAT',
    prices_include_tax boolean NOT NULL DEFAULT false,
    discount_ppm integer NOT NULL DEFAULT 0 CHECK (discount_ppm BETWEEN 0 AND 1000000),
    payment_days integer CHECK (payment_days BETWEEN 0 AND 366),
    itemised boolean NOT NULL DEFAULT true,
    CHECK (treatment <> 'exempt' OR exempt_reason <> ''),
    CHECK (treatment <> 'reverse-charge' OR vat_id <> '')
);

-- A rate of an issuer in a country, in force in [valid_from, valid_to).
CREATE TABLE tax_rate (
    tax_rate_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer_id bigint NOT NULL REFERENCES account,
    country text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    name text NOT NULL CHECK (name <> ''),
    rate_ppm integer NOT NULL CHECK (rate_ppm BETWEEN 0 AND 1000000),
    legal_note text NOT NULL DEFAULT '',
    valid_from date NOT NULL,
    valid_to date CHECK (valid_to >= valid_from),
    CONSTRAINT tax_rates_do_not_overlap EXCLUDE USING gist (
        issuer_id WITH =, country WITH =, name WITH =, daterange(valid_from, valid_to) WITH &&)
);

-- ---------------------------------------------------------------- invoices

-- The last number of a series: whoever takes the next one holds the row until it is committed,
-- so there are no gaps and no doubles.
CREATE TABLE invoice_counter (
    issuer_id bigint NOT NULL REFERENCES account,
    series text NOT NULL,
    last_number bigint NOT NULL CHECK (last_number >= 0),
    PRIMARY KEY (issuer_id, series)
);

-- Amounts are micros, whole units of the currency's exponent but for `raw_micros`, which is
-- what the charges and fees came to. Credit notes have their amounts positive.
CREATE TABLE invoice (
    invoice_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL DEFAULT 'invoice' CHECK (kind IN ('invoice', 'credit-note')),
    issuer_id bigint NOT NULL REFERENCES account,
    account_id bigint NOT NULL REFERENCES account,
    number text CHECK (number <> ''),
    status text NOT NULL DEFAULT 'draft'
        CHECK (status IN ('draft', 'issued', 'part-paid', 'paid', 'void')),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    period_name text NOT NULL,
    period_from timestamptz NOT NULL,
    period_to timestamptz NOT NULL CHECK (period_to > period_from),
    time_zone text NOT NULL,
    prepaid boolean NOT NULL,
    inclusive boolean NOT NULL,                     -- lines are shown with the tax in them
    raw_micros bigint NOT NULL,
    net_micros bigint NOT NULL,
    tax_micros bigint NOT NULL,
    total_micros bigint NOT NULL CHECK (total_micros = net_micros + tax_micros),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- From here on: when it was issued.
    issued_at timestamptz,
    issue_date date,
    due_date date,
    language text NOT NULL,
    seller jsonb NOT NULL DEFAULT '{}',
    buyer jsonb NOT NULL DEFAULT '{}',
    packages jsonb NOT NULL DEFAULT '[]',
    movements jsonb NOT NULL DEFAULT '[]',          -- payments and the like since the last one
    previous_micros bigint NOT NULL DEFAULT 0,      -- was owed before these and this invoice
    due_micros bigint NOT NULL DEFAULT 0,           -- is owed with it; below 0: a credit
    transaction_id bigint,                          -- null: there was nothing to post
    corrects_id bigint REFERENCES invoice,          -- a credit note's invoice
    reason text NOT NULL DEFAULT '',
    -- What happens later.
    paid_micros bigint NOT NULL DEFAULT 0 CHECK (paid_micros >= 0),
    credited_micros bigint NOT NULL DEFAULT 0 CHECK (credited_micros >= 0),
    dunning_step smallint NOT NULL DEFAULT 0 CHECK (dunning_step >= 0),
    dunned_at timestamptz,
    CHECK ((number IS NULL) = (status = 'draft')),
    CHECK ((number IS NULL) = (issued_at IS NULL)),
    CHECK ((kind = 'credit-note') = (corrects_id IS NOT NULL)),
    UNIQUE (issuer_id, number),
    CONSTRAINT invoice_periods_do_not_overlap EXCLUDE USING gist (
        account_id WITH =, tstzrange(period_from, period_to) WITH &&)
        WHERE (kind = 'invoice' AND status <> 'void')
);
CREATE INDEX invoice_account ON invoice (account_id, period_to);
CREATE INDEX invoice_number ON invoice (number);
CREATE INDEX invoice_open ON invoice (due_date) WHERE status IN ('issued', 'part-paid');
CREATE INDEX invoice_corrects ON invoice (corrects_id) WHERE corrects_id IS NOT NULL;

-- Category as EN 16931 has it: S standard, Z zero, E exempt, AE reverse charge, O no tax.
CREATE TABLE invoice_tax (
    invoice_id bigint NOT NULL REFERENCES invoice ON DELETE CASCADE,
    position smallint NOT NULL,
    name text NOT NULL,
    rate_ppm integer NOT NULL,
    category text NOT NULL CHECK (category IN ('S', 'Z', 'E', 'AE', 'O')),
    note text NOT NULL DEFAULT '',
    base_micros bigint NOT NULL,
    tax_micros bigint NOT NULL,
    PRIMARY KEY (invoice_id, position)
);

CREATE TABLE invoice_line (
    invoice_line_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    invoice_id bigint NOT NULL REFERENCES invoice ON DELETE CASCADE,
    position integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('usage', 'correction', 'fee', 'discount', 'credit')),
    description text NOT NULL,
    calls bigint NOT NULL DEFAULT 0,
    billed_seconds bigint NOT NULL DEFAULT 0,
    package_seconds bigint NOT NULL DEFAULT 0,
    raw_micros bigint NOT NULL,
    amount_micros bigint NOT NULL,                  -- as it is shown
    net_micros bigint NOT NULL,                     -- without tax; the same unless inclusive
    tax_position smallint NOT NULL,
    UNIQUE (invoice_id, position),
    FOREIGN KEY (invoice_id, tax_position) REFERENCES invoice_tax
);

-- ---------------------------------------------------------------- what was billed

-- No foreign key: a million charges are billed in a minute, and the audit proves them.
ALTER TABLE charge ADD COLUMN invoice_line_id bigint;
CREATE INDEX charge_invoice_line ON charge (invoice_line_id) WHERE invoice_line_id IS NOT NULL;
-- Nothing but the line is ever written into a charge that stands.
CREATE TRIGGER charge_stays BEFORE DELETE OR UPDATE OF call_id, level, account_id, currency,
        amount_micros, billed_seconds, rate_id, prefix, number, exchange_e10, package_seconds, at
    ON charge FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Few of an account's postings are no calls: these are found without reading the calls.
CREATE INDEX posting_no_call ON posting (account_id)
 WHERE contra_book NOT IN ('sales', 'purchases');

CREATE TABLE invoice_fee (
    transaction_id bigint NOT NULL,
    position smallint NOT NULL,
    invoice_line_id bigint NOT NULL REFERENCES invoice_line,
    PRIMARY KEY (transaction_id, position)          -- no fee is billed twice
);
CREATE INDEX invoice_fee_line ON invoice_fee (invoice_line_id);

-- What a void invoice had billed before its credit note set it free.
CREATE TABLE invoice_released (
    invoice_line_id bigint NOT NULL REFERENCES invoice_line,
    call_id bigint,
    level smallint,
    number smallint,
    account_id bigint,
    transaction_id bigint,
    position smallint
);
CREATE INDEX invoice_released_line ON invoice_released (invoice_line_id);

-- ---------------------------------------------------------------- afterwards

CREATE TABLE invoice_payment (
    invoice_payment_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    invoice_id bigint NOT NULL REFERENCES invoice,
    payment_id bigint NOT NULL REFERENCES payment,
    amount_micros bigint NOT NULL CHECK (amount_micros > 0),
    at timestamptz NOT NULL DEFAULT now(),
    released_at timestamptz                         -- the invoice is void, or the money went back
);
CREATE INDEX invoice_payment_invoice ON invoice_payment (invoice_id);
CREATE INDEX invoice_payment_payment ON invoice_payment (payment_id);

-- The hash of a document the first time that it was made.
CREATE TABLE invoice_document (
    invoice_id bigint NOT NULL REFERENCES invoice,
    kind text NOT NULL CHECK (kind IN ('pdf', 'xml-cii', 'xml-ubl')),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (invoice_id, kind)
);

CREATE TABLE invoice_mail (
    invoice_mail_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    invoice_id bigint NOT NULL REFERENCES invoice,
    kind text NOT NULL CHECK (kind ~ '^[a-z][a-z0-9-]*$'),  -- invoice, reminder-1, …
    recipient text NOT NULL,
    subject text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    message_id text NOT NULL DEFAULT '',
    problem text NOT NULL DEFAULT ''                -- '': it was taken by the mail server
);
CREATE INDEX invoice_mail_invoice ON invoice_mail (invoice_id);

-- A step is taken so many days after the due date. Fees are without tax.
CREATE TABLE dunning_step (
    issuer_id bigint NOT NULL REFERENCES account,
    step smallint NOT NULL CHECK (step BETWEEN 1 AND 9),
    days integer NOT NULL CHECK (days BETWEEN 0 AND 3650),
    fee_micros bigint NOT NULL DEFAULT 0 CHECK (fee_micros >= 0),
    suspend boolean NOT NULL DEFAULT false,
    PRIMARY KEY (issuer_id, step)
);

-- A month or the like that is over and invoiced. What comes late belongs to the next one.
CREATE TABLE closed_period (
    issuer_id bigint NOT NULL REFERENCES account,
    name text NOT NULL,
    begins timestamptz NOT NULL,
    ends timestamptz NOT NULL CHECK (ends > begins),
    closed_at timestamptz NOT NULL DEFAULT now(),
    totals jsonb NOT NULL,                          -- by currency, as they were then
    PRIMARY KEY (issuer_id, name),
    CONSTRAINT closed_periods_do_not_overlap EXCLUDE USING gist (
        issuer_id WITH =, tstzrange(begins, ends) WITH &&)
);

-- ---------------------------------------------------------------- what was issued stays

CREATE FUNCTION invoice_keep() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    later text[] := ARRAY['status', 'paid_micros', 'credited_micros', 'dunning_step', 'dunned_at'];
BEGIN
    IF OLD.status = 'draft' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'DELETE' OR NEW.status = 'draft' OR to_jsonb(NEW) - later <> to_jsonb(OLD) - later
       OR (OLD.status = 'void' AND NEW.status <> 'void') THEN
        RAISE EXCEPTION 'invoice % is issued and stays as it is: a credit note puts it right', OLD.number
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER invoice_stays BEFORE UPDATE OR DELETE ON invoice
    FOR EACH ROW EXECUTE FUNCTION invoice_keep();
CREATE TRIGGER invoice_is_not_emptied BEFORE TRUNCATE ON invoice
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION invoice_part_keep() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    issued text;
BEGIN
    SELECT number INTO issued
      FROM invoice
     WHERE invoice_id IN (SELECT (to_jsonb(OLD) ->> 'invoice_id')::bigint
                           UNION ALL
                          SELECT (to_jsonb(NEW) ->> 'invoice_id')::bigint)
       AND status <> 'draft';
    IF FOUND THEN
        RAISE EXCEPTION 'invoice % is issued and stays as it is: a credit note puts it right', issued
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER invoice_line_stays BEFORE INSERT OR UPDATE OR DELETE ON invoice_line
    FOR EACH ROW EXECUTE FUNCTION invoice_part_keep();
CREATE TRIGGER invoice_tax_stays BEFORE INSERT OR UPDATE OR DELETE ON invoice_tax
    FOR EACH ROW EXECUTE FUNCTION invoice_part_keep();
CREATE TRIGGER invoice_line_is_not_emptied BEFORE TRUNCATE ON invoice_line
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER invoice_tax_is_not_emptied BEFORE TRUNCATE ON invoice_tax
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER invoice_released_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_released
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER closed_period_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON closed_period
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A charge or fee leaves the line of an issued invoice only when that is void.
CREATE FUNCTION billed_keep() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    issued text;
BEGIN
    SELECT number INTO issued
      FROM invoice_line
      JOIN invoice USING (invoice_id)
     WHERE invoice_line_id = OLD.invoice_line_id
       AND status NOT IN ('draft', 'void');
    IF FOUND THEN
        RAISE EXCEPTION 'invoice % has billed this: it is billed again only when that is void', issued
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER charge_is_billed_once BEFORE UPDATE OF invoice_line_id ON charge
    FOR EACH ROW WHEN (OLD.invoice_line_id IS NOT NULL
                       AND NEW.invoice_line_id IS DISTINCT FROM OLD.invoice_line_id)
    EXECUTE FUNCTION billed_keep();
CREATE TRIGGER fee_is_billed_once BEFORE UPDATE OR DELETE ON invoice_fee
    FOR EACH ROW EXECUTE FUNCTION billed_keep();

-- ---------------------------------------------------------------- who sees what

ALTER TABLE issuer_logo ENABLE ROW LEVEL SECURITY;
ALTER TABLE issuer ENABLE ROW LEVEL SECURITY;
ALTER TABLE billing_profile ENABLE ROW LEVEL SECURITY;
ALTER TABLE tax_rate ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_counter ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_tax ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_line ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_fee ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_released ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_payment ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_document ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_mail ENABLE ROW LEVEL SECURITY;
ALTER TABLE dunning_step ENABLE ROW LEVEL SECURITY;
ALTER TABLE closed_period ENABLE ROW LEVEL SECURITY;

-- All of it is written by the owner's role, once storage.viewer has allowed it.
GRANT SELECT ON issuer, billing_profile, tax_rate, invoice, invoice_tax, invoice_line, invoice_fee,
                invoice_released, invoice_payment, invoice_document, invoice_mail, dunning_step,
                closed_period, issuer_logo
   TO sky_aaa_viewer;

-- Its tree's, and who sells to it: that stands on its own invoices anyway.
CREATE POLICY viewer_sees ON issuer FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON issuer_logo FOR SELECT TO sky_aaa_viewer
    USING (owner_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON billing_profile FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON tax_rate FOR SELECT TO sky_aaa_viewer
    USING (issuer_id IN (SELECT account_id FROM account));
-- A draft is its issuer's alone.
CREATE POLICY viewer_sees ON invoice FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account)
           AND (status <> 'draft' OR issuer_id IN (SELECT account_id FROM account)));
CREATE POLICY viewer_sees ON invoice_tax FOR SELECT TO sky_aaa_viewer
    USING (invoice_id IN (SELECT invoice_id FROM invoice));
CREATE POLICY viewer_sees ON invoice_line FOR SELECT TO sky_aaa_viewer
    USING (invoice_id IN (SELECT invoice_id FROM invoice));
CREATE POLICY viewer_sees ON invoice_fee FOR SELECT TO sky_aaa_viewer
    USING (invoice_line_id IN (SELECT invoice_line_id FROM invoice_line));
CREATE POLICY viewer_sees ON invoice_released FOR SELECT TO sky_aaa_viewer
    USING (invoice_line_id IN (SELECT invoice_line_id FROM invoice_line));
CREATE POLICY viewer_sees ON invoice_payment FOR SELECT TO sky_aaa_viewer
    USING (invoice_id IN (SELECT invoice_id FROM invoice));
CREATE POLICY viewer_sees ON invoice_document FOR SELECT TO sky_aaa_viewer
    USING (invoice_id IN (SELECT invoice_id FROM invoice));
CREATE POLICY viewer_sees ON invoice_mail FOR SELECT TO sky_aaa_viewer
    USING (invoice_id IN (SELECT invoice_id FROM invoice
                           WHERE issuer_id IN (SELECT account_id FROM account)));
CREATE POLICY viewer_sees ON dunning_step FOR SELECT TO sky_aaa_viewer
    USING (issuer_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON closed_period FOR SELECT TO sky_aaa_viewer
    USING (issuer_id IN (SELECT account_id FROM account));
