/*
title = "Fraud"
about = "Limits that were reached or nearly, spending far above the usual, bursts to one destination."
period = "this-week"
cuts = [{ name = "account", of = ["account", "calls", "spent", "factor"] }]

[parameters]
account = { kind = "account", about = "Only this account and those below it." }
calls = { kind = "integer", about = "Attempts of one account to one prefix in an hour that make a burst.", default = 30 }
spent = { kind = "integer", about = "What a day has to cost at least to be looked at, in its currency.", default = 10 }
factor = { kind = "integer", about = "How many times its usual day an account has spent.", default = 3 }

[columns]
time = { title = "Time", kind = "time" }
account = { title = "Account", kind = "text" }
kind = { title = "Kind", kind = "word" }
subject = { title = "Subject", kind = "text" }
value = { title = "Value", kind = "integer" }
usual = { title = "Usual or allowed", kind = "integer" }
spent = { title = "Spent", kind = "money" }
currency = { title = "Currency", kind = "currency" }
*/
WITH counted AS (
{calls}
), burst AS (
    -- Who called less in the whole hour called no prefix so often.
    SELECT busy.hour,
           busy.account_id,
           called.prefix,
           called.attempts
      FROM (SELECT hour, account_id FROM counted WHERE attempts >= %(calls)s) AS busy
     CROSS JOIN LATERAL (
           SELECT prefix,
                  sum(attempts) AS attempts
             FROM call_hour
            WHERE cut = 'all'
              AND hour = busy.hour
              AND account_id = busy.account_id
            GROUP BY prefix
           OFFSET 0) AS called
     WHERE %(rolled)s
       AND busy.hour NOT IN (SELECT hour FROM rollup_stale WHERE rollup = 'call')
     UNION ALL
    SELECT hour,
           account_id,
           prefix,
           sum(attempts)
      FROM uncounted_calls(%(begin)s, %(end)s, %(rolled)s)
     WHERE cut = 'all'
     GROUP BY hour, account_id, prefix
), spending AS (
    -- Days of the reader, with a week before the period to compare with.
    SELECT posting.account_id,
           (posting.hour AT TIME ZONE %(zone)s)::date AS day,
           -sum(posting.amount_micros) AS spent
      FROM ledger_between(%(begin)s::timestamptz - interval '7 days', %(end)s, '{day}', %(zone)s)
           AS posting
     WHERE posting.kind = 'call'
     GROUP BY 1, 2
), found AS (
    SELECT event.at AS time,
           event.account_id,
           'limit reached' AS kind,
           coalesce(event.detail ->> 'limit', event.detail::text) AS subject,
           NULL::bigint AS value,
           NULL::bigint AS usual,
           NULL::bigint AS spent
      FROM event
     WHERE event.kind = 'velocity-limit'
       AND event.at >= %(begin)s
       AND event.at < %(end)s
     UNION ALL
    SELECT velocity_use.period_from,
           velocity_limit.account_id,
           'limit used by 80 %%',
           velocity_limit.name || ', ' || velocity_limit.measure || ' a ' || velocity_limit.period,
           CASE velocity_limit.measure WHEN 'money' THEN NULL ELSE velocity_use.amount END,
           CASE velocity_limit.measure WHEN 'money' THEN NULL ELSE velocity_limit.maximum END,
           CASE velocity_limit.measure WHEN 'money' THEN velocity_use.amount END
      FROM velocity_use
      JOIN velocity_limit USING (limit_id)
     WHERE velocity_use.period_from >= %(begin)s
       AND velocity_use.period_from < %(end)s
       AND velocity_use.amount >= velocity_limit.maximum - velocity_limit.maximum / 5
     UNION ALL
    SELECT day.day::timestamp AT TIME ZONE %(zone)s,
           day.account_id,
           'spending',
           'usual day: ' || round(day.usual / 1000000, 2)::text,
           NULL,
           NULL,
           day.spent::bigint
      FROM (SELECT spending.*,
                   sum(spent) OVER (PARTITION BY account_id
                                        ORDER BY day
                                        RANGE BETWEEN interval '7 days' PRECEDING
                                                  AND interval '1 day' PRECEDING) / 7 AS usual
              FROM spending) AS day
     WHERE day.day >= (%(begin)s::timestamptz AT TIME ZONE %(zone)s)::date
       AND day.spent > %(factor)s * day.usual
       AND day.spent >= 1000000 * %(spent)s::bigint
       AND day.usual > 0
     UNION ALL
    SELECT hour,
           account_id,
           'destination burst',
           prefix,
           attempts::bigint,
           %(calls)s,
           NULL
      FROM burst
     WHERE attempts >= %(calls)s
)
SELECT found.time,
       account.code AS account,
       found.kind,
       found.subject,
       found.value,
       found.usual,
       found.spent,
       CASE WHEN found.spent IS NOT NULL THEN account.currency END AS currency
  FROM found
  JOIN account USING (account_id)
 WHERE account.kind IN ('customer', 'reseller')
   AND (%(account)s::bigint IS NULL OR account.chain @> ARRAY[%(account)s::bigint])
 ORDER BY found.time, account.code, found.kind, found.subject
