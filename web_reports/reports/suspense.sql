/*
title = "Suspense"
about = "Calls that somebody should look at: not rated, free, twice, without an end, at a loss."
period = "this-month"
operator_only = true

[parameters]
account = { kind = "account", about = "Only this account and those below it." }
reason = { kind = "choice", about = "Only this reason.", choices = ["unrated", "zero-rated", "duplicate", "without stop", "without authorisation", "longer than granted", "longer than elapsed", "length unknown", "negative margin"] }

[columns]
reason = { title = "Reason", kind = "word" }
call = { title = "Call", kind = "text" }
time = { title = "Ended", kind = "time" }
account = { title = "Account", kind = "text" }
from_number = { title = "From", kind = "phone" }
to_number = { title = "To", kind = "phone" }
seconds = { title = "Talk time", kind = "seconds", total = "sum" }
charge = { title = "Charge", kind = "money", total = "sum" }
currency = { title = "Currency", kind = "currency" }
cost = { title = "Cost", kind = "money", total = "sum", currency = "cost_currency" }
cost_currency = { title = "Cost currency", kind = "currency" }
flags = { title = "Flags", kind = "text" }
*/
WITH ended AS (
    SELECT cdr.*,
           account.code,
           account.chain,
           -- Two legs or copies of one call look like this.
           count(*) OVER (PARTITION BY cdr.account_id, cdr.ani, cdr.called, cdr.duration_ms,
                                       date_trunc('second', cdr.ended_at)) AS alike
      FROM cdr
      LEFT JOIN account USING (account_id)
     WHERE cdr.ended_at >= %(begin)s
       AND cdr.ended_at < %(end)s
       AND cdr.refusal IS NULL
), charged AS (
    SELECT ended.*,
           paid.charge,
           paid.currency,
           paid.cost,
           paid.cost_currency
      FROM ended
      LEFT JOIN LATERAL (
           SELECT sum(charge.amount_micros) FILTER (WHERE party.parent_id = %(viewer_id)s
                                                      AND charge.level >= 0) AS charge,
                  max(charge.currency) FILTER (WHERE party.parent_id = %(viewer_id)s
                                                 AND charge.level >= 0) AS currency,
                  sum(charge.amount_micros) FILTER (WHERE charge.level = -1) AS cost,
                  max(charge.currency) FILTER (WHERE charge.level = -1) AS cost_currency
             FROM charge
             JOIN account AS party ON party.account_id = charge.account_id
            WHERE charge.call_id = ended.call_id) AS paid ON true
     WHERE %(account)s::bigint IS NULL
        OR ended.chain @> ARRAY[%(account)s::bigint]
)
SELECT found.reason,
       call_id AS call,
       ended_at AS time,
       coalesce(code, '') AS account,
       ani AS from_number,
       called AS to_number,
       seconds,
       charge,
       currency,
       cost,
       cost_currency,
       array_to_string(flags, ' ') AS flags
  FROM charged
 CROSS JOIN LATERAL (
       VALUES ('unrated', 'unrated' = ANY (flags)),
              ('zero-rated', seconds > 0
                             AND coalesce(charge, 0) = 0
                             AND NOT flags && ARRAY['unrated', 'emergency']),
              ('duplicate', alike > 1 AND seconds > 0),
              ('without stop', flags && ARRAY['silent', 'nothing-known']),
              ('without authorisation', 'no-authorization' = ANY (flags)),
              ('longer than granted', 'longer-than-granted' = ANY (flags)),
              ('longer than elapsed', 'longer-than-elapsed' = ANY (flags)),
              ('length unknown', 'duration-unknown' = ANY (flags)),
              ('negative margin', currency = cost_currency AND charge < cost)
       ) AS found (reason, holds)
 WHERE found.holds
   AND (%(reason)s::text IS NULL OR found.reason = %(reason)s)
 ORDER BY found.reason, ended_at, call_id
