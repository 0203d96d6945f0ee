/*
title = "Prepaid liability"
about = "What prepaid accounts had, what was added and used, and what is owed to them in service."
period = "last-month"

[parameters]
account = { kind = "account", about = "Only this account." }
by_account = { kind = "yes", about = "yes: a line for each account; no: one for each currency.", default = false }

[columns]
account = { title = "Account", kind = "text" }
currency = { title = "Currency", kind = "currency" }
opening = { title = "Opening", kind = "money", total = "sum" }
top_ups = { title = "Top-ups", kind = "money", total = "sum" }
bonuses = { title = "Coupons and cards", kind = "money", total = "sum" }
usage = { title = "Usage", kind = "money", total = "sum" }
fees = { title = "Fees", kind = "money", total = "sum" }
expiry = { title = "Expired and void", kind = "money", total = "sum" }
refunds = { title = "Refunds", kind = "money", total = "sum" }
adjustments = { title = "Adjustments", kind = "money", total = "sum" }
transfers = { title = "Transfers", kind = "money", total = "sum" }
invoices = { title = "Invoices", kind = "money", total = "sum" }
closing = { title = "Closing", kind = "money", total = "sum" }
*/
WITH moved AS (
    SELECT account.code,
           account.currency,
           part.kind,
           part.amount_micros
      FROM (SELECT account_id, 'opening' AS kind, amount_micros, 0 AS debit_micros
              FROM ledger_between('-infinity', %(begin)s, '{month,day}', NULL)
             UNION ALL
            SELECT account_id, kind, amount_micros, debit_micros
              FROM ledger_between(%(begin)s, %(end)s, '{month,day}', NULL)) AS posting
      JOIN account USING (account_id)
     -- What a card loses is what expired of it, or was on it when it was made void.
     CROSS JOIN LATERAL (
           SELECT CASE posting.kind WHEN 'card' THEN posting.debit_micros ELSE 0 END AS micros)
           AS expired
     CROSS JOIN LATERAL (VALUES (posting.kind, posting.amount_micros - expired.micros),
                                ('expiry', expired.micros)) AS part (kind, amount_micros)
     WHERE account.prepaid
       AND account.parent_id = %(viewer_id)s
       AND (%(account)s::bigint IS NULL OR account.account_id = %(account)s)
), summed AS (
    SELECT CASE WHEN %(by_account)s THEN code ELSE '' END AS account,
           currency,
           coalesce(sum(amount_micros) FILTER (WHERE kind = 'opening'), 0) AS opening,
           coalesce(sum(amount_micros) FILTER (WHERE kind = 'payment'), 0) AS top_ups,
           coalesce(sum(amount_micros) FILTER (WHERE kind IN ('coupon', 'card')), 0) AS bonuses,
           coalesce(sum(amount_micros) FILTER (WHERE kind = 'call'), 0) AS usage,
           coalesce(sum(amount_micros) FILTER (WHERE kind = 'fee'), 0) AS fees,
           coalesce(sum(amount_micros) FILTER (WHERE kind = 'expiry'), 0) AS expiry,
           coalesce(sum(amount_micros) FILTER (WHERE kind = 'refund'), 0) AS refunds,
           coalesce(sum(amount_micros) FILTER (WHERE kind = 'adjustment'), 0) AS adjustments,
           coalesce(sum(amount_micros) FILTER (WHERE kind = 'transfer'), 0) AS transfers,
           coalesce(sum(amount_micros) FILTER (WHERE kind IN ('invoice', 'credit-note')), 0)
           AS invoices
      FROM moved
     GROUP BY 1, currency
)
SELECT summed.*,
       opening + top_ups + bonuses + usage + fees + expiry + refunds + adjustments + transfers
       + invoices AS closing
  FROM summed
 ORDER BY account, currency

/* tie
title = "Balances of the accounts, less what was posted after the period"
column = "closing"
*/
SELECT account.currency,
       sum(account.balance_micros - coalesce(later.amount_micros, 0))
  FROM account
  LEFT JOIN (SELECT posting.account_id,
                    sum(posting.amount_micros) AS amount_micros
               FROM ledger_between(%(end)s, 'infinity', '{month,day}', NULL) AS posting
              GROUP BY posting.account_id) AS later USING (account_id)
 WHERE account.prepaid
   AND account.parent_id = %(viewer_id)s
   AND (%(account)s::bigint IS NULL OR account.account_id = %(account)s)
 GROUP BY account.currency
