/*
title = "Credit control"
about = "What accounts may still spend, the shortest of money first."

[parameters]
account = { kind = "account", about = "Only this account and those below it." }
days = { kind = "integer", about = "Days whose usage is the measure.", default = 7 }

[columns]
account = { title = "Account", kind = "text" }
name = { title = "Name", kind = "text" }
prepaid = { title = "Prepaid", kind = "yes" }
status = { title = "Status", kind = "word" }
currency = { title = "Currency", kind = "currency" }
balance = { title = "Balance", kind = "money", total = "sum" }
reserved = { title = "Reserved", kind = "money", total = "sum" }
credit_limit = { title = "Credit limit", kind = "money", total = "sum" }
available = { title = "Available", kind = "money", total = "sum" }
used = { title = "Limit used", kind = "percent" }
daily = { title = "Used a day", kind = "money", total = "sum" }
days_left = { title = "Days left", kind = "integer" }
low = { title = "Below threshold", kind = "yes" }
*/
WITH spent AS (
    SELECT posting.account_id,
           -sum(posting.amount_micros) AS amount
      FROM ledger_between(now() - make_interval(days => %(days)s), 'infinity', '{day}', NULL) AS posting
     WHERE posting.kind IN ('call', 'fee')
     GROUP BY posting.account_id
), standing AS (
    SELECT account.*,
           balance_micros - reserved_micros + credit_limit_micros AS available,
           div(greatest(0, coalesce(spent.amount, 0)), greatest(1, %(days)s)) AS daily
      FROM (SELECT account_id, code, name, prepaid, status, currency, balance_micros,
                   reserved_micros, credit_limit_micros, low_balance_micros, chain, kind
              FROM account) AS account
      LEFT JOIN spent USING (account_id)
     WHERE account.kind IN ('customer', 'reseller')
       AND account.status <> 'closed'
       AND (%(account)s::bigint IS NULL OR account.chain @> ARRAY[%(account)s::bigint])
)
SELECT code AS account,
       name,
       prepaid,
       status,
       currency,
       balance_micros AS balance,
       reserved_micros AS reserved,
       credit_limit_micros AS credit_limit,
       available,
       div(1000000 * greatest(0, reserved_micros - balance_micros)::numeric,
           nullif(credit_limit_micros, 0)) AS used,
       daily,
       CASE WHEN daily > 0 THEN div(greatest(0, available)::numeric, daily) END AS days_left,
       coalesce(balance_micros < low_balance_micros, false) AS low
  FROM standing
 ORDER BY CASE WHEN daily > 0 THEN available::numeric / daily END NULLS LAST,
          available,
          code

/* tie
title = "Entries of the accounts in the ledger"
column = "balance"
unless = ["account"]
*/
SELECT posting.currency,
       sum(posting.amount_micros)
  FROM ledger_between('-infinity', 'infinity', '{month,day}', NULL) AS posting
  JOIN account USING (account_id)
 WHERE account.kind IN ('customer', 'reseller')
   AND account.status <> 'closed'
 GROUP BY posting.currency
