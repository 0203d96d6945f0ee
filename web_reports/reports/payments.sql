/*
title = "Payments"
about = "Payments and what was paid back of them, by when they were posted."
period = "this-month"

[parameters]
account = { kind = "account", about = "Only this account and those below it." }
method = { kind = "text", about = "Only payments by this method." }

[columns]
posted = { title = "Posted", kind = "time" }
time = { title = "Paid", kind = "time" }
account = { title = "Account", kind = "text" }
kind = { title = "Kind", kind = "word" }
method = { title = "Method", kind = "text" }
reference = { title = "Reference", kind = "text" }
amount = { title = "Amount", kind = "money", total = "sum" }
currency = { title = "Currency", kind = "currency" }
note = { title = "Note", kind = "text" }
*/
SELECT ledger_transaction.posted_at AS posted,
       moved.at AS time,
       account.code AS account,
       moved.kind,
       moved.method,
       moved.reference,
       moved.amount_micros AS amount,
       moved.currency,
       moved.note
  FROM (SELECT transaction_id, account_id, at, 'payment' AS kind, method, reference,
               amount_micros, currency, note
          FROM payment
         UNION ALL
        SELECT refund.transaction_id, payment.account_id, refund.at, 'refund', payment.method,
               payment.reference, -refund.amount_micros, payment.currency, refund.note
          FROM refund
          JOIN payment USING (payment_id)) AS moved
  JOIN ledger_transaction USING (transaction_id)
  JOIN account ON account.account_id = moved.account_id
 WHERE ledger_transaction.posted_at >= %(begin)s
   AND ledger_transaction.posted_at < %(end)s
   AND (%(account)s::bigint IS NULL
        OR account.account_id = %(account)s
        OR account.chain @> ARRAY[%(account)s::bigint])
   AND (%(method)s::text IS NULL OR moved.method = %(method)s)
 ORDER BY ledger_transaction.posted_at, moved.transaction_id

/* tie
title = "Payments and refunds in the ledger"
column = "amount"
unless = ["method"]
*/
SELECT posting.currency,
       sum(CASE account.kind WHEN 'provider' THEN -posting.amount_micros
                             ELSE posting.amount_micros END)
  FROM ledger_transaction
  JOIN posting USING (transaction_id)
  JOIN account ON account.account_id = posting.account_id
 WHERE ledger_transaction.posted_at >= %(begin)s
   AND ledger_transaction.posted_at < %(end)s
   AND ledger_transaction.kind IN ('payment', 'refund')
   AND (%(account)s::bigint IS NULL
        OR account.account_id = %(account)s
        OR account.chain @> ARRAY[%(account)s::bigint])
 GROUP BY posting.currency
