-- A month of calls, made in the database itself: %(calls)s records with their charges, their
-- ledger, a thousand customers, some of whom call much more than others.
SELECT cdr_add_month('2026-10-01');
SELECT setseed(0.5);

INSERT INTO account (code, kind, prepaid, currency) VALUES ('admin', 'admin', false, 'USD');
INSERT INTO account (code, kind, parent_id, prepaid, currency)
SELECT 'provider' || number, 'provider', admin.account_id, false,
       CASE number %% 3 WHEN 0 THEN 'EUR' ELSE 'USD' END
  FROM generate_series(0, 9) AS number, account AS admin
 WHERE admin.kind = 'admin';
INSERT INTO account (code, kind, parent_id, prepaid, currency)
SELECT 'reseller' || number, 'reseller', admin.account_id, false, 'USD'
  FROM generate_series(0, 19) AS number, account AS admin
 WHERE admin.kind = 'admin';
INSERT INTO account (code, kind, parent_id, prepaid, currency)
SELECT 'customer' || number, 'customer', seller.account_id, false, 'USD'
  FROM generate_series(0, 999) AS number
  JOIN account AS seller ON seller.code = 'reseller' || number %% 20;
INSERT INTO exchange_rate VALUES ('EUR', 'USD', '2020-01-01', 10800000000);

INSERT INTO tariff (currency) VALUES ('USD');
INSERT INTO rate (tariff_id, prefix, destination, per_minute_nanos, initial_seconds,
                  increment_seconds, effective_from, revision)
SELECT tariff_id, (1000 + number)::text, 'Destination ' || number, 10000000, 60, 60, '2020-01-01', 1
  FROM tariff, generate_series(0, 299) AS number;
INSERT INTO resource_group (name, direction, account_id, tariff_id)
SELECT 'RG_' || number, 'out', provider.account_id, tariff.tariff_id
  FROM generate_series(0, 9) AS number
  JOIN account AS provider ON provider.code = 'provider' || number
  JOIN (SELECT tariff_id FROM tariff) AS tariff ON number = 0;

CREATE TEMPORARY TABLE made AS
SELECT number AS call_id,
       caller.account_id,
       caller.parent_id AS seller_id,
       provider.account_id AS provider_id,
       provider.currency AS provider_currency,
       rate.rate_id,
       rate.prefix,
       timestamptz '2026-10-01' + (number * interval '31 days' / %(calls)s) AS ended_at,
       CASE WHEN number %% 3 = 0 THEN 0 ELSE 1 + (drawn.talk * 600)::int END AS seconds
  FROM generate_series(1, %(calls)s) AS number
 CROSS JOIN LATERAL (SELECT (999 * power(random(), 3))::int + 0 * number AS caller,
                            (299 * power(random(), 3))::int + 0 * number AS prefix,
                            (9 * random())::int + 0 * number AS provider,
                            power(random(), 2) + 0 * number AS talk) AS drawn
  JOIN account AS caller ON caller.code = 'customer' || drawn.caller
  JOIN account AS provider ON provider.code = 'provider' || drawn.provider
  JOIN rate ON rate.prefix = (1000 + drawn.prefix)::text;

INSERT INTO cdr (call_id, client_id, session_key, account_id, party_id, levels, routes,
                 granted_seconds, authorized_at, ani, called, sip_call_id, ended_at, ended_by,
                 duration_ms, seconds, cause, postings)
SELECT call_id, 1, call_id::text, account_id, ARRAY[account_id, seller_id, provider_id],
       '[[' || account_id || ',' || rate_id || ',"' || prefix || '","USD",10000000,0,0,60,60,0,0,10000000000]]',
       '[]', 7200, greatest(ended_at - make_interval(secs => seconds + 5), '2026-10-01'),
       '3491' || call_id %% 1000000, prefix || call_id, '', ended_at, 'stop', 1000 * seconds, seconds,
       CASE WHEN seconds > 0 THEN '16' ELSE '17' END, (seconds > 0)::int
  FROM made;
INSERT INTO charge (call_id, level, account_id, currency, amount_micros, billed_seconds, rate_id,
                    prefix, at)
SELECT call_id, party.level, party.account_id, party.currency, seconds * party.price, seconds,
       rate_id, prefix, ended_at
  FROM made
 CROSS JOIN LATERAL (VALUES (0, account_id, 'USD', 200), (1, seller_id, 'USD', 150),
                            (-1, provider_id, provider_currency, 100))
       AS party (level, account_id, currency, price)
 WHERE seconds > 0;
INSERT INTO ledger_transaction (transaction_id, kind, reference, at, posted_at)
SELECT call_id, 'call', call_id::text, ended_at, ended_at
  FROM made
 WHERE seconds > 0;
INSERT INTO posting
SELECT call_id, party.position, party.account_id, seconds * party.price, party.currency,
       party.contra_id, party.book
  FROM made
 CROSS JOIN (SELECT account_id AS admin_id FROM account WHERE kind = 'admin') AS admin
 CROSS JOIN LATERAL (VALUES (0, account_id, 'USD', -200, seller_id, 'sales'),
                            (1, seller_id, 'USD', -150, admin_id, 'sales'),
                            (2, provider_id, provider_currency, 100, admin_id, 'purchases'))
       AS party (position, account_id, currency, price, contra_id, book)
 WHERE seconds > 0;
ANALYZE;
