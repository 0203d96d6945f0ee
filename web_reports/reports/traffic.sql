/*
title = "Traffic"
about = "Attempts and answers of the calls that ended in the period."
period = "this-month"
default_group = ["day"]
free = ["month", "day", "hour"]
cuts = [
    { name = "route", of = ["route", "provider"], operator_only = true },
    { name = "account", of = ["account"] },
    { name = "destination", of = ["destination", "prefix"], operator_only = true },
]
spans = [
    { name = "account", of = ["account"] },
    { name = "route destination", of = ["route", "provider", "destination", "prefix"], operator_only = true },
    { name = "account route", of = ["account", "route", "provider"], operator_only = true },
    { name = "account destination", of = ["account", "destination", "prefix"], widths = ["month"] },
]
chart = { label = "day", value = "minutes" }

[parameters]
account = { kind = "account", about = "Only this account and those below it." }
prefix = { kind = "number", about = "Only destinations that begin so." }
route = { kind = "text", about = "Only calls over this resource group.", operator_only = true }

[columns]
month = { title = "Month", kind = "text", group = "to_char(counted.hour AT TIME ZONE %(zone)s, 'YYYY-MM')" }
day = { title = "Day", kind = "day", group = "(counted.hour AT TIME ZONE %(zone)s)::date" }
hour = { title = "Hour", kind = "hour", group = "date_trunc('hour', counted.hour AT TIME ZONE %(zone)s)" }
account = { title = "Account", kind = "text", group = "coalesce(account.code, '')" }
provider = { title = "Provider", kind = "text", group = "coalesce(provider.code, '')", operator_only = true }
route = { title = "Route", kind = "text", group = "coalesce(route.name, '')", operator_only = true }
destination = { title = "Destination", kind = "text", group = "coalesce(nullif(rate.destination, ''), counted.prefix)" }
prefix = { title = "Prefix", kind = "phone", group = "counted.prefix" }
attempts = { title = "Attempts", kind = "integer", total = "sum" }
answered = { title = "Answered", kind = "integer", total = "sum" }
effective = { title = "Effective", kind = "integer", total = "sum" }
refused = { title = "Refused", kind = "integer", total = "sum" }
asr = { title = "ASR", kind = "percent", ratio = ["answered", "attempts"] }
ner = { title = "NER", kind = "percent", ratio = ["effective", "attempts"] }
acd = { title = "ACD", kind = "seconds", ratio = ["seconds", "answered"] }
pdd = { title = "PDD", kind = "milliseconds", ratio = ["setup_ms", "timed"] }
seconds = { title = "Talk time", kind = "seconds", total = "sum" }
minutes = { title = "Minutes", kind = "minutes", total = "sum" }
longest = { title = "Longest", kind = "seconds", total = "max" }
timed = { title = "Timed", kind = "integer", total = "sum" }
setup_ms = { title = "Time to answer", kind = "milliseconds", total = "sum" }
*/
WITH counted AS (
{calls}
)
SELECT {group}
       sum(counted.attempts) AS attempts,
       sum(counted.answered) AS answered,
       sum(counted.effective) AS effective,
       sum(counted.refused) AS refused,
       sum(counted.seconds) AS seconds,
       sum(counted.seconds) AS minutes,
       max(counted.longest_seconds) AS longest,
       sum(counted.timed) AS timed,
       sum(counted.setup_ms) AS setup_ms
  FROM counted
  LEFT JOIN account ON account.account_id = counted.account_id
  LEFT JOIN resource_group AS route ON route.resource_group_id = counted.resource_group_id -- operator
  LEFT JOIN account AS provider ON provider.account_id = route.account_id -- operator
  LEFT JOIN rate ON rate.rate_id = counted.rate_id
 WHERE (%(account)s::bigint IS NULL OR account.chain @> ARRAY[%(account)s::bigint])
   AND (%(prefix)s::text IS NULL OR starts_with(counted.prefix, %(prefix)s))
   AND (%(route)s::text IS NULL OR route.name = %(route)s) -- operator
 GROUP BY {by} ()
 ORDER BY {by} 1

/* tie
title = "Calls that have a record"
column = "attempts"
unless = ["account", "prefix", "route"]
*/
SELECT '',
       sum(attempts)
  FROM (SELECT counted.attempts
          FROM hours_within('call', %(begin)s, %(end)s, '{}', NULL) AS part
         CROSS JOIN LATERAL (
               SELECT attempts
                 FROM call_hour
                WHERE cut = 'route' -- operator
                WHERE cut = 'account' -- viewer
                  AND hour >= part.begins
                  AND hour < part.ends
               OFFSET 0) AS counted
         WHERE %(rolled)s
         UNION ALL
        SELECT attempts
          FROM uncounted_calls(%(begin)s, %(end)s, %(rolled)s)
         WHERE cut = 'route' -- operator
         WHERE cut = 'account' -- viewer
       ) AS hours
