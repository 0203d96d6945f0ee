-- The calls of a day with their charges and their ledger: %(calls)s of them, numbered from
-- %(first)s in the order in which they ended, most of them during the day. Some customers
-- call much more than others, and to some destinations.
SELECT setseed(%(seed)s);

CREATE TEMPORARY TABLE made ON COMMIT DROP AS
SELECT %(first)s + row_number() OVER (ORDER BY drawn.ended_at) AS call_id,
       caller.account_id,
       CASE seller.kind WHEN 'reseller' THEN seller.account_id END AS seller_id,
       provider.account_id AS provider_id,
       provider.currency AS provider_currency,
       provider.resource_group_id,
       rate.rate_id,
       rate.prefix,
       own.rate_id AS provider_rate_id,
       drawn.ended_at,
       drawn.seconds
  FROM (SELECT 'customer' || (999 * power(random(), 3))::int AS caller,
               (1000 + (299 * power(random(), 3))::int)::text AS prefix,
               (random() * 9)::int AS provider,
               CASE WHEN random() < 0.333 THEN 0 ELSE 1 + (power(random(), 2) * 600)::int END
               AS seconds,
               %(day)s::timestamptz
               + interval '1 day' * CASE WHEN random() < 0.3 THEN random() * 0.99999
                                         ELSE 0.33 + 0.3 * (random() + random()) END AS ended_at
          FROM generate_series(1, %(calls)s)) AS drawn
  JOIN account AS caller ON caller.code = drawn.caller
  JOIN account AS seller ON seller.account_id = caller.parent_id
  JOIN (SELECT row_number() OVER (ORDER BY resource_group_id) - 1 AS number,
               resource_group_id,
               tariff_id,
               account_id,
               account.currency
          FROM resource_group
          JOIN account USING (account_id)) AS provider ON provider.number = drawn.provider
  JOIN rate ON rate.prefix = drawn.prefix
           AND rate.tariff_id = (SELECT min(tariff_id) FROM tariff)
  JOIN rate AS own ON own.prefix = drawn.prefix
                  AND own.tariff_id = provider.tariff_id;

INSERT INTO cdr (call_id, client_id, session_key, account_id, party_id, levels, routes,
                 resource_group_out_id, granted_seconds, authorized_at, ani, called, sip_call_id,
                 ended_at, ended_by, duration_ms, seconds, cause, postings)
SELECT call_id, 1, call_id::text, account_id, array_remove(ARRAY[account_id, seller_id, provider_id], NULL),
       '[[' || account_id || ',' || rate_id || ',"' || prefix || '","USD",10000000,0,0,1,1,0,0,10000000000]]',
       '[]', resource_group_id, 7200,
       greatest(ended_at - make_interval(secs => seconds + 5), '2026-10-01'),
       '3491' || call_id %% 1000000, prefix || call_id, call_id || '@pbx', ended_at, 'stop',
       1000 * seconds, seconds, CASE WHEN seconds > 0 THEN '16' ELSE '17' END, (seconds > 0)::int
  FROM made
 ORDER BY made.call_id;
INSERT INTO charge (call_id, level, account_id, currency, amount_micros, billed_seconds, rate_id,
                    prefix, at)
SELECT call_id, party.level, party.account_id, party.currency, seconds * party.price, seconds,
       party.rate_id, prefix, ended_at
  FROM made
 CROSS JOIN LATERAL (VALUES (0, account_id, 'USD', 200, rate_id),
                            (1, seller_id, 'USD', 150, rate_id),
                            (-1, provider_id, provider_currency, 100, provider_rate_id))
       AS party (level, account_id, currency, price, rate_id)
 WHERE seconds > 0
   AND party.account_id IS NOT NULL
 ORDER BY made.call_id;
INSERT INTO ledger_transaction (transaction_id, kind, reference, at, posted_at)
SELECT call_id, 'call', call_id::text, ended_at, ended_at
  FROM made
 WHERE seconds > 0
 ORDER BY made.call_id;
INSERT INTO posting
SELECT call_id, party.position, party.account_id, seconds * party.price, party.currency,
       party.contra_id, party.book
  FROM made
 CROSS JOIN (SELECT account_id AS admin_id FROM account WHERE kind = 'admin') AS admin
 CROSS JOIN LATERAL (VALUES (0, account_id, 'USD', -200, coalesce(seller_id, admin_id), 'sales'),
                            (1, seller_id, 'USD', -150, admin_id, 'sales'),
                            (2, provider_id, provider_currency, 100, admin_id, 'purchases'))
       AS party (position, account_id, currency, price, contra_id, book)
 WHERE seconds > 0
   AND party.account_id IS NOT NULL
 ORDER BY made.call_id
