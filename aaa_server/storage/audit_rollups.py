"""Proof of the rollups: hours against the records, their cuts and longer spans against the hours.

An hour that is noted as stale is not looked at, and no span that has one: reports do not
read these either. Each is a statement as in audit.py.
"""

from __future__ import annotations

_CALLS = """
SELECT 'calls of account ' || account_id || ' in the hour of ' || hour,
       coalesce(recorded.sums::text, 'none'),
       coalesce(kept.sums::text, 'none')
  FROM (SELECT date_trunc('hour', ended_at, 'UTC') AS hour,
               coalesce(account_id, 0) AS account_id,
               ROW(count(*) FILTER (WHERE refusal IS NULL),
                   count(*) FILTER (WHERE refusal IS NULL AND seconds > 0),
                   count(refusal),
                   coalesce(sum(seconds) FILTER (WHERE refusal IS NULL), 0),
                   coalesce(max(seconds) FILTER (WHERE refusal IS NULL), 0)) AS sums
          FROM cdr_ever
         GROUP BY 1, 2) AS recorded
  FULL JOIN (SELECT hour,
                    account_id,
                    ROW(sum(attempts)::bigint,
                        sum(answered)::bigint,
                        sum(refused)::bigint,
                        sum(seconds)::bigint,
                        max(longest_seconds)) AS sums
               FROM call_hour
              WHERE cut = 'all'
              GROUP BY 1, 2) AS kept USING (hour, account_id)
 WHERE recorded.sums IS DISTINCT FROM kept.sums
   AND hour NOT IN (SELECT hour FROM rollup_stale WHERE rollup = 'call')
 ORDER BY hour, account_id"""

_CHARGES = """
SELECT 'charges of account ' || account_id || ' at level ' || level || ' in the hour of ' || hour,
       coalesce(recorded.sums::text, 'none'),
       coalesce(kept.sums::text, 'none')
  FROM (SELECT date_trunc('hour', at, 'UTC') AS hour,
               account_id,
               level,
               currency,
               ROW(count(*) FILTER (WHERE number = 1),
                   count(*) FILTER (WHERE number > 1),
                   sum(billed_seconds)::bigint,
                   sum(package_seconds)::bigint,
                   sum(amount_micros)::bigint) AS sums
          FROM charge
         GROUP BY 1, 2, 3, 4) AS recorded
  FULL JOIN (SELECT hour,
                    party_id AS account_id,
                    level,
                    currency,
                    ROW(sum(calls)::bigint,
                        sum(corrections)::bigint,
                        sum(billed_seconds)::bigint,
                        sum(package_seconds)::bigint,
                        sum(amount_micros)::bigint) AS sums
               FROM charge_hour
              WHERE cut = 'all'
              GROUP BY 1, 2, 3, 4) AS kept USING (hour, account_id, level, currency)
 WHERE recorded.sums IS DISTINCT FROM kept.sums
   AND hour NOT IN (SELECT hour FROM rollup_stale WHERE rollup = 'charge')
 ORDER BY hour, account_id, level"""

_LEDGER = """
SELECT 'postings of account ' || account_id || ' in the hour of ' || hour || ', ' || kind,
       coalesce(recorded.sums::text, 'none'),
       coalesce(kept.sums::text, 'none')
  FROM (SELECT date_trunc('hour', posted_at, 'UTC') AS hour,
               account_id,
               kind,
               contra_account_id,
               contra_book,
               currency,
               ROW(count(*),
                   sum(amount_micros)::bigint,
                   sum(least(amount_micros, 0))::bigint) AS sums
          FROM ledger_transaction
          JOIN posting USING (transaction_id)
         GROUP BY 1, 2, 3, 4, 5, 6) AS recorded
  FULL JOIN (SELECT hour, account_id, kind, contra_account_id, contra_book, currency,
                    ROW(postings, amount_micros, debit_micros) AS sums
               FROM ledger_hour) AS kept
 USING (hour, account_id, kind, contra_account_id, contra_book, currency)
 WHERE recorded.sums IS DISTINCT FROM kept.sums
   AND hour NOT IN (SELECT hour FROM rollup_stale WHERE rollup = 'ledger')
 ORDER BY hour, account_id, kind"""

