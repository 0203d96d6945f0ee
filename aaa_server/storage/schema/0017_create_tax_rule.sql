-- What of an issuer's is taxed otherwise than its buyers are, and which money pays invoices.

-- A reduced rate, or exempt with a reason. `item` '' is all of the product; a name goes first.
CREATE TABLE tax_rule (
    issuer_id bigint NOT NULL REFERENCES party,
    product text NOT NULL
        CHECK (product IN ('calls', 'packages', 'subscriptions', 'numbers', 'reminders', 'other')),
    item text NOT NULL DEFAULT '',
    tax_name text NOT NULL DEFAULT '',              -- of the rates of the buyer's country
    exempt_reason text NOT NULL DEFAULT '',
    PRIMARY KEY (issuer_id, product, item),
    CHECK ((tax_name = '') <> (exempt_reason = '')),
    CHECK (product <> 'calls' OR item = '')
);

ALTER TABLE tax_rule ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON tax_rule TO sky_aaa_viewer;
CREATE POLICY viewer_sees ON tax_rule FOR SELECT TO sky_aaa_viewer
    USING (issuer_id IN (SELECT account_id FROM account));

-- Invoices are paid by payments; by adjustments, transfers and coupons, which are postings; and
-- by invoices that are in the account's favour, when corrections come to more than the calls.
ALTER TABLE invoice_payment
    ALTER COLUMN payment_id DROP NOT NULL,
    ADD COLUMN transaction_id bigint,
    ADD COLUMN position smallint,
    ADD COLUMN credit_id bigint REFERENCES invoice,
    ADD CHECK (num_nonnulls(payment_id, transaction_id, credit_id) = 1),
    ADD CHECK ((transaction_id IS NULL) = (position IS NULL));
CREATE INDEX invoice_payment_transaction ON invoice_payment (transaction_id)
 WHERE transaction_id IS NOT NULL;
CREATE INDEX invoice_payment_credit ON invoice_payment (credit_id) WHERE credit_id IS NOT NULL;
