/*
title = "Tax"
about = "Tax of issued invoices and credit notes by country and rate, by when they were posted."
period = "last-month"
default_group = ["country", "tax"]

[parameters]
country = { kind = "text", about = "Only buyers of this country, two letters." }

[columns]
country = { title = "Country", kind = "text", group = "coalesce(invoice.buyer ->> 'country', '')" }
tax = { title = "Tax", kind = "text", group = "invoice_tax.name" }
category = { title = "Category", kind = "text", group = "invoice_tax.category" }
month = { title = "Month", kind = "text", group = "to_char(coalesce(ledger_transaction.posted_at, invoice.issued_at) AT TIME ZONE %(zone)s, 'YYYY-MM')" }
rate = { title = "Rate", kind = "percent" }
currency = { title = "Currency", kind = "currency" }
invoices = { title = "Invoices", kind = "integer", total = "sum" }
credit_notes = { title = "Credit notes", kind = "integer", total = "sum" }
base = { title = "Net", kind = "money", total = "sum" }
amount = { title = "Tax amount", kind = "money", total = "sum" }
*/
SELECT {group}
       invoice_tax.rate_ppm AS rate,
       invoice.currency,
       count(*) FILTER (WHERE invoice.kind = 'invoice') AS invoices,
       count(*) FILTER (WHERE invoice.kind = 'credit-note') AS credit_notes,
       sum(side.sign * invoice_tax.base_micros) AS base,
       sum(side.sign * invoice_tax.tax_micros) AS amount
  FROM invoice
  JOIN invoice_tax USING (invoice_id)
  LEFT JOIN ledger_transaction USING (transaction_id)
 CROSS JOIN LATERAL (
       SELECT CASE invoice.kind WHEN 'invoice' THEN 1 ELSE -1 END AS sign) AS side
 WHERE invoice.status <> 'draft'
   AND invoice.issuer_id = %(viewer_id)s
   AND coalesce(ledger_transaction.posted_at, invoice.issued_at) >= %(begin)s
   AND coalesce(ledger_transaction.posted_at, invoice.issued_at) < %(end)s
   AND (%(country)s::text IS NULL OR invoice.buyer ->> 'country' = %(country)s)
 GROUP BY {by} invoice_tax.rate_ppm, invoice.currency
 ORDER BY {by} invoice_tax.rate_ppm, invoice.currency

/* tie
title = "The book of tax in the ledger"
column = "amount"
unless = ["country"]
*/
SELECT posting.currency,
       -sum(posting.amount_micros)
  FROM ledger_between(%(begin)s, %(end)s, '{month,day}', NULL) AS posting
 WHERE posting.contra_account_id = %(viewer_id)s
   AND posting.contra_book = 'tax'
 GROUP BY posting.currency