_CALL_CUTS = """
SELECT 'calls of the hour of ' || hour || ', ' || cut || ' '
       || concat_ws(' ', account_id, resource_group_id, rate_id, prefix),
       coalesce(whole.sums::text, 'none'),
       coalesce(kept.sums::text, 'none')
  FROM (SELECT CASE grouping(account_id, resource_group_id, prefix)
                   WHEN 3 THEN 'account'
                   WHEN 5 THEN 'route'
                   ELSE 'destination' END AS cut,
               hour,
               coalesce(account_id, 0) AS account_id,
               coalesce(resource_group_id, 0) AS resource_group_id,
               coalesce(rate_id, 0) AS rate_id,
               coalesce(prefix, '') AS prefix,
               ROW(sum(attempts)::bigint, sum(answered)::bigint, sum(effective)::bigint,
                   sum(refused)::bigint, sum(seconds)::bigint, sum(timed)::bigint,
                   sum(setup_ms)::bigint, max(longest_seconds)) AS sums
          FROM call_hour
         WHERE cut = 'all'
         GROUP BY hour,
                  GROUPING SETS ((account_id), (resource_group_id), (rate_id, prefix))) AS whole
  FULL JOIN (SELECT cut, hour, account_id, resource_group_id, rate_id, prefix,
                    ROW(attempts, answered, effective, refused, seconds, timed, setup_ms,
                        longest_seconds) AS sums
               FROM call_hour
              WHERE cut <> 'all') AS kept
 USING (cut, hour, account_id, resource_group_id, rate_id, prefix)
 WHERE whole.sums IS DISTINCT FROM kept.sums
 ORDER BY hour, cut"""

_CHARGE_CUTS = """
SELECT 'charges of the hour of ' || hour || ', ' || cut || ' '
       || concat_ws(' ', account_id, level, provider_id, rate_id, prefix, currency),
       coalesce(whole.sums::text, 'none'),
       coalesce(kept.sums::text, 'none')
  FROM (SELECT CASE grouping(customer_id, provider_id, prefix)
                   WHEN 3 THEN 'customer'
                   WHEN 5 THEN 'provider'
                   ELSE 'destination' END AS cut,
               hour,
               coalesce(customer_id, 0) AS account_id,
               level,
               coalesce(provider_id, 0) AS provider_id,
               coalesce(rate_id, 0) AS rate_id,
               coalesce(prefix, '') AS prefix,
               currency,
               ROW(sum(calls)::bigint, sum(corrections)::bigint, sum(billed_seconds)::bigint,
                   sum(package_seconds)::bigint, sum(amount_micros)::bigint) AS sums
          FROM (SELECT hour, least(level, 0) AS level, provider_id, rate_id, prefix,
                       charge_hour.currency, calls, corrections, billed_seconds, package_seconds,
                       amount_micros,
                       caller.chain[cardinality(caller.chain)] AS customer_id
                  FROM charge_hour
                  JOIN account AS party ON party.account_id = charge_hour.party_id
                  JOIN account AS caller ON caller.account_id = charge_hour.account_id
                 WHERE cut = 'all'
                   AND cardinality(party.chain) = 1) AS own
         GROUP BY hour, level, currency,
                  GROUPING SETS ((customer_id), (provider_id), (rate_id, prefix))) AS whole
  FULL JOIN (SELECT cut, hour, account_id, level, provider_id, rate_id, prefix, currency,
                    ROW(calls, corrections, billed_seconds, package_seconds, amount_micros) AS sums
               FROM charge_hour
              WHERE cut <> 'all') AS kept
 USING (cut, hour, account_id, level, provider_id, rate_id, prefix, currency)
 WHERE whole.sums IS DISTINCT FROM kept.sums
 ORDER BY hour, cut"""

