-- Who calls whom: a thousand customers, three in ten of them below one of 20 resellers, ten
-- providers with price lists of their own, three of them in another currency, 300 destinations.
SELECT cdr_add_month('2026-10-01');

INSERT INTO account (code, kind, prepaid, currency) VALUES ('admin', 'admin', false, 'USD');
INSERT INTO account (code, kind, parent_id, prepaid, currency)
SELECT 'provider' || number, 'provider', admin.account_id, false,
       CASE number % 3 WHEN 2 THEN 'EUR' ELSE 'USD' END
  FROM generate_series(0, 9) AS number, account AS admin
 WHERE admin.kind = 'admin';
INSERT INTO account (code, kind, parent_id, prepaid, currency)
SELECT 'reseller' || number, 'reseller', admin.account_id, false, 'USD'
  FROM generate_series(0, 19) AS number, account AS admin
 WHERE admin.kind = 'admin';
INSERT INTO account (code, kind, parent_id, prepaid, currency)
SELECT 'customer' || number, 'customer', seller.account_id, number % 2 = 0, 'USD'
  FROM generate_series(0, 999) AS number
  JOIN account AS seller
    ON seller.code = CASE WHEN number % 10 < 3 THEN 'reseller' || number / 10 % 20 ELSE 'admin' END;
-- A new price of a euro at each midnight.
INSERT INTO exchange_rate
SELECT 'EUR', 'USD', day, 10800000000 + 10000000 * extract(day FROM day)::bigint
  FROM generate_series(timestamptz '2026-09-01', '2026-10-31', '1 day') AS day;

INSERT INTO tariff (currency)
SELECT CASE WHEN number % 3 = 2 THEN 'EUR' ELSE 'USD' END FROM generate_series(-1, 9) AS number;
INSERT INTO rate (tariff_id, prefix, destination, per_minute_nanos, initial_seconds,
                  increment_seconds, effective_from, revision)
SELECT tariff_id, (1000 + number)::text, 'Destination ' || number, 10000000, 1, 1, '2020-01-01', 1
  FROM tariff, generate_series(0, 299) AS number;
INSERT INTO resource_group (name, direction, account_id, tariff_id)
SELECT 'RG_' || number, 'out', provider.account_id, tariff.tariff_id
  FROM generate_series(0, 9) AS number
  JOIN account AS provider ON provider.code = 'provider' || number
  JOIN (SELECT tariff_id, row_number() OVER (ORDER BY tariff_id) - 2 AS number FROM tariff) AS tariff
 USING (number);

-- What each account had paid before.
INSERT INTO ledger_transaction (transaction_id, kind, reference, at, posted_at)
SELECT account_id, 'payment', code, '2026-09-15', '2026-09-15'
  FROM account
 WHERE kind = 'customer';
INSERT INTO posting
SELECT account_id, 0, account_id, 20000000, currency, parent_id, 'cash'
  FROM account
 WHERE kind = 'customer';
ANALYZE;
