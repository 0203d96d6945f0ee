/*
title = "Margin"
about = "What calls brought in and what they cost, by when they were posted; losses first."
period = "this-month"
default_group = ["customer"]
free = ["month", "day"]
cuts = [
    { name = "provider", of = ["provider"], operator_only = true },
    { name = "customer", of = ["customer"], operator_only = true },
    { name = "destination", of = ["destination", "prefix"], operator_only = true },
]
spans = [
    { name = "account", of = ["customer", "account"], operator_only = true },
    { name = "provider destination", of = ["provider", "destination", "prefix"], operator_only = true },
    { name = "account provider", of = ["customer", "account", "provider"], operator_only = true },
    { name = "account destination", of = ["customer", "account", "destination", "prefix"], widths = ["month"], operator_only = true },
    { name = "party account", of = ["customer", "account"] },
    { name = "party destination", of = ["destination", "prefix"], widths = ["month"] },
]
chart = { label = "customer", value = "home_margin" }

[parameters]
account = { kind = "account", about = "Only calls of this account and those below it." }
prefix = { kind = "number", about = "Only destinations that begin so." }

[columns]
customer = { title = "Customer", kind = "text", group = "coalesce(customer.code, '')" }
account = { title = "Account", kind = "text", group = "coalesce(caller.code, '')" }
provider = { title = "Provider", kind = "text", group = "coalesce(provider.code, '')", operator_only = true }
destination = { title = "Destination", kind = "text", group = "coalesce(nullif(rate.destination, ''), charged.prefix)" }
prefix = { title = "Prefix", kind = "phone", group = "charged.prefix" }
month = { title = "Month", kind = "text", group = "to_char(charged.hour AT TIME ZONE %(zone)s, 'YYYY-MM')" }
day = { title = "Day", kind = "day", group = "(charged.hour AT TIME ZONE %(zone)s)::date" }
currency = { title = "Currency", kind = "currency" }
calls = { title = "Calls", kind = "integer", total = "sum" }
minutes_sold = { title = "Minutes sold", kind = "minutes", total = "sum" }
minutes_bought = { title = "Minutes bought", kind = "minutes", total = "sum" }
revenue = { title = "Revenue", kind = "money", total = "sum" }
cost = { title = "Cost", kind = "money", total = "sum" }
margin = { title = "Margin", kind = "money", total = "sum" }
home_margin = { title = "Margin converted", kind = "money", total = "sum", currency = "home_currency" }
home_currency = { title = "Converted to", kind = "currency" }
percent = { title = "Margin %", kind = "percent" }
*/
WITH charged AS (
{charges}
), home AS (
    SELECT currency FROM account WHERE account_id = %(viewer_id)s
), worth AS (
    SELECT hour,
           other.currency,
           exchange_at(other.currency, home.currency, hour) AS rate_e10
      FROM (SELECT generate_series(begins, ends - interval '1 hour', '1 hour') AS hour
              FROM hours_within('charge', %(begin)s, %(end)s, %(widths)s, %(clock)s)
             WHERE %(rolled)s
             UNION
            SELECT date_trunc('hour', hour, 'UTC') FROM charged WHERE NOT spanned) AS hour
     CROSS JOIN (SELECT DISTINCT currency FROM account) AS other
     CROSS JOIN home
), grouped AS (
    SELECT {group}
           charged.currency,
           sum(charged.calls) FILTER (WHERE side.sold
                                         OR charged.level = 0
                                            AND charged.party_id = %(viewer_id)s) AS calls,
           sum(charged.billed_seconds) FILTER (WHERE side.sold) AS minutes_sold,
           sum(charged.billed_seconds) FILTER (WHERE NOT side.sold) AS minutes_bought,
           coalesce(sum(charged.amount_micros) FILTER (WHERE side.sold), 0) AS revenue,
           coalesce(sum(charged.amount_micros) FILTER (WHERE NOT side.sold), 0) AS cost,
           sum(value.home_e10) FILTER (WHERE side.sold) AS revenue_e10,
           sum(CASE WHEN side.sold THEN value.home_e10 ELSE -value.home_e10 END) AS margin_e10
      FROM charged
     CROSS JOIN home
      LEFT JOIN account AS party ON party.account_id = charged.party_id
     CROSS JOIN LATERAL (
           SELECT CASE
                  WHEN charged.level = -1 THEN false
                  WHEN charged.party_id = %(viewer_id)s THEN false
                  -- Of the operator's own cuts, which name no party, all is sold by it.
                  WHEN party.parent_id = %(viewer_id)s OR charged.party_id = 0 THEN true
                  END AS sold) AS side
      LEFT JOIN worth
             ON NOT charged.spanned
            AND worth.hour = date_trunc('hour', charged.hour, 'UTC')
            AND worth.currency = charged.currency
     CROSS JOIN LATERAL (
           SELECT CASE
                  WHEN charged.currency = home.currency
                  THEN charged.amount_micros * 10000000000::numeric
                  WHEN charged.spanned THEN charged.home_e10
                  ELSE charged.amount_micros * worth.rate_e10
                  END AS home_e10) AS value
      LEFT JOIN account AS caller ON caller.account_id = charged.account_id
      LEFT JOIN account AS customer
             ON customer.account_id = caller.chain[cardinality(caller.chain)] -- operator
             ON customer.account_id = caller.chain[array_position(caller.chain, %(viewer_id)s) - 1] -- viewer
      LEFT JOIN account AS provider ON provider.account_id = charged.provider_id -- operator
      LEFT JOIN rate ON rate.rate_id = charged.rate_id
     WHERE side.sold IS NOT NULL
       AND (%(account)s::bigint IS NULL OR caller.chain @> ARRAY[%(account)s::bigint])
       AND (%(prefix)s::text IS NULL OR starts_with(charged.prefix, %(prefix)s))
     GROUP BY {by} charged.currency
), valued AS (
    SELECT grouped.*,
           floor(revenue_e10 / 10000000000 + 0.5) AS home_revenue,
           floor(margin_e10 / 10000000000 + 0.5) AS home_margin
      FROM grouped
)
SELECT {names}
       valued.currency,
       coalesce(calls, 0) AS calls,
       coalesce(minutes_sold, 0) AS minutes_sold,
       coalesce(minutes_bought, 0) AS minutes_bought,
       revenue,
       cost,
       revenue - cost AS margin,
       home_margin,
       home.currency AS home_currency,
       floor(1000000 * sum(home_margin) OVER alike
             / nullif(sum(home_revenue) OVER alike, 0) + 0.5)::bigint AS percent
  FROM valued
 CROSS JOIN home
WINDOW alike AS (PARTITION BY {names} true)
 ORDER BY sum(home_margin) OVER alike, {names} valued.currency

/* tie
title = "Sales of calls in the ledger"
column = "revenue"
unless = ["account", "prefix"]
*/
SELECT posting.currency,
       -sum(posting.amount_micros)
  FROM ledger_between(%(begin)s, %(end)s, '{month,day}', NULL) AS posting
 WHERE posting.kind = 'call'
   AND posting.contra_account_id = %(viewer_id)s
   AND posting.contra_book = 'sales'
 GROUP BY posting.currency

/* tie
title = "Purchases of calls in the ledger"
column = "cost"
unless = ["account", "prefix"]
*/
SELECT posting.currency,
       -sum(posting.amount_micros) -- viewer
       sum(posting.amount_micros) -- operator
  FROM ledger_between(%(begin)s, %(end)s, '{month,day}', NULL) AS posting
 WHERE posting.kind = 'call'
   AND posting.contra_book = 'purchases' -- operator
   AND posting.account_id = %(viewer_id)s -- viewer
 GROUP BY posting.currency
