/*
title = "Aged receivables"
about = "What postpaid accounts owe: invoices by how long they are overdue, what is not invoiced yet, and money that has paid no invoice."

[parameters]
as_of = { kind = "instant", about = "As things stood then; now, when nothing is said." }
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
open = { title = "Open invoices", kind = "money", total = "sum" }
not_invoiced = { title = "Not invoiced", kind = "money", total = "sum" }
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
    SELECT posting.account_id,
           -sum(posting.amount_micros) FILTER (WHERE posting.kind IN ('call', 'fee')) AS charged,
           sum(posting.amount_micros) FILTER (
               WHERE posting.kind NOT IN ('call', 'fee', 'invoice', 'credit-note')) AS received
      FROM ledger_between('-infinity', coalesce(%(as_of)s::timestamptz, 'infinity'),
                          '{month,day}', NULL) AS posting
     WHERE posting.account_id IN (SELECT account_id FROM debtor)
     GROUP BY posting.account_id
), issued AS (
    SELECT invoice.account_id,
           invoice.invoice_id,
           (coalesce(%(as_of)s::timestamptz, now()) AT TIME ZONE %(zone)s)::date
           - invoice.due_date AS overdue,
           -- A void one has billed nothing; a prepaid one was paid when its calls were made.
           CASE WHEN noted.gone THEN 0 ELSE lines.billed END AS billed,
           CASE WHEN NOT invoice.prepaid THEN 0
                WHEN noted.gone THEN invoice.total_micros - noted.credited
                ELSE invoice.raw_micros - noted.credited END AS spent,
           paid.micros AS paid,
           CASE WHEN invoice.prepaid THEN 0
                ELSE invoice.total_micros - noted.credited - paid.micros END AS open
      FROM invoice
      LEFT JOIN ledger_transaction USING (transaction_id)
     CROSS JOIN LATERAL (
           SELECT coalesce(sum(note.total_micros), 0) AS credited,
                  invoice.status = 'void' AND count(*) > 0 AS gone
             FROM invoice AS note
             LEFT JOIN ledger_transaction AS entry
                    ON entry.transaction_id = note.transaction_id
            WHERE note.corrects_id = invoice.invoice_id
              AND note.status <> 'draft'
              AND coalesce(entry.posted_at, note.issued_at)
                  < coalesce(%(as_of)s::timestamptz, 'infinity')) AS noted
     CROSS JOIN LATERAL (
           SELECT coalesce(sum(raw_micros), 0) AS billed
             FROM invoice_line
            WHERE invoice_line.invoice_id = invoice.invoice_id
              AND invoice_line.kind IN ('usage', 'correction', 'fee')) AS lines
     CROSS JOIN LATERAL (
           SELECT coalesce(sum(invoice_payment.amount_micros), 0) AS micros
             FROM invoice_payment
            WHERE invoice_payment.invoice_id = invoice.invoice_id
              AND invoice_payment.at < coalesce(%(as_of)s::timestamptz, 'infinity')
              AND (invoice_payment.released_at IS NULL
                   OR invoice_payment.released_at >= %(as_of)s::timestamptz)) AS paid
     WHERE invoice.account_id IN (SELECT account_id FROM debtor)
       AND invoice.kind = 'invoice'
       AND invoice.status <> 'draft'
       AND coalesce(ledger_transaction.posted_at, invoice.issued_at)
           < coalesce(%(as_of)s::timestamptz, 'infinity')
), standing AS (
    SELECT account_id,
           sum(open) FILTER (WHERE open > 0 AND overdue <= 0) AS current,
           sum(open) FILTER (WHERE open > 0 AND overdue BETWEEN 1 AND 30) AS days_30,
           sum(open) FILTER (WHERE open > 0 AND overdue BETWEEN 31 AND 60) AS days_60,
           sum(open) FILTER (WHERE open > 0 AND overdue BETWEEN 61 AND 90) AS days_90,
           sum(open) FILTER (WHERE open > 0 AND overdue > 90) AS older,
           sum(greatest(open, 0)) AS open,
           sum(billed) AS billed,
           -- Invoices below 0 are money for others; what has paid is no longer free.
           sum(least(open, 0) + paid + spent) AS taken
      FROM issued
     GROUP BY account_id
), summed AS (
    SELECT debtor.*,
           coalesce(current, 0) AS current,
           coalesce(days_30, 0) AS days_30,
           coalesce(days_60, 0) AS days_60,
           coalesce(days_90, 0) AS days_90,
           coalesce(older, 0) AS older,
           coalesce(open, 0) AS open,
           coalesce(charged, 0) - coalesce(billed, 0) AS unbilled,
           coalesce(received, 0) - coalesce(taken, 0) AS free
      FROM debtor
      LEFT JOIN moved USING (account_id)
      LEFT JOIN standing USING (account_id)
     WHERE moved.account_id IS NOT NULL
        OR standing.account_id IS NOT NULL
)
SELECT code AS account,
       name,
       currency,
       current,
       days_30,
       days_60,
       days_90,
       older,
       open,
       -- What was taken by hand beyond all money there was is owed without an invoice too.
       unbilled + greatest(0, -free) AS not_invoiced,
       greatest(0, free) AS unapplied,
       open + unbilled - free AS owed,
       credit_limit_micros AS credit_limit,
       (1000000 * greatest(0, open + unbilled - free) / nullif(credit_limit_micros, 0))::bigint
       AS used
  FROM summed
 ORDER BY older DESC, days_90 DESC, days_60 DESC, days_30 DESC, open DESC, code

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
  FROM ledger_between('-infinity', coalesce(%(as_of)s::timestamptz, 'infinity'), '{month,day}', NULL)
       AS posting
  JOIN account ON account.account_id = posting.account_id
 WHERE NOT account.prepaid
   AND account.kind IN ('customer', 'reseller')
   AND account.parent_id = %(viewer_id)s
   AND (%(account)s::bigint IS NULL OR account.account_id = %(account)s)
 GROUP BY posting.currency

/* tie
title = "Invoices that are not paid"
column = "open"
unless = ["as_of"]
*/
SELECT invoice.currency,
       sum(greatest(0, invoice.total_micros - invoice.paid_micros - invoice.credited_micros))
  FROM invoice
  JOIN account ON account.account_id = invoice.account_id
 WHERE invoice.kind = 'invoice'
   AND invoice.status IN ('issued', 'part-paid')
   AND NOT account.prepaid
   AND account.parent_id = %(viewer_id)s
   AND (%(account)s::bigint IS NULL OR account.account_id = %(account)s)
 GROUP BY invoice.currency
