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
    SELECT hour,
           account_id,
           party_id,
           level,
           provider_id, -- operator
           rate_id,
           prefix,
           currency,
           calls,
           billed_seconds,
           amount_micros
      FROM charge_hour
     WHERE %(rolled)s
       AND cut = %(cut)s
       AND hour >= %(begin)s
       AND hour < %(end)s
       AND hour NOT IN (SELECT hour FROM rollup_stale WHERE rollup = 'charge')
     UNION ALL
    SELECT hour,
           account_id,
           party_id,
           level,
           provider_id, -- operator
           rate_id,
           prefix,
           currency,
           calls,
           billed_seconds,
           amount_micros
      FROM uncounted_charges(%(begin)s, %(end)s, %(rolled)s)
     WHERE cut = %(cut)s
), home AS (
    SELECT currency FROM account WHERE account_id = %(viewer_id)s
), worth AS (
    -- What a unit of each currency was worth at home in each hour; entered in either direction.
    SELECT hour,
           other.currency,
           CASE WHEN other.currency = home.currency THEN 10000000000::numeric
                ELSE coalesce(
                    (SELECT rate_e10
                       FROM exchange_rate
                      WHERE (from_currency, to_currency) = (other.currency, home.currency)
                        AND effective_from <= hour
                      ORDER BY effective_from DESC
                      LIMIT 1),
                    (SELECT round(1e20 / rate_e10)
                       FROM exchange_rate
                      WHERE (from_currency, to_currency) = (home.currency, other.currency)
                        AND effective_from <= hour
                      ORDER BY effective_from DESC
                      LIMIT 1))
           END AS rate_e10
      FROM generate_series(date_trunc('hour', %(begin)s::timestamptz, 'UTC'),
                           %(end)s::timestamptz,
                           '1 hour') AS hour
     CROSS JOIN (SELECT DISTINCT currency FROM account) AS other
     CROSS JOIN home
), grouped AS (
    SELECT {group}
           charged.currency,
           worth.rate_e10,
           sum(charged.calls) FILTER (WHERE side.sold
                                         OR charged.level = 0
                                            AND charged.party_id = %(viewer_id)s) AS calls,
           sum(charged.billed_seconds) FILTER (WHERE side.sold) AS minutes_sold,
           sum(charged.billed_seconds) FILTER (WHERE NOT side.sold) AS minutes_bought,
           coalesce(sum(charged.amount_micros) FILTER (WHERE side.sold), 0) AS revenue,
           coalesce(sum(charged.amount_micros) FILTER (WHERE NOT side.sold), 0) AS cost
      FROM charged
      LEFT JOIN account AS party ON party.account_id = charged.party_id
     CROSS JOIN LATERAL (
           SELECT CASE
                  WHEN charged.level = -1 THEN false
                  WHEN charged.party_id = %(viewer_id)s THEN false
                  WHEN party.parent_id = %(viewer_id)s OR %(cut)s <> 'all' THEN true
                  END AS sold) AS side
      JOIN worth
        ON worth.hour = date_trunc('hour', charged.hour, 'UTC')
       AND worth.currency = charged.currency
      LEFT JOIN account AS caller ON caller.account_id = charged.account_id
      LEFT JOIN account AS customer
             ON customer.account_id = caller.chain[cardinality(caller.chain)] -- operator
             ON customer.account_id = caller.chain[array_position(caller.chain, %(viewer_id)s) - 1] -- viewer
      LEFT JOIN account AS provider ON provider.account_id = charged.provider_id -- operator
      LEFT JOIN rate ON rate.rate_id = charged.rate_id
     WHERE side.sold IS NOT NULL
       AND (%(account)s::bigint IS NULL OR caller.chain @> ARRAY[%(account)s::bigint])
       AND (%(prefix)s::text IS NULL OR starts_with(charged.prefix, %(prefix)s))
     GROUP BY {by} charged.currency, worth.rate_e10
), valued AS (
    SELECT {names}
           currency,
           sum(calls) AS calls,
           sum(minutes_sold) AS minutes_sold,
           sum(minutes_bought) AS minutes_bought,
           sum(revenue) AS revenue,
           sum(cost) AS cost,
           floor(sum(revenue * rate_e10) / 10000000000 + 0.5) AS home_revenue,
           floor(sum((revenue - cost) * rate_e10) / 10000000000 + 0.5) AS home_margin
      FROM grouped
     GROUP BY {names} currency
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
  FROM ledger_transaction
  JOIN posting USING (transaction_id)
 WHERE ledger_transaction.posted_at >= %(begin)s
   AND ledger_transaction.posted_at < %(end)s
   AND ledger_transaction.kind = 'call'
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
  FROM ledger_transaction
  JOIN posting USING (transaction_id)
 WHERE ledger_transaction.posted_at >= %(begin)s
   AND ledger_transaction.posted_at < %(end)s
   AND ledger_transaction.kind = 'call'
   AND posting.contra_book = 'purchases' -- operator
   AND posting.account_id = %(viewer_id)s -- viewer
 GROUP BY posting.currency
