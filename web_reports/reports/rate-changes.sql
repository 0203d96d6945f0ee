/*
title = "Rate changes"
about = "Rows of price lists that came into force in the period, and what they would have changed in the month before it."
period = "this-month"

[parameters]
list = { kind = "text", about = "Only the price list of this name." }
prefix = { kind = "number", about = "Only prefixes that begin so." }
kind = { kind = "choice", about = "Only such changes.", choices = ["new", "increase", "decrease", "closed", "same"] }

[columns]
list = { title = "Price list", kind = "text" }
prefix = { title = "Prefix", kind = "phone" }
destination = { title = "Destination", kind = "text" }
band = { title = "Band", kind = "text" }
effective = { title = "Effective", kind = "time" }
kind = { title = "Change", kind = "word" }
old_price = { title = "Old price", kind = "price" }
new_price = { title = "New price", kind = "price" }
currency = { title = "Currency", kind = "currency" }
minutes = { title = "Minutes before", kind = "minutes", total = "sum" }
effect = { title = "Effect", kind = "money", total = "sum" }
*/
WITH begun AS (
    SELECT rate.*,
           rate.effective_from AS changed_at,
           old.rate_id AS old_id,
           old.per_minute_nanos AS old_nanos,
           rate.per_minute_nanos AS new_nanos
      FROM rate
      LEFT JOIN LATERAL (
           SELECT before.rate_id,
                  before.per_minute_nanos
             FROM rate AS before
            WHERE before.tariff_id = rate.tariff_id
              AND before.prefix = rate.prefix
              AND before.account_id = rate.account_id
              AND before.band = rate.band
              AND before.effective_to = rate.effective_from
              AND before.effective_from < before.effective_to
            LIMIT 1) AS old ON true
     WHERE rate.effective_from >= %(begin)s
       AND rate.effective_from < %(end)s
       AND (rate.effective_to IS NULL OR rate.effective_to > rate.effective_from)
), closed AS (
    SELECT rate.*,
           rate.effective_to AS changed_at,
           rate.rate_id AS old_id,
           rate.per_minute_nanos AS old_nanos,
           NULL::bigint AS new_nanos
      FROM rate
     WHERE rate.effective_to >= %(begin)s
       AND rate.effective_to < %(end)s
       AND rate.effective_to > rate.effective_from
       AND NOT EXISTS (SELECT
                         FROM rate AS next
                        WHERE next.tariff_id = rate.tariff_id
                          AND next.prefix = rate.prefix
                          AND next.account_id = rate.account_id
                          AND next.band = rate.band
                          AND next.effective_from = rate.effective_to
                          AND (next.effective_to IS NULL OR next.effective_to > next.effective_from))
), changed AS (
    SELECT * FROM begun
     UNION ALL
    SELECT * FROM closed
), used AS (
    SELECT own_rate_id AS rate_id,
           sum(billed_seconds) AS seconds
      FROM charge_hour
     WHERE cut = 'all'
       AND hour >= %(begin)s::timestamptz - interval '1 month'
       AND hour < %(begin)s
     GROUP BY own_rate_id
)
SELECT changed.prefix,
       coalesce(rate_group.name, '') AS list, -- viewer
       coalesce(rate_group.name, resource_group.name, '') AS list, -- operator
       changed.destination,
       changed.band,
       changed.changed_at AS effective,
       change.kind,
       changed.old_nanos AS old_price,
       changed.new_nanos AS new_price,
       tariff.currency,
       coalesce(used.seconds, 0) AS minutes,
       floor(coalesce(used.seconds, 0) * (changed.new_nanos - changed.old_nanos) / 60000 + 0.5)::bigint
       AS effect
  FROM changed
  JOIN tariff USING (tariff_id)
  LEFT JOIN rate_group USING (tariff_id)
  LEFT JOIN resource_group ON resource_group.tariff_id = changed.tariff_id -- operator
  LEFT JOIN used ON used.rate_id = changed.old_id
 CROSS JOIN LATERAL (
       SELECT CASE WHEN changed.new_nanos IS NULL THEN 'closed'
                   WHEN changed.old_nanos IS NULL THEN 'new'
                   WHEN changed.new_nanos > changed.old_nanos THEN 'increase'
                   WHEN changed.new_nanos < changed.old_nanos THEN 'decrease'
                   ELSE 'same' END AS kind) AS change
 WHERE (%(prefix)s::text IS NULL OR starts_with(changed.prefix, %(prefix)s))
   AND (%(kind)s::text IS NULL OR change.kind = %(kind)s)
   AND (%(list)s::text IS NULL OR rate_group.name = %(list)s) -- viewer
   AND (%(list)s::text IS NULL OR coalesce(rate_group.name, resource_group.name) = %(list)s) -- operator
 ORDER BY list, changed.prefix COLLATE "C", changed.band, changed.changed_at
