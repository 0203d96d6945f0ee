-- A month of calls over one provider, made in the database itself: %(calls)s records with
-- what the provider gets for each, and a ledger transaction of two postings each.
SELECT cdr_add_month('2026-10-01');

INSERT INTO account (account_id, code, kind, parent_id, prepaid, currency)
VALUES (1, 'admin', 'admin', NULL, false, 'USD'),
       (2, 'acme', 'provider', 1, false, 'USD'),
       (3, 'alice', 'customer', 1, false, 'USD');
INSERT INTO tariff (currency) VALUES ('USD');
INSERT INTO rate (tariff_id, prefix, per_minute_nanos, initial_seconds, increment_seconds,
                  effective_from, revision)
SELECT tariff_id, prefix, 10020000, 1, 1, '2020-01-01', 1
  FROM tariff, unnest(ARRAY['44', '4420']) AS prefix;
INSERT INTO resource_group (name, direction, account_id, tariff_id)
SELECT 'RG_1', 'out', 2, tariff_id FROM tariff;

INSERT INTO cdr (call_id, client_id, session_key, account_id, party_id, levels, routes,
                 granted_seconds, authorized_at, started_at, ani, called, sip_call_id, ended_at,
                 ended_by, duration_ms, seconds, resource_group_out_id, postings)
SELECT call_id, 1, 'call' || call_id, 3, '{2,3}', '[]',
       '[[' || resource_group_id || ',"RG_1","sofia/gateway/acme/99' || number
       || '",2,1,"44","USD",10020000,0,0,1,1,0,0,10000000000]]',
       7200, at, at + interval '5 s', '34911', number, 'sip' || call_id,
       at + (5 + seconds) * interval '1 s', 'stop', seconds * 1000, seconds,
       resource_group_id, 1
  FROM (SELECT call_id,
               '4420' || 70000000 + (hashint8(call_id) & 1048575) AS number,
               '2026-10-01Z'::timestamptz
               + call_id::float8 / %(calls)s * 30 * 86400 * interval '1 s' AS at,
               1 + (hashint8(call_id + 7) & 511) AS seconds
          FROM generate_series(1, %(calls)s) AS call_id) AS made,
       resource_group;
INSERT INTO charge (call_id, level, number, account_id, currency, amount_micros, billed_seconds,
                    rate_id, prefix, at)
SELECT call_id, -1, 1, 2, 'USD', seconds * 167, seconds, 1 + call_id %% 2,
       CASE call_id %% 2 WHEN 0 THEN '44' ELSE '4420' END, ended_at
  FROM cdr;
INSERT INTO ledger_transaction (transaction_id, kind, reference, at, posted_at)
SELECT call_id, 'call', call_id::text, ended_at, ended_at FROM cdr;
INSERT INTO posting
SELECT call_id, 0, 3, seconds * -250, 'USD', 1, 'sales' FROM cdr
 UNION ALL
SELECT call_id, 1, 2, seconds * 167, 'USD', 1, 'purchases' FROM cdr;
