/*
title = "Provider settlement"
about = "What providers carried by our count, by their own codes, and what they get for it."
period = "last-month"
operator_only = true
default_group = ["provider", "prefix"]
free = ["month", "day"]
spans = [{ name = "own row", of = ["provider", "prefix", "destination"] }]

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
{charges}
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
 WHERE charged.level = -1
   AND (%(provider)s::bigint IS NULL OR charged.party_id = %(provider)s)
 GROUP BY {by} charged.currency
 ORDER BY {by} charged.currency

/* tie
title = "Purchases of calls in the ledger"
column = "cost"
*/
SELECT posting.currency,
       sum(posting.amount_micros)
  FROM ledger_between(%(begin)s, %(end)s, '{month,day}', NULL) AS posting
 WHERE posting.kind = 'call'
   AND posting.contra_book = 'purchases'
   AND (%(provider)s::bigint IS NULL OR posting.account_id = %(provider)s)
 GROUP BY posting.currency
