/*
title = "Provider settlement"
about = "What providers carried by our count, by their own codes, and what they get for it."
period = "last-month"
operator_only = true
default_group = ["provider", "prefix"]

[parameters]
provider = { kind = "account", about = "Only this provider." }

[columns]
provider = { title = "Provider", kind = "text", group = "provider.code" }
prefix = { title = "Prefix", kind = "phone", group = "coalesce(rate.prefix, '')" }
destination = { title = "Destination", kind = "text", group = "coalesce(rate.destination, '')" }
month = { title = "Month", kind = "text", group = "to_char(charged.hour AT TIME ZONE %(zone)s, 'YYYY-MM')" }
day = { title = "Day", kind = "day", group = "(charged.hour AT TIME ZONE %(zone)s)::date" }
currency = { title = "Currency", kind = "currency" }
calls = { title = "Calls", kind = "integer", total = "sum" }
corrections = { title = "Corrections", kind = "integer", total = "sum" }
minutes = { title = "Minutes", kind = "minutes", total = "sum" }
cost = { title = "Cost", kind = "money", total = "sum" }
*/
WITH charged AS (
    SELECT hour, party_id, own_rate_id, currency, calls, corrections, billed_seconds, amount_micros
      FROM charge_hour
     WHERE %(rolled)s
       AND cut = 'all'
       AND level = -1
       AND hour >= %(begin)s
       AND hour < %(end)s
       AND hour NOT IN (SELECT hour FROM rollup_stale WHERE rollup = 'charge')
     UNION ALL
    SELECT hour, party_id, own_rate_id, currency, calls, corrections, billed_seconds, amount_micros
      FROM uncounted_charges(%(begin)s, %(end)s, %(rolled)s)
     WHERE cut = 'all'
       AND level = -1
)
SELECT {group}
       charged.currency,
       sum(charged.calls) AS calls,
       sum(charged.corrections) AS corrections,
       sum(charged.billed_seconds) AS minutes,
       sum(charged.amount_micros) AS cost
  FROM charged
  JOIN account AS provider ON provider.account_id = charged.party_id
  LEFT JOIN rate ON rate.rate_id = charged.own_rate_id
 WHERE (%(provider)s::bigint IS NULL OR charged.party_id = %(provider)s)
 GROUP BY {by} charged.currency
 ORDER BY {by} charged.currency

/* tie
title = "Purchases of calls in the ledger"
column = "cost"
*/
SELECT posting.currency,
       sum(posting.amount_micros)
  FROM ledger_transaction
  JOIN posting USING (transaction_id)
 WHERE ledger_transaction.posted_at >= %(begin)s
   AND ledger_transaction.posted_at < %(end)s
   AND ledger_transaction.kind = 'call'
   AND posting.contra_book = 'purchases'
   AND (%(provider)s::bigint IS NULL OR posting.account_id = %(provider)s)
 GROUP BY posting.currency
