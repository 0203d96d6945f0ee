/*
title = "Calls"
about = "Every call that ended in the period: what was paid for it, and what it cost."
period = "this-month"

[parameters]
account = { kind = "account", about = "Only this account and those below it." }
number = { kind = "number", about = "Only calls to or from numbers that begin so." }
refused = { kind = "yes", about = "yes: only refused calls; no: only the others." }
route = { kind = "text", about = "Only calls over this resource group.", operator_only = true }

[columns]
call = { title = "Call", kind = "text" }
time = { title = "Ended", kind = "time" }
account = { title = "Account", kind = "text" }
from_number = { title = "From", kind = "phone" }
to_number = { title = "To", kind = "phone" }
destination = { title = "Destination", kind = "text" }
direction = { title = "Direction", kind = "word" }
seconds = { title = "Talk time", kind = "seconds", total = "sum" }
billed_seconds = { title = "Billed time", kind = "seconds", total = "sum" }
charge = { title = "Charge", kind = "money", total = "sum" }
currency = { title = "Currency", kind = "currency" }
cost = { title = "Cost", kind = "money", total = "sum", currency = "cost_currency" }
cost_currency = { title = "Cost currency", kind = "currency" }
margin = { title = "Margin", kind = "money", total = "sum" }
route = { title = "Route", kind = "text", operator_only = true }
cause = { title = "Cause", kind = "text" }
refusal = { title = "Refused", kind = "text" }
corrected = { title = "Corrected", kind = "yes" }
flags = { title = "Flags", kind = "text", operator_only = true }
*/
SELECT cdr.call_id AS call,
       cdr.ended_at AS time,
       account.code AS account,
       cdr.ani AS from_number,
       cdr.called AS to_number,
       coalesce(nullif(rate.destination, ''), paid.prefix, '') AS destination,
       CASE cdr.found_by WHEN 'did' THEN 'in' ELSE 'out' END AS direction,
       cdr.seconds,
       paid.billed_seconds,
       paid.charge,
       paid.currency,
       paid.cost,
       paid.cost_currency,
       CASE WHEN paid.currency = paid.cost_currency THEN paid.charge - paid.cost END AS margin,
       coalesce(route.name, '') AS route, -- operator
       array_to_string(cdr.flags, ' ') AS flags, -- operator
       cdr.cause,
       coalesce(cdr.refusal, '') AS refusal,
       coalesce(paid.corrected, false) AS corrected
  FROM cdr
  LEFT JOIN account ON account.account_id = cdr.account_id
  LEFT JOIN resource_group AS route ON route.resource_group_id = cdr.resource_group_out_id -- operator
  LEFT JOIN LATERAL (
       -- Sold by the reader, or, of its own calls, bought by it; and what it paid itself.
       SELECT sum(charge.amount_micros) FILTER (WHERE sold.here) AS charge,
              max(charge.currency) FILTER (WHERE sold.here) AS currency,
              sum(charge.billed_seconds) FILTER (WHERE sold.here) AS billed_seconds,
              sum(charge.amount_micros) FILTER (WHERE charge.level = -1) AS cost, -- operator
              max(charge.currency) FILTER (WHERE charge.level = -1) AS cost_currency, -- operator
              sum(charge.amount_micros) FILTER (WHERE charge.account_id = %(viewer_id)s AND NOT sold.here) AS cost, -- viewer
              max(charge.currency) FILTER (WHERE charge.account_id = %(viewer_id)s AND NOT sold.here) AS cost_currency, -- viewer
              max(charge.prefix) FILTER (WHERE charge.level = 0) AS prefix,
              max(charge.rate_id) FILTER (WHERE charge.level = 0) AS rate_id,
              bool_or(charge.number > 1) AS corrected
         FROM charge
         JOIN account AS party ON party.account_id = charge.account_id
        CROSS JOIN LATERAL (
              SELECT charge.level >= 0
                     AND (party.parent_id = %(viewer_id)s
                          OR charge.level = 0 AND charge.account_id = %(viewer_id)s) AS here
              ) AS sold
        WHERE charge.call_id = cdr.call_id) AS paid ON true
  LEFT JOIN rate ON rate.rate_id = paid.rate_id
 WHERE cdr.ended_at >= %(begin)s
   AND cdr.ended_at < %(end)s
   AND (%(account)s::bigint IS NULL OR account.chain @> ARRAY[%(account)s::bigint])
   AND (%(number)s::text IS NULL
        OR starts_with(cdr.called, %(number)s)
        OR starts_with(cdr.ani, %(number)s))
   AND (%(refused)s::boolean IS NULL OR (cdr.refusal IS NOT NULL) = %(refused)s)
   AND (%(route)s::text IS NULL OR route.name = %(route)s) -- operator
 ORDER BY cdr.ended_at, cdr.call_id
