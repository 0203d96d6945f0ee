/*
title = "Invoice register"
about = "Every number that was issued, in order; a number that is missing would stand out."
period = "last-month"

[parameters]
account = { kind = "account", about = "Only invoices to this account." }
status = { kind = "choice", about = "Only such invoices.", choices = ["issued", "part-paid", "paid", "void"] }

[columns]
number = { title = "Number", kind = "text" }
kind = { title = "Kind", kind = "word" }
issued = { title = "Issued", kind = "day" }
due = { title = "Due", kind = "day" }
account = { title = "Account", kind = "text" }
name = { title = "Name", kind = "text" }
period = { title = "Period", kind = "text" }
currency = { title = "Currency", kind = "currency" }
net = { title = "Net", kind = "money", total = "sum" }
tax = { title = "Tax amount", kind = "money", total = "sum" }
total = { title = "Gross", kind = "money", total = "sum" }
paid = { title = "Paid", kind = "money", total = "sum" }
status = { title = "Status", kind = "word" }
numbers = { title = "Numbers used", kind = "integer", total = "sum", currency = "series" }
series = { title = "Series", kind = "text" }
*/
SELECT invoice.number,
       invoice.kind,
       invoice.issue_date AS issued,
       invoice.due_date AS due,
       account.code AS account,
       coalesce(invoice.buyer ->> 'name', '') AS name,
       invoice.period_name AS period,
       invoice.currency,
       side.sign * invoice.net_micros AS net,
       side.sign * invoice.tax_micros AS tax,
       side.sign * invoice.total_micros AS total,
       invoice.paid_micros AS paid,
       invoice.status,
       1 AS numbers,
       regexp_replace(invoice.number, '[0-9]+$', '') AS series
  FROM invoice
  JOIN account ON account.account_id = invoice.account_id
  LEFT JOIN ledger_transaction USING (transaction_id)
 CROSS JOIN LATERAL (
       SELECT CASE invoice.kind WHEN 'invoice' THEN 1 ELSE -1 END AS sign) AS side
 WHERE invoice.status <> 'draft'
   AND invoice.issuer_id = %(viewer_id)s
   AND coalesce(ledger_transaction.posted_at, invoice.issued_at) >= %(begin)s
   AND coalesce(ledger_transaction.posted_at, invoice.issued_at) < %(end)s
   AND (%(account)s::bigint IS NULL OR invoice.account_id = %(account)s)
   AND (%(status)s::text IS NULL OR invoice.status = %(status)s)
 ORDER BY series, length(invoice.number), invoice.number

/* tie
title = "The book of tax in the ledger"
column = "tax"
unless = ["account", "status"]
*/
SELECT posting.currency,
       -sum(posting.amount_micros)
  FROM ledger_between(%(begin)s, %(end)s, '{month,day}', NULL) AS posting
 WHERE posting.contra_account_id = %(viewer_id)s
   AND posting.contra_book = 'tax'
 GROUP BY posting.currency

/* tie
title = "Numbers from the first to the last of each series"
column = "numbers"
unless = ["account", "status"]
*/
SELECT regexp_replace(invoice.number, '[0-9]+$', ''),
       max(substring(invoice.number FROM '[0-9]+$')::bigint)
       - min(substring(invoice.number FROM '[0-9]+$')::bigint) + 1
  FROM invoice
  LEFT JOIN ledger_transaction USING (transaction_id)
 WHERE invoice.status <> 'draft'
   AND invoice.issuer_id = %(viewer_id)s
   AND coalesce(ledger_transaction.posted_at, invoice.issued_at) >= %(begin)s
   AND coalesce(ledger_transaction.posted_at, invoice.issued_at) < %(end)s
 GROUP BY 1
