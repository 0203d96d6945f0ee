"""The statements of `storage.reconciliation`, in the order in which they run."""

from __future__ import annotations

_SAME = """
 WHERE provider_id = %(provider_id)s
   AND sha256 = %(sha256)s
   AND begins = %(begins)s
   AND ends = %(ends)s
   AND tolerance_seconds = %(tolerance_seconds)s
   AND tolerance_micros = %(tolerance_micros)s
   AND window_seconds = %(window_seconds)s
   AND reading = %(reading)s::jsonb"""

DONE_BEFORE = (
    """
SELECT reconciliation_id
  FROM reconciliation"""
    + _SAME
)

FORGET = """
DELETE FROM reconciliation
 WHERE reconciliation_id = %s"""

# Numbers are brought together by their last eight digits, however they begin.
PREPARE = """
SET LOCAL work_mem = '256MB';
SET LOCAL jit = off;
DROP TABLE IF EXISTS pg_temp.their_call, pg_temp.our_call, pg_temp.our_key, pg_temp.candidate,
                     pg_temp.pair, pg_temp.compared;
CREATE TEMPORARY TABLE their_call (
    line bigint NOT NULL,
    number text NOT NULL,
    ani text NOT NULL,
    at timestamptz NOT NULL,
    seconds bigint NOT NULL,
    micros bigint,
    nanos bigint,
    code text NOT NULL,
    destination text NOT NULL,
    suffix text NOT NULL GENERATED ALWAYS AS (right(number, 8)) STORED
) ON COMMIT DROP;
CREATE TEMPORARY TABLE pair (
    line bigint NOT NULL,
    call_id bigint NOT NULL
) ON COMMIT DROP"""

COPY = """
COPY pg_temp.their_call (line, number, ani, at, seconds, micros, nanos, code, destination)
FROM STDIN"""

# Calls over the provider's routes. The answer is as long before the end as the call talked:
# what the switch calls its Start may be the moment it began to dial. The number as it was
# sent ends the dial string of the route that was taken. A call that was answered in time may
# have ended a day later, not more.
OURS = """
CREATE TEMPORARY TABLE our_call ON COMMIT DROP AS
SELECT cdr.call_id,
       coalesce(nullif(ltrim(regexp_replace(
           substring(route.dial from '(?:^|[/:])([0-9*#+]+)(?:[@;][^/]*)?$'),
           '^.*#|[^0-9]', '', 'g'), '0'), ''), called.number) AS sent,
       called.number AS called,
       ltrim(regexp_replace(cdr.ani, '[^0-9]', '', 'g'), '0') AS ani,
       cdr.authorized_at,
       cdr.started_at,
       cdr.ended_at - cdr.duration_ms * interval '1 millisecond' AS answered_at,
       cdr.ended_at,
       CASE WHEN %(by_billed)s THEN coalesce(cost.billed_seconds, cdr.seconds)
            ELSE cdr.seconds END::bigint AS seconds,
       coalesce(cost.micros, 0) AS micros,
       route.nanos,
       coalesce(cost.prefix, '') AS code,
       coalesce(rate.destination, '') AS destination
  FROM cdr
  JOIN resource_group
    ON resource_group.resource_group_id = cdr.resource_group_out_id
   AND resource_group.account_id = %(provider_id)s
 CROSS JOIN LATERAL (
        SELECT ltrim(regexp_replace(cdr.called, '[^0-9]', '', 'g'), '0')) AS called (number)
  LEFT JOIN LATERAL (
        SELECT one ->> 2 AS dial,
               (one ->> 7)::bigint AS nanos
          FROM jsonb_array_elements(cdr.routes::jsonb) AS one
         WHERE (one ->> 0)::bigint = cdr.resource_group_out_id
         LIMIT 1) AS route ON true
  LEFT JOIN LATERAL (
        SELECT sum(amount_micros)::bigint AS micros,
               sum(charge.billed_seconds) AS billed_seconds,
               (array_agg(charge.prefix ORDER BY number DESC))[1] AS prefix,
               (array_agg(rate_id ORDER BY number DESC))[1] AS rate_id
          FROM charge
         WHERE charge.call_id = cdr.call_id
           AND level = -1
           AND charge.account_id = %(provider_id)s) AS cost ON true
  LEFT JOIN rate ON rate.rate_id = cost.rate_id
 WHERE cdr.seconds > 0
   AND cdr.authorized_at >= %(begins)s - interval '1 day'
   AND cdr.authorized_at < %(ends)s + interval '1 day'
   AND cdr.ended_at >= %(begins)s::timestamptz - %(window_seconds)s * interval '1 second'
   AND cdr.ended_at < %(ends)s::timestamptz + interval '1 day'"""

