/*
title = "Calling cards"
about = "Batches of cards as they stand: what was printed, sold, used, and is still owed in calls."

[parameters]
batch = { kind = "text", about = "Only the batch of this name." }

[columns]
owner = { title = "Seller", kind = "text" }
batch = { title = "Batch", kind = "text" }
currency = { title = "Currency", kind = "currency" }
printed = { title = "Printed", kind = "integer", total = "sum" }
activated = { title = "Activated", kind = "integer", total = "sum" }
begun = { title = "In use", kind = "integer", total = "sum" }
face_value = { title = "Face value", kind = "money" }
sold = { title = "Value activated", kind = "money", total = "sum" }
used = { title = "Used", kind = "money", total = "sum" }
expired = { title = "Expired and void", kind = "money", total = "sum" }
other = { title = "Other movements", kind = "money", total = "sum" }
outstanding = { title = "Outstanding", kind = "money", total = "sum" }
*/
WITH moved AS (
    SELECT posting.account_id,
           sum(posting.amount_micros) FILTER (WHERE ledger_transaction.kind = 'card'
                                                AND posting.amount_micros > 0) AS sold,
           sum(posting.amount_micros) FILTER (WHERE ledger_transaction.kind = 'card'
                                                AND posting.amount_micros < 0) AS expired,
           sum(posting.amount_micros) FILTER (WHERE ledger_transaction.kind = 'call') AS used,
           sum(posting.amount_micros) FILTER (WHERE ledger_transaction.kind
                                                    NOT IN ('card', 'call')) AS other
      FROM posting
      JOIN ledger_transaction USING (transaction_id)
     WHERE posting.account_id IN (SELECT account_id FROM account WHERE card_batch_id IS NOT NULL)
     GROUP BY posting.account_id
)
SELECT owner.code AS owner,
       card_batch.name AS batch,
       card_batch.currency,
       count(card.account_id) AS printed,
       count(*) FILTER (WHERE moved.sold > 0) AS activated,
       count(*) FILTER (WHERE moved.used < 0) AS begun,
       card_batch.face_value_micros AS face_value,
       coalesce(sum(moved.sold), 0) AS sold,
       coalesce(sum(moved.used), 0) AS used,
       coalesce(sum(moved.expired), 0) AS expired,
       coalesce(sum(moved.other), 0) AS other,
       coalesce(sum(moved.sold), 0) + coalesce(sum(moved.used), 0)
       + coalesce(sum(moved.expired), 0) + coalesce(sum(moved.other), 0) AS outstanding
  FROM card_batch
  JOIN account AS owner ON owner.account_id = card_batch.owner_id
  LEFT JOIN account AS card ON card.card_batch_id = card_batch.card_batch_id
  LEFT JOIN moved ON moved.account_id = card.account_id
 WHERE (%(batch)s::text IS NULL OR card_batch.name = %(batch)s)
 GROUP BY owner.code, card_batch.card_batch_id
 ORDER BY owner.code, card_batch.name

/* tie
title = "Balances of the cards"
column = "outstanding"
*/
SELECT card_batch.currency,
       sum(card.balance_micros)
  FROM card_batch
  JOIN account AS card ON card.card_batch_id = card_batch.card_batch_id
 WHERE (%(batch)s::text IS NULL OR card_batch.name = %(batch)s)
 GROUP BY card_batch.currency
