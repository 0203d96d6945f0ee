/*
title = "Top destinations"
about = "Where most was sold, by when it was posted."
period = "this-month"
default_group = ["destination"]
free = ["limit"]
cuts = [{ name = "destination", of = ["destination", "prefix"], operator_only = true }]
spans = [
    { name = "provider destination", of = ["destination", "prefix"], operator_only = true },
    { name = "account", of = ["account"], operator_only = true },
    { name = "account destination", of = ["account", "destination", "prefix"], widths = ["month"], operator_only = true },
    { name = "party account", of = ["account"] },
    { name = "party destination", of = ["destination", "prefix"], widths = ["month"] },
]
chart = { label = "destination", value = "revenue" }

[parameters]
account = { kind = "account", about = "Only calls of this account and those below it." }
limit = { kind = "integer", about = "How many lines.", default = 20 }

[columns]
destination = { title = "Destination", kind = "text", group = "coalesce(nullif(rate.destination, ''), charged.prefix)" }
prefix = { title = "Prefix", kind = "phone", group = "charged.prefix" }
account = { title = "Account", kind = "text", group = "coalesce(caller.code, '')" }
currency = { title = "Currency", kind = "currency" }
calls = { title = "Calls", kind = "integer", total = "sum" }
minutes = { title = "Minutes", kind = "minutes", total = "sum" }
revenue = { title = "Revenue", kind = "money", total = "sum" }
share = { title = "Share", kind = "percent" }
*/
WITH charged AS (
{charges}
)
SELECT {group}
       charged.currency,
       sum(charged.calls) AS calls,
       sum(charged.billed_seconds) AS minutes,
       sum(charged.amount_micros) AS revenue,
       floor(1000000 * sum(charged.amount_micros)
             / nullif(sum(sum(charged.amount_micros)) OVER (PARTITION BY charged.currency), 0)
             + 0.5)::bigint AS share
  FROM charged
  LEFT JOIN account AS party ON party.account_id = charged.party_id
  LEFT JOIN account AS caller ON caller.account_id = charged.account_id
  LEFT JOIN rate ON rate.rate_id = charged.rate_id
 WHERE charged.level >= 0
   AND (charged.party_id = 0
        OR party.parent_id = %(viewer_id)s
        OR charged.level = 0 AND charged.party_id = %(viewer_id)s)
   AND (%(account)s::bigint IS NULL OR caller.chain @> ARRAY[%(account)s::bigint])
 GROUP BY {by} charged.currency
 ORDER BY revenue DESC, {by} charged.currency
 LIMIT %(limit)s
