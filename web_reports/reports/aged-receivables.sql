/*
title = "Aged receivables"
about = "What postpaid accounts owe, by how long it is overdue; payments are applied to the oldest."

[parameters]
as_of = { kind = "instant", about = "As things stood then; now, when nothing is said." }
terms = { kind = "integer", about = "Days after which what was charged is due.", default = 30 }
account = { kind = "account", about = "Only this account." }

[columns]
account = { title = "Account", kind = "text" }
name = { title = "Name", kind = "text" }
currency = { title = "Currency", kind = "currency" }
current = { title = "Current", kind = "money", total = "sum" }
days_30 = { title = "1–30 days", kind = "money", total = "sum" }
days_60 = { title = "31–60 days", kind = "money", total = "sum" }
days_90 = { title = "61–90 days", kind = "money", total = "sum" }
older = { title = "Over 90 days", kind = "money", total = "sum" }
open = { title = "Open", kind = "money", total = "sum" }
unapplied = { title = "Unapplied", kind = "money", total = "sum" }
owed = { title = "Owed", kind = "money", total = "sum" }
credit_limit = { title = "Credit limit", kind = "money" }
used = { title = "Limit used", kind = "percent" }
*/
WITH debtor AS (
    SELECT account_id, code, name, currency, credit_limit_micros
      FROM account
     WHERE NOT prepaid
       AND kind IN ('customer', 'reseller')
       AND parent_id = %(viewer_id)s
       AND (%(account)s::bigint IS NULL OR account_id = %(account)s)
), moved AS (
    -- Whole days that a posting is old.
    SELECT posting.account_id,
           (coalesce(%(as_of)s::timestamptz, now())::date
            - ledger_transaction.posted_at::date) AS age,
           sum(posting.amount_micros) AS net,
           -sum(least(posting.amount_micros, 0)) AS debit
      FROM posting
      JOIN ledger_transaction USING (transaction_id)
     WHERE posting.account_id IN (SELECT account_id FROM debtor)
       AND ledger_transaction.posted_at < coalesce(%(as_of)s::timestamptz, 'infinity')
     GROUP BY 1, 2
), standing AS (
    SELECT account_id,
           age,
           debit,
           -sum(net) OVER (PARTITION BY account_id) AS owed,
           -- What was charged more recently: paid last.
           coalesce(sum(debit) OVER (PARTITION BY account_id ORDER BY age
                                     ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
           AS newer
      FROM moved
), open AS (
    SELECT account_id,
           owed,
           age - %(terms)s AS overdue,
           greatest(0, least(debit, owed - newer)) AS amount
      FROM standing
)
SELECT debtor.code AS account,
       debtor.name,
       debtor.currency,
       coalesce(sum(amount) FILTER (WHERE overdue <= 0), 0) AS current,
       coalesce(sum(amount) FILTER (WHERE overdue BETWEEN 1 AND 30), 0) AS days_30,
       coalesce(sum(amount) FILTER (WHERE overdue BETWEEN 31 AND 60), 0) AS days_60,
       coalesce(sum(amount) FILTER (WHERE overdue BETWEEN 61 AND 90), 0) AS days_90,
       coalesce(sum(amount) FILTER (WHERE overdue > 90), 0) AS older,
       coalesce(sum(amount), 0) AS open,
       greatest(0, -coalesce(max(owed), 0)) AS unapplied,
       coalesce(sum(amount), 0) - greatest(0, -coalesce(max(owed), 0)) AS owed,
       debtor.credit_limit_micros AS credit_limit,
       (1000000 * greatest(0, max(owed)) / nullif(debtor.credit_limit_micros, 0))::bigint AS used
  FROM debtor
  JOIN open USING (account_id)
 GROUP BY debtor.account_id, debtor.code, debtor.name, debtor.currency, debtor.credit_limit_micros
 ORDER BY older DESC, days_90 DESC, open DESC, debtor.code

/* tie
title = "Balances of the accounts"
column = "owed"
unless = ["as_of"]
*/
SELECT currency,
       -sum(balance_micros)
  FROM account
 WHERE NOT prepaid
   AND kind IN ('customer', 'reseller')
   AND parent_id = %(viewer_id)s
   AND (%(account)s::bigint IS NULL OR account_id = %(account)s)
 GROUP BY currency

/* tie
title = "Entries of the accounts in the ledger"
column = "owed"
*/
SELECT posting.currency,
       -sum(posting.amount_micros)
  FROM posting
  JOIN account ON account.account_id = posting.account_id
  JOIN ledger_transaction USING (transaction_id)
 WHERE NOT account.prepaid
   AND account.kind IN ('customer', 'reseller')
   AND account.parent_id = %(viewer_id)s
   AND ledger_transaction.posted_at < coalesce(%(as_of)s::timestamptz, 'infinity')
   AND (%(account)s::bigint IS NULL OR account.account_id = %(account)s)
 GROUP BY posting.currency
