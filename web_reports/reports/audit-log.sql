/*
title = "Audit log"
about = "Who changed what, with what it was before and after."
period = "this-week"
operator_only = true

[parameters]
actor = { kind = "text", about = "Only what this person did." }
action = { kind = "text", about = "Only actions that begin so." }

[columns]
time = { title = "Time", kind = "time" }
actor = { title = "Actor", kind = "text" }
acting_as = { title = "Acting as", kind = "text" }
action = { title = "Action", kind = "text" }
subject = { title = "Subject", kind = "text" }
before = { title = "Before", kind = "text" }
after = { title = "After", kind = "text" }
*/
SELECT audit_log.at AS time,
       audit_log.actor,
       account.code AS acting_as,
       audit_log.action,
       audit_log.subject,
       coalesce(audit_log.before::text, '') AS before,
       coalesce(audit_log.after::text, '') AS after
  FROM audit_log
  JOIN account ON account.account_id = audit_log.acting_as_id
 WHERE audit_log.at >= %(begin)s
   AND audit_log.at < %(end)s
   AND (%(actor)s::text IS NULL OR audit_log.actor = %(actor)s)
   AND (%(action)s::text IS NULL OR starts_with(audit_log.action, %(action)s))
 ORDER BY audit_log.audit_id