_CALL_SPANS = """
WITH standing AS MATERIALIZED (
    SELECT width, begins, ends
      FROM rollup_span
     WHERE rollup = 'call'
       AND NOT EXISTS (SELECT
                         FROM rollup_stale
                        WHERE rollup_stale.rollup = 'call'
                          AND hour >= begins
                          AND hour < ends)
)
SELECT 'calls of the ' || width || ' of ' || begins || ', ' || cut || ' '
       || concat_ws(' ', account_id, resource_group_id, rate_id, prefix),
       coalesce(made::text, 'none'),
       coalesce(kept::text, 'none')
  FROM (SELECT added.*
          FROM standing
         CROSS JOIN LATERAL add_up_calls(standing.width, standing.begins, standing.begins,
                                         standing.ends) AS added) AS made
  FULL JOIN (SELECT call_span.* FROM call_span JOIN standing USING (width, begins)) AS kept
 USING (width, cut, begins, account_id, resource_group_id, rate_id, prefix)
 WHERE made IS DISTINCT FROM kept
 ORDER BY begins, cut"""

_CHARGE_SPANS = """
WITH standing AS MATERIALIZED (
    SELECT width, begins, ends
      FROM rollup_span
     WHERE rollup = 'charge'
       AND NOT EXISTS (SELECT
                         FROM rollup_stale
                        WHERE rollup_stale.rollup = 'charge'
                          AND hour >= begins
                          AND hour < ends)
)
SELECT 'charges of the ' || width || ' of ' || begins || ', ' || cut || ' '
       || concat_ws(' ', party_id, level, account_id, provider_id, rate_id, prefix, own_rate_id,
                    currency),
       coalesce(made::text, 'none'),
       coalesce(kept::text, 'none')
  FROM (SELECT added.*
          FROM standing
         CROSS JOIN LATERAL add_up_charges(standing.width, standing.begins, standing.begins,
                                           standing.ends) AS added) AS made
  FULL JOIN (SELECT charge_span.* FROM charge_span JOIN standing USING (width, begins)) AS kept
 USING (width, cut, begins, party_id, level, account_id, provider_id, rate_id, prefix, own_rate_id,
        currency)
 WHERE made IS DISTINCT FROM kept
 ORDER BY begins, cut"""

_LEDGER_SPANS = """
WITH standing AS MATERIALIZED (
    SELECT width, begins, ends
      FROM rollup_span
     WHERE rollup = 'ledger'
       AND NOT EXISTS (SELECT
                         FROM rollup_stale
                        WHERE rollup_stale.rollup = 'ledger'
                          AND hour >= begins
                          AND hour < ends)
)
SELECT 'postings of the ' || width || ' of ' || begins || ', account ' || account_id || ' ' || kind,
       coalesce(made::text, 'none'),
       coalesce(kept::text, 'none')
  FROM (SELECT added.*
          FROM standing
         CROSS JOIN LATERAL add_up_ledger(standing.width, standing.begins, standing.begins,
                                          standing.ends) AS added) AS made
  FULL JOIN (SELECT ledger_span.* FROM ledger_span JOIN standing USING (width, begins)) AS kept
 USING (width, begins, account_id, kind, contra_account_id, contra_book, currency)
 WHERE made IS DISTINCT FROM kept
 ORDER BY begins, account_id"""

STATEMENTS = {
    "hours of calls are what the records say": _CALLS,
    "hours of charges are what the charges say": _CHARGES,
    "hours of the ledger are what the postings say": _LEDGER,
    "cuts of hours of calls add up to the whole": _CALL_CUTS,
    "cuts of hours of charges add up to the whole": _CHARGE_CUTS,
    "days and months of calls are the sums of their hours": _CALL_SPANS,
    "days and months of charges are the sums of their hours": _CHARGE_SPANS,
    "days and months of the ledger are the sums of their hours": _LEDGER_SPANS,
}
