/*
title = "Revenue by product"
about = "What was sold to accounts directly below, by kind of product and when it was posted."
period = "this-month"
default_group = ["product"]
free = ["month", "day"]
spans = [{ name = "party account", of = ["product", "account"] }]
chart = { label = "product", value = "revenue" }

[parameters]
account = { kind = "account", about = "Only what this account paid." }

[columns]
product = { title = "Product", kind = "word", group = "sold.product" }
month = { title = "Month", kind = "text", group = "to_char(sold.at AT TIME ZONE %(zone)s, 'YYYY-MM')" }
day = { title = "Day", kind = "day", group = "(sold.at AT TIME ZONE %(zone)s)::date" }
account = { title = "Account", kind = "text", group = "account.code" }
currency = { title = "Currency", kind = "currency" }
items = { title = "Items", kind = "integer", total = "sum" }
minutes = { title = "Minutes", kind = "minutes", total = "sum" }
revenue = { title = "Revenue", kind = "money", total = "sum" }
*/
WITH charged AS (
{charges}
), sold AS (
    SELECT charged.hour AS at,
           charged.party_id AS account_id,
           CASE WHEN caller.card_batch_id IS NOT NULL THEN 'card calls'
                -- The price of a number of our own has no row in a price list.
                WHEN charged.rate_id = 0 THEN 'calls to own numbers'
                ELSE 'calls' END AS product,
           charged.currency,
           charged.calls AS items,
           charged.billed_seconds AS seconds,
           charged.amount_micros
      FROM charged
      LEFT JOIN account AS caller ON caller.account_id = charged.account_id
     WHERE charged.level >= 0
     UNION ALL
    SELECT ledger_transaction.posted_at,
           posting.account_id,
           CASE split_part(ledger_transaction.reference, '/', 1)
                WHEN 'package' THEN 'packages'
                WHEN 'subscription' THEN 'subscriptions'
                WHEN 'did' THEN 'numbers'
                ELSE 'other fees' END,
           posting.currency,
           1,
           0,
           -posting.amount_micros
      FROM ledger_transaction
      JOIN posting USING (transaction_id)
     WHERE ledger_transaction.posted_at >= %(begin)s
       AND ledger_transaction.posted_at < %(end)s
       AND ledger_transaction.kind = 'fee'
     UNION ALL
    -- Tax that prices include, discounts, and what credit notes gave back.
    SELECT ledger_transaction.posted_at,
           posting.account_id,
           'invoices and credit notes',
           posting.currency,
           1,
           0,
           -posting.amount_micros
      FROM ledger_transaction
      JOIN posting USING (transaction_id)
     WHERE ledger_transaction.posted_at >= %(begin)s
       AND ledger_transaction.posted_at < %(end)s
       AND ledger_transaction.kind IN ('invoice', 'credit-note')
       AND posting.contra_book IN ('sales', 'fees')
)
SELECT {group}
       sold.currency,
       sum(sold.items) AS items,
       sum(sold.seconds) AS minutes,
       sum(sold.amount_micros) AS revenue
  FROM sold
  JOIN account ON account.account_id = sold.account_id
 WHERE account.parent_id = %(viewer_id)s
   AND account.kind <> 'provider'
   AND (%(account)s::bigint IS NULL OR account.account_id = %(account)s)
 GROUP BY {by} sold.currency
 ORDER BY {by} sold.currency

/* tie
title = "Sales and fees in the ledger"
column = "revenue"
*/
SELECT posting.currency,
       -sum(posting.amount_micros)
  FROM ledger_between(%(begin)s, %(end)s, '{month,day}', NULL) AS posting
  JOIN account ON account.account_id = posting.account_id
 WHERE posting.contra_account_id = %(viewer_id)s
   AND posting.contra_book IN ('sales', 'fees')
   AND account.kind <> 'provider'
   AND (%(account)s::bigint IS NULL OR posting.account_id = %(account)s)
 GROUP BY posting.currency
