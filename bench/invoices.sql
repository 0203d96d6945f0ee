-- A month that is over: so many customers, a thousand calls each, as the server leaves them.
INSERT INTO account (account_id, code, kind, parent_id, name, prepaid, currency, time_zone)
VALUES (1, 'admin', 'admin', NULL, 'Operator', false, 'EUR', 'UTC');
INSERT INTO account (account_id, code, kind, parent_id, name, prepaid, currency, time_zone)
SELECT 10 + number, 'customer' || number, 'customer', 1, 'Customer ' || number, false, 'EUR', 'UTC'
  FROM generate_series(1, %(accounts)s) AS number;
INSERT INTO issuer (account_id, name, street, city, country, vat_id, iban)
VALUES (1, 'Operator S.L.', 'Calle Mayor 1', 'Madrid', 'ES', 'ESB58378431',
        'ES9121000418450200051332');
INSERT INTO tax_rate (issuer_id, country, name, rate_ppm, valid_from)
VALUES (1, 'ES', 'VAT', 210000, '2000-01-01');
INSERT INTO billing_profile (account_id, city, country)
SELECT account_id, 'Sevilla', 'ES' FROM account WHERE kind = 'customer';
INSERT INTO tariff (currency) VALUES ('EUR');
INSERT INTO rate (tariff_id, prefix, destination, per_minute_nanos, initial_seconds,
                  increment_seconds, effective_from, revision)
SELECT 1, (100 + number)::text, 'Destination ' || number, 10000000, 60, 60, '2020-01-01', 1
  FROM generate_series(1, 40) AS number;
SELECT cdr_add_month('2026-09-01Z'), cdr_add_month('2026-10-01Z');
-- Calls take their transactions' numbers below; what is posted later comes after them.
SELECT setval('identifier_block', 1000 * (%(calls)s / 1000 + 2));
INSERT INTO cdr (call_id, client_id, session_key, account_id, party_id, levels, routes,
                 granted_seconds, authorized_at, started_at, found_by, ani, called, sip_call_id,
                 ended_at, ended_by, duration_ms, seconds, cause, postings)
SELECT number, 1, number::text, 11 + number %% %(accounts)s, '{}', '[]', '[]', 7200, at, at,
       'argument', '34910000001', (101 + number %% 40) || '5550100', '', at, 'stop', 61000, 61,
       '16', 1
  FROM generate_series(1, %(calls)s) AS number
 CROSS JOIN LATERAL (SELECT timestamptz '2026-10-01Z' + number * interval '2.6 s' AS at) AS began;
INSERT INTO charge (call_id, level, account_id, currency, amount_micros, billed_seconds, rate_id,
                    prefix, at)
SELECT call_id, 0, account_id, 'EUR', 10000 + call_id %% 977, 120, 1 + call_id %% 40,
       (101 + call_id %% 40)::text, ended_at
  FROM cdr;
INSERT INTO ledger_transaction (transaction_id, kind, reference, at, posted_at)
SELECT call_id, 'call', call_id::text, ended_at, ended_at FROM cdr;
INSERT INTO posting (transaction_id, position, account_id, amount_micros, currency,
                     contra_account_id, contra_book)
SELECT call_id, 0, account_id, -amount_micros, 'EUR', 1, 'sales' FROM charge;
UPDATE account
   SET balance_micros = -spent.micros
  FROM (SELECT account_id, sum(amount_micros) AS micros FROM charge GROUP BY account_id) AS spent
 WHERE account.account_id = spent.account_id;
