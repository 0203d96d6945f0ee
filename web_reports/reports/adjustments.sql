/*
title = "Adjustments"
about = "Corrections by hand and transfers, each with its reason, by when they were posted."
period = "this-month"

[parameters]
account = { kind = "account", about = "Only this account and those below it." }

[columns]
posted = { title = "Posted", kind = "time" }
account = { title = "Account", kind = "text" }
kind = { title = "Kind", kind = "word" }
reference = { title = "Reference", kind = "text" }
amount = { title = "Amount", kind = "money", total = "sum" }
currency = { title = "Currency", kind = "currency" }
reason = { title = "Reason", kind = "text" }
author = { title = "By", kind = "text" }
*/
SELECT ledger_transaction.posted_at AS posted,
       account.code AS account,
       ledger_transaction.kind,
       ledger_transaction.reference,
       posting.amount_micros AS amount,
       posting.currency,
       ledger_transaction.note AS reason,
       coalesce(author.code, '') AS author
  FROM ledger_transaction
  JOIN posting USING (transaction_id)
  JOIN account ON account.account_id = posting.account_id
  LEFT JOIN account AS author ON author.account_id = ledger_transaction.author_id
 WHERE ledger_transaction.posted_at >= %(begin)s
   AND ledger_transaction.posted_at < %(end)s
   AND ledger_transaction.kind IN ('adjustment', 'transfer')
   AND (%(account)s::bigint IS NULL
        OR account.account_id = %(account)s
        OR account.chain @> ARRAY[%(account)s::bigint])
 ORDER BY ledger_transaction.posted_at, posting.transaction_id, posting.position

/* tie
title = "The books of adjustments, transfers and exchange"
column = "amount"
unless = ["account"]
*/
SELECT posting.currency,
       sum(posting.amount_micros)
  FROM posting
  JOIN ledger_transaction USING (transaction_id)
 WHERE ledger_transaction.posted_at >= %(begin)s
   AND ledger_transaction.posted_at < %(end)s
   AND posting.contra_book IN ('adjustments', 'transfers', 'exchange')
 GROUP BY posting.currency
