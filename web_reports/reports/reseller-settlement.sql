/*
title = "Reseller settlement"
about = "What resellers sold calls for, what they owe for them, and what they have paid."
period = "last-month"
spans = [{ name = "party account", of = ["reseller"] }]

[parameters]
reseller = { kind = "account", about = "Only this reseller and those below it." }

[columns]
reseller = { title = "Reseller", kind = "text" }
seller = { title = "Buys from", kind = "text" }
level = { title = "Level", kind = "integer" }
currency = { title = "Currency", kind = "currency" }
minutes = { title = "Minutes sold", kind = "minutes", total = "sum" }
retail = { title = "Retail", kind = "money", total = "sum" }
wholesale = { title = "Wholesale due", kind = "money", total = "sum" }
commission = { title = "Commission", kind = "money", total = "sum" }
fees = { title = "Fees", kind = "money", total = "sum" }
payments = { title = "Payments", kind = "money", total = "sum" }
net = { title = "Net", kind = "money", total = "sum" }
*/
WITH reseller AS (
    SELECT account_id,
           code,
           parent_id,
           chain
      FROM account
     WHERE kind = 'reseller'
       AND account_id <> %(viewer_id)s
       AND (%(reseller)s::bigint IS NULL OR chain @> ARRAY[%(reseller)s::bigint])
), charged AS (
{charges}
), paid AS (
    SELECT charged.party_id,
           charged.currency,
           party.parent_id,
           sum(charged.billed_seconds) AS seconds,
           sum(charged.amount_micros) AS amount_micros
      FROM charged
      JOIN account AS party ON party.account_id = charged.party_id
     WHERE charged.level >= 0
     GROUP BY charged.party_id, charged.currency, party.parent_id
), line AS (
    SELECT parent_id AS account_id, currency, seconds, amount_micros AS retail,
           0 AS wholesale, 0 AS fees, 0 AS payments
      FROM paid
     UNION ALL
    SELECT party_id, currency, 0, 0, amount_micros, 0, 0
      FROM paid
     UNION ALL
    SELECT posting.account_id,
           posting.currency,
           0,
           0,
           0,
           CASE posting.kind WHEN 'fee' THEN -posting.amount_micros ELSE 0 END,
           CASE posting.kind WHEN 'fee' THEN 0 ELSE posting.amount_micros END
      FROM ledger_between(%(begin)s, %(end)s, '{month,day}', NULL) AS posting
     WHERE posting.kind IN ('fee', 'payment', 'refund')
       AND posting.account_id IN (SELECT account_id FROM reseller)
)
SELECT reseller.code AS reseller,
       coalesce(seller.code, '') AS seller,
       cardinality(reseller.chain) AS level,
       line.currency,
       sum(line.seconds) AS minutes,
       sum(line.retail) AS retail,
       sum(line.wholesale) AS wholesale,
       sum(line.retail) - sum(line.wholesale) AS commission,
       sum(line.fees) AS fees,
       sum(line.payments) AS payments,
       sum(line.wholesale) + sum(line.fees) - sum(line.payments) AS net
  FROM line
  JOIN reseller USING (account_id)
  LEFT JOIN account AS seller ON seller.account_id = reseller.parent_id
 GROUP BY reseller.code, seller.code, reseller.chain, line.currency
 ORDER BY cardinality(reseller.chain), reseller.code, line.currency

/* tie
title = "What resellers were charged for calls, in the ledger"
column = "wholesale"
*/
SELECT posting.currency,
       -sum(posting.amount_micros)
  FROM ledger_between(%(begin)s, %(end)s, '{month,day}', NULL) AS posting
  JOIN account ON account.account_id = posting.account_id
 WHERE posting.kind = 'call'
   AND account.kind = 'reseller'
   AND account.account_id <> %(viewer_id)s
   AND (%(reseller)s::bigint IS NULL OR account.chain @> ARRAY[%(reseller)s::bigint])
 GROUP BY posting.currency

/* tie
title = "What resellers were paid for calls, in the ledger"
column = "retail"
*/
SELECT posting.currency,
       -sum(posting.amount_micros)
  FROM ledger_between(%(begin)s, %(end)s, '{month,day}', NULL) AS posting
  JOIN account AS seller ON seller.account_id = posting.contra_account_id
 WHERE posting.kind = 'call'
   AND posting.contra_book = 'sales'
   AND seller.kind = 'reseller'
   AND seller.account_id <> %(viewer_id)s
   AND (%(reseller)s::bigint IS NULL OR seller.chain @> ARRAY[%(reseller)s::bigint])
 GROUP BY posting.currency