# Every number and time by which a call of ours could be found.
OUR_KEYS = """
CREATE TEMPORARY TABLE our_key ON COMMIT DROP AS
SELECT DISTINCT
       our_call.call_id,
       right(key.number, 8) AS suffix,
       moment.at,
       floor(extract(epoch FROM moment.at) / %(window_seconds)s)::bigint AS bucket
  FROM our_call
 CROSS JOIN LATERAL unnest(ARRAY[sent, called]) AS key (number)
 CROSS JOIN LATERAL unnest(CASE %(time)s
                           WHEN 'answer' THEN ARRAY[answered_at]
                           WHEN 'setup' THEN ARRAY[authorized_at, started_at]
                           WHEN 'end' THEN ARRAY[ended_at]
                           ELSE ARRAY[authorized_at, started_at, answered_at]
                           END) AS moment (at)
 WHERE key.number <> ''
   AND moment.at IS NOT NULL"""

# What could be one call, the less the score the better: milliseconds apart, and a second's
# worth for each second of difference, half a second for a number that only ends alike, five
# for another caller. Equal buckets, so that a number that is called all day is not joined with
# itself.
CANDIDATES = """
CREATE TEMPORARY TABLE candidate ON COMMIT DROP AS
SELECT their_call.line,
       our_call.call_id,
       min(abs(extract(epoch FROM their_call.at - our_key.at)) * 1000)::bigint
       + abs(their_call.seconds - our_call.seconds) * 1000
       + CASE WHEN their_call.number IN (our_call.sent, our_call.called) THEN 0 ELSE 500 END
       + CASE WHEN their_call.ani IN ('', our_call.ani) OR our_call.ani = '' THEN 0
              ELSE 5000 END AS score
  FROM their_call
 CROSS JOIN LATERAL generate_series(-1, 1) AS beside
  JOIN our_key
    ON our_key.suffix = their_call.suffix
   AND our_key.bucket
       = floor(extract(epoch FROM their_call.at) / %(window_seconds)s)::bigint + beside
  JOIN our_call USING (call_id)
 WHERE abs(extract(epoch FROM their_call.at - our_key.at)) <= %(window_seconds)s
   AND (right(their_call.number, length(our_call.sent)) = our_call.sent
        OR right(their_call.number, length(our_call.called)) = our_call.called
        OR right(our_call.sent, length(their_call.number)) = their_call.number
        OR right(our_call.called, length(their_call.number)) = their_call.number)
 GROUP BY their_call.line, their_call.seconds, their_call.number, their_call.ani,
          our_call.call_id, our_call.seconds, our_call.sent, our_call.called, our_call.ani"""

READY = """
ANALYZE pg_temp.candidate"""

# Of all that are left the one with the least score is always each other's best, so that every
# round pairs some.
PAIR_BEST = """
INSERT INTO pair (line, call_id)
SELECT line,
       call_id
  FROM (SELECT line,
               call_id,
               row_number() OVER (PARTITION BY line ORDER BY score, call_id) AS of_line,
               row_number() OVER (PARTITION BY call_id ORDER BY score, line) AS of_call
          FROM candidate) AS ranked
 WHERE of_line = 1
   AND of_call = 1"""

DROP_TAKEN = """
DELETE FROM candidate
 WHERE EXISTS (SELECT FROM pair WHERE pair.line = candidate.line)
    OR EXISTS (SELECT FROM pair WHERE pair.call_id = candidate.call_id)"""

# A pair belongs to the period that our clock says; a line without a call to that of its own.
COMPARED = """
CREATE TEMPORARY TABLE compared ON COMMIT DROP AS
  WITH side AS (
SELECT their_call.line,
       their_call.number AS their_number,
       their_call.at AS their_at,
       their_call.seconds AS their_seconds,
       their_call.nanos AS their_nanos,
       their_call.micros AS their_micros,
       their_call.code AS their_code,
       their_call.destination AS their_destination,
       our_call.*
  FROM their_call
  LEFT JOIN pair USING (line)
  FULL JOIN our_call ON our_call.call_id = pair.call_id
 WHERE coalesce(our_call.answered_at, their_call.at) >= %(begins)s
   AND coalesce(our_call.answered_at, their_call.at) < %(ends)s),
       judged AS (
SELECT side.*,
       array_remove(ARRAY[
           CASE WHEN abs(their_seconds - seconds) > %(tolerance_seconds)s THEN 'duration' END,
           CASE WHEN their_nanos <> nanos THEN 'rate' END,
           CASE WHEN abs(their_micros - micros) > %(tolerance_micros)s THEN 'amount' END],
           NULL) AS differs
  FROM side)
SELECT judged.*,
       CASE WHEN call_id IS NULL THEN 'missing-at-ours'
            WHEN line IS NULL THEN 'missing-at-theirs'
            WHEN differs <> '{}' THEN 'different'
            WHEN their_seconds = seconds AND coalesce(their_micros = micros, true) THEN 'exact'
            ELSE 'within' END AS class,
       coalesce(nullif(their_code, ''), code, own.prefix, '') AS by_code,
       coalesce(nullif(their_destination, ''), judged.destination, own.destination, '')
           AS by_destination
  FROM judged
  -- For a call that we do not know: the row that it would have been bought at.
  LEFT JOIN LATERAL (
        SELECT rate.prefix,
               rate.destination
          FROM generate_series(1, least(length(their_number), 32)) AS digits
          JOIN rate
            ON rate.prefix = left(their_number, digits)
           AND rate.account_id = 0
          JOIN resource_group
            ON resource_group.tariff_id = rate.tariff_id
           AND resource_group.account_id = %(provider_id)s
         WHERE judged.call_id IS NULL
           AND rate.effective_from <= their_at
           AND (rate.effective_to IS NULL OR rate.effective_to > their_at)
         ORDER BY digits DESC
         LIMIT 1) AS own ON true"""

