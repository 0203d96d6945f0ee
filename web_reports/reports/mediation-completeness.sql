/*
title = "Mediation completeness"
about = "What became of every record of a call: charged, free, refused, or unexplained, which must be none."
period = "this-month"
operator_only = true
default_group = ["day", "client"]

[columns]
day = { title = "Day", kind = "day", group = "(cdr.ended_at AT TIME ZONE %(zone)s)::date" }
client = { title = "Client", kind = "text", group = "coalesce(client.name, cdr.client_id::text)" }
ended_by = { title = "Ended by", kind = "word", group = "cdr.ended_by" }
records = { title = "Records", kind = "integer", total = "sum" }
refused = { title = "Refused", kind = "integer", total = "sum" }
unanswered = { title = "Unanswered", kind = "integer", total = "sum" }
charged = { title = "Charged", kind = "integer", total = "sum" }
free = { title = "Free", kind = "integer", total = "sum" }
unrated = { title = "Unrated", kind = "integer", total = "sum" }
unexplained = { title = "Unexplained", kind = "integer", total = "sum" }
silent = { title = "Without stop", kind = "integer", total = "sum" }
unauthorised = { title = "Without authorisation", kind = "integer", total = "sum" }
corrected = { title = "Corrected", kind = "integer", total = "sum" }
*/
SELECT {group}
       count(*) AS records,
       count(cdr.refusal) AS refused,
       count(*) FILTER (WHERE fate.is = 'unanswered') AS unanswered,
       count(*) FILTER (WHERE fate.is = 'charged') AS charged,
       count(*) FILTER (WHERE fate.is = 'free') AS free,
       count(*) FILTER (WHERE fate.is = 'unrated') AS unrated,
       count(*) FILTER (WHERE fate.is IS NULL) AS unexplained,
       count(*) FILTER (WHERE cdr.flags && ARRAY['silent', 'nothing-known']) AS silent,
       count(*) FILTER (WHERE 'no-authorization' = ANY (cdr.flags)) AS unauthorised,
       count(*) FILTER (WHERE cdr.postings > 1) AS corrected
  FROM cdr
  LEFT JOIN client USING (client_id)
 CROSS JOIN LATERAL (
       SELECT CASE WHEN cdr.refusal IS NOT NULL THEN 'refused'
                   WHEN cdr.postings > 0 THEN 'charged'
                   WHEN cdr.seconds = 0 THEN 'unanswered'
                   WHEN 'unrated' = ANY (cdr.flags) THEN 'unrated'
                   WHEN 'emergency' = ANY (cdr.flags)
                        OR EXISTS (SELECT FROM charge WHERE charge.call_id = cdr.call_id) THEN 'free'
              END AS is) AS fate
 WHERE cdr.ended_at >= %(begin)s
   AND cdr.ended_at < %(end)s
 GROUP BY {by} ()
 ORDER BY {by} 1

/* tie
title = "Calls that have a transaction in the ledger"
column = "charged"
*/
SELECT '',
       count(*)
  FROM cdr
 WHERE ended_at >= %(begin)s
   AND ended_at < %(end)s
   AND EXISTS (SELECT
                 FROM ledger_transaction
                WHERE kind = 'call'
                  AND reference = cdr.call_id::text)
   AND refusal IS NULL