KEEP = """
INSERT INTO reconciliation (
       provider_id, file_name, sha256, begins, ends, currency, tolerance_seconds,
       tolerance_micros, window_seconds, reading, lines, bad_lines, unanswered, outside)
VALUES (%(provider_id)s, %(file_name)s, %(sha256)s, %(begins)s, %(ends)s, %(currency)s,
        %(tolerance_seconds)s, %(tolerance_micros)s, %(window_seconds)s, %(reading)s, %(lines)s,
        %(bad_lines)s, %(unanswered)s,
        (SELECT count(*) FROM their_call) - (SELECT count(line) FROM compared))
RETURNING reconciliation_id"""

KEEP_CODES = """
INSERT INTO reconciliation_code (
       reconciliation_id, code, destination, our_calls, our_seconds, our_micros, their_calls,
       their_seconds, their_micros, exact, within, different, missing_at_ours,
       missing_at_theirs)
SELECT %s,
       by_code,
       max(by_destination),
       count(call_id),
       coalesce(sum(seconds), 0),
       coalesce(sum(micros), 0),
       count(line),
       coalesce(sum(their_seconds), 0),
       sum(their_micros),
       count(*) FILTER (WHERE class = 'exact'),
       count(*) FILTER (WHERE class = 'within'),
       count(*) FILTER (WHERE class = 'different'),
       count(*) FILTER (WHERE class = 'missing-at-ours'),
       count(*) FILTER (WHERE class = 'missing-at-theirs')
  FROM compared
 GROUP BY by_code"""

KEEP_CALLS = """
INSERT INTO reconciliation_call (
       reconciliation_id, number, class, differs, code, destination, line, their_number,
       their_at, their_seconds, their_nanos, their_micros, call_id, our_number, our_at,
       our_seconds, our_nanos, our_micros)
SELECT %s,
       row_number() OVER (ORDER BY coalesce(answered_at, their_at), line, call_id),
       class,
       differs,
       by_code,
       by_destination,
       line,
       their_number,
       their_at,
       their_seconds,
       their_nanos,
       their_micros,
       call_id,
       sent,
       answered_at,
       seconds,
       nanos,
       micros
  FROM compared
 WHERE class <> 'exact'"""

LIST = """
SELECT reconciliation.reconciliation_id,
       account.code,
       reconciliation.created_at,
       file_name,
       encode(sha256, 'hex'),
       begins,
       ends,
       reconciliation.currency,
       tolerance_seconds,
       tolerance_micros,
       window_seconds,
       lines,
       bad_lines,
       unanswered,
       outside,
       coalesce(sum(our_calls), 0)::bigint,
       coalesce(sum(our_seconds), 0)::bigint,
       coalesce(sum(our_micros), 0)::bigint,
       coalesce(sum(their_calls), 0)::bigint,
       coalesce(sum(their_seconds), 0)::bigint,
       sum(their_micros)::bigint,
       coalesce(sum(exact), 0)::bigint,
       coalesce(sum(within), 0)::bigint,
       coalesce(sum(different), 0)::bigint,
       coalesce(sum(missing_at_ours), 0)::bigint,
       coalesce(sum(missing_at_theirs), 0)::bigint
  FROM reconciliation
  JOIN account ON account.account_id = reconciliation.provider_id
  LEFT JOIN reconciliation_code USING (reconciliation_id)
 WHERE (%(provider_id)s::bigint IS NULL OR provider_id = %(provider_id)s)
   AND (%(number)s::bigint IS NULL OR reconciliation_id = %(number)s)
 GROUP BY reconciliation.reconciliation_id, account.code
 ORDER BY reconciliation_id DESC
 LIMIT %(limit)s"""

CODES = """
SELECT code,
       destination,
       our_calls,
       our_seconds,
       our_micros,
       their_calls,
       their_seconds,
       their_micros,
       exact,
       within,
       different,
       missing_at_ours,
       missing_at_theirs
  FROM reconciliation_code
 WHERE reconciliation_id = %s
 ORDER BY abs(coalesce(their_micros, 0) - our_micros) DESC, code"""

CALLS = """
SELECT class,
       differs,
       code,
       destination,
       line,
       their_number,
       their_at,
       their_seconds,
       their_nanos,
       their_micros,
       call_id,
       our_number,
       our_at,
       our_seconds,
       our_nanos,
       our_micros
  FROM reconciliation_call
 WHERE reconciliation_id = %s
   AND class = ANY (%s)
 ORDER BY number"""
