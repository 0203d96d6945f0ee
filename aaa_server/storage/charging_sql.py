"""The statements of the charging connection, prepared when it connects."""

from __future__ import annotations

# Rows are found by LATERAL … LIMIT 1, one look into an index for each: a plain join of two
# tables that were small when it was planned may read the large one whole. Rows of call are
# written by one transaction at a time, so a ctid found in a statement is good in it.

# A list of JSON comes as one text, since array_in looks at each of its quotes by itself.
_JSON = r"string_to_array(${}::text, E'\x1f')"

# A plan made while a table was empty would scan it for ever: these keep it to the indexes.
SETTINGS = (
    "plan_cache_mode=force_generic_plan",
    "jit=off",
    "enable_seqscan=off",
    "enable_hashjoin=off",
    "enable_mergejoin=off",
    "enable_bitmapscan=off",
)

_NEW_CALLS = f"""\
INSERT INTO call (client_id, session_key, call_id, status, account_id, party_id,
                  reserved_micros, levels, routes, resource_group_in_id, resource_group_out_id,
                  granted_seconds, last_seconds, expires_at, authorized_at, started_at, found_by,
                  ani, called, nas_address, sip_call_id, refusal, version)
SELECT client_id, session_key, call_id, status, account_id, party_id::bigint[],
       reserved_micros::bigint[], levels, routes, resource_group_in_id, resource_group_out_id,
       granted_seconds, last_seconds, expires_at, authorized_at, started_at, found_by,
       ani, called, nas_address, sip_call_id, refusal, version
  FROM unnest($1::int[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[],
              $7::text[], {_JSON.format(8)}, {_JSON.format(9)}, $10::bigint[], $11::bigint[],
              $12::int[], $13::int[], $14::timestamptz[], $15::timestamptz[], $16::timestamptz[],
              $17::text[], $18::text[], $19::text[], $20::inet[], $21::text[], $22::text[],
              $23::int[])
       AS new (client_id, session_key, call_id, status, account_id, party_id,
               reserved_micros, levels, routes, resource_group_in_id, resource_group_out_id,
               granted_seconds, last_seconds, expires_at, authorized_at, started_at, found_by,
               ani, called, nas_address, sip_call_id, refusal, version)"""  # noqa: S608 - nothing but constants

PREPARED = {
    # One answer for all: accounts (0), resource groups (1), the catalogue (2), calls (3). What
    # is locked comes as it is now, the calls as of the statement's start: one transaction
    # at a time writes them, and this one has its turn already.
    "load": """
WITH found AS MATERIALIZED (
SELECT call.client_id,
       call.session_key,
       call.call_id,
       call.status,
       call.account_id,
       call.party_id,
       call.reserved_micros,
       call.levels,
       call.routes,
       call.resource_group_in_id,
       call.resource_group_out_id,
       call.granted_seconds,
       call.last_seconds,
       call.step,
       call.step_seconds,
       call.expires_at,
       call.authorized_at,
       call.started_at,
       call.found_by,
       host(call.nas_address),
       call.called,
       call.refusal,
       NULL::timestamptz AS ended_at,
       NULL AS ended_by,
       0 AS seconds,
       0 AS postings,
       NULL::text[] AS flags,
       NULL::int[] AS charged_level,
       NULL::bigint[] AS charged_micros,
       NULL::bigint AS provider_id,
       call.version,
       wanted.money,
       NULL::int[] AS billed_seconds,
       0 AS charges,
       0::bigint AS duration_ms,
       '' AS cause,
       NULL::timestamptz AS recorded_at
  FROM unnest($1::int[], $2::text[], $3::boolean[]) AS wanted (client_id, session_key, money)
 CROSS JOIN LATERAL (
        SELECT *
          FROM call
         WHERE call.client_id = wanted.client_id
           AND call.session_key = wanted.session_key
         LIMIT 1) AS call
 UNION ALL
SELECT cdr.client_id,
       cdr.session_key,
       cdr.call_id,
       'ended',
       cdr.account_id,
       cdr.party_id,
       NULL::bigint[],
       cdr.levels,
       cdr.routes,
       cdr.resource_group_in_id,
       cdr.resource_group_out_id,
       cdr.granted_seconds,
       NULL::int,
       NULL::int,
       NULL::int,
       cdr.ended_at,
       cdr.authorized_at,
       cdr.started_at,
       cdr.found_by,
       host(cdr.nas_address),
       cdr.called,
       cdr.refusal,
       cdr.ended_at,
       cdr.ended_by,
       cdr.seconds,
       cdr.postings,
       cdr.flags,
       charged.level,
       charged.micros,
       (SELECT account_id
          FROM charge
         WHERE charge.call_id = cdr.call_id
           AND level = -1
         ORDER BY number DESC, billed_seconds DESC
         LIMIT 1),
       -1,
       wanted.money,
       charged.billed,
       coalesce(charged.number, 0),
       cdr.duration_ms,
       cdr.cause,
       charged.recorded_at
  FROM unnest($1::int[], $2::text[], $3::boolean[], $8::bigint[])
       AS wanted (client_id, session_key, money, call_id)
 CROSS JOIN LATERAL (
        SELECT *
          FROM cdr
         WHERE cdr.client_id = wanted.client_id
           AND cdr.session_key = wanted.session_key
           AND (wanted.call_id IS NULL OR cdr.call_id = wanted.call_id)
           AND cdr.authorized_at >= least($6::timestamptz, now() - interval '32 days')
           AND cdr.authorized_at < greatest($7::timestamptz, now() + interval '32 days')
         ORDER BY cdr.authorized_at DESC
         LIMIT 1) AS cdr
 CROSS JOIN LATERAL (
        SELECT array_agg(level::int) AS level,
               array_agg(micros::bigint) AS micros,
               array_agg(billed::int) AS billed,
               max(number)::int AS number,
               min(recorded_at) AS recorded_at
          FROM (SELECT level, sum(amount_micros) AS micros, sum(billed_seconds) AS billed,
                       max(number) AS number, min(at) AS recorded_at
                  FROM charge
                 WHERE charge.call_id = cdr.call_id
                 GROUP BY level) AS of_level) AS charged
), locked AS (
    SELECT 0 AS kind, account_id AS id, revision, balance_micros, reserved_micros, channels,
           second_at, second_calls
      FROM (SELECT *
              FROM account
             WHERE account_id = ANY (ARRAY (
                   SELECT unnest($4::bigint[])
                    UNION
                   SELECT unnest(found.party_id) FROM found WHERE found.money
                    UNION
                   SELECT found.provider_id FROM found WHERE found.money))
             ORDER BY account_id
               FOR NO KEY UPDATE) AS account
     UNION ALL
    SELECT 1, resource_group_id, 0, 0, 0, channels, second_at, second_calls
      FROM (SELECT *
              FROM resource_group
             WHERE resource_group_id = ANY (ARRAY (
                   SELECT unnest($5::bigint[])
                    UNION
                   SELECT found.resource_group_in_id FROM found WHERE found.money
                    UNION
                   SELECT found.resource_group_out_id FROM found WHERE found.money))
             ORDER BY resource_group_id
               FOR NO KEY UPDATE) AS resource_group
     UNION ALL
    SELECT 2, 0, revision, 0, 0, 0, 0, 0
      FROM catalogue
)
SELECT *
  FROM locked
  FULL JOIN found ON false""",
    # The last call of a key that had begun by then.
    "former_calls": """
SELECT wanted.client_id,
       wanted.session_key,
       found.call_id
  FROM unnest($1::int[], $2::text[], $3::timestamptz[])
       AS wanted (client_id, session_key, begun_by)
 CROSS JOIN LATERAL (
        SELECT cdr.call_id
          FROM cdr
         WHERE cdr.client_id = wanted.client_id
           AND cdr.session_key = wanted.session_key
           AND cdr.authorized_at <= wanted.begun_by
           AND cdr.authorized_at >= $4::timestamptz
           AND cdr.authorized_at < $5::timestamptz
         ORDER BY cdr.authorized_at DESC
         LIMIT 1) AS found""",
    "open_calls": """
SELECT client_id,
       session_key
  FROM call
 WHERE client_id = ANY ($1::int[])""",
    "resolve": """
SELECT 'code', account.code, '', account.account_id
  FROM account
 WHERE account.code = ANY ($1::text[])
 UNION ALL
SELECT 'extension', extension, domain, account_id
  FROM extension_map
 WHERE extension = ANY ($2::text[])
 UNION ALL
SELECT 'ani', ani, '', account_id
  FROM ani_map
 WHERE ani = ANY ($3::text[])""",
    "next_accounts": """
SELECT account_id
  FROM account
 WHERE account_id > $1
 ORDER BY account_id
 LIMIT $2""",
    "load_profiles": """
SELECT account_id,
       code,
       kind,
       parent_id,
       chain,
       prepaid,
       currency,
       credit_limit_micros,
       rate_group_id,
       max_channels,
       calls_per_second,
       maximum_call_seconds,
       status,
       expires_at,
       language,
       password_sealed,
       pin_sealed,
       revision,
       metered,
       pin_failures,
       locked_until,
       first_used_at,
       valid_days,
       surcharge_micros,
       balance_micros,
       reserved_micros,
       channels,
       second_at,
       second_calls
  FROM account
 WHERE account_id = ANY (ARRAY (
       SELECT unnest($1::bigint[])
        UNION ALL
       SELECT account.account_id FROM account WHERE account.code = ANY ($2::text[])))""",
    # What is metered of accounts: packages (0), limits (1), and what was used of these (2).
    # Of periods that ended long ago nothing is asked any more.
    "load_meters": """
SELECT 0,
       holding_id,
       account_id,
       prefixes,
       priority,
       valid_from,
       valid_to,
       granted_seconds,
       used_seconds,
       reserved_seconds,
       NULL::text,
       NULL::text,
       NULL::text,
       NULL::bigint,
       NULL::boolean,
       NULL::boolean,
       NULL::text
  FROM package_holding
 WHERE account_id = ANY ($1::bigint[])
   AND (valid_to IS NULL OR valid_to > $2::timestamptz)
 UNION ALL
SELECT 1,
       limit_id,
       account_id,
       prefixes,
       NULL,
       NULL,
       NULL,
       NULL,
       NULL,
       NULL,
       velocity_limit.name,
       period,
       measure,
       maximum,
       action = 'block',
       active,
       account.time_zone
  FROM velocity_limit
  JOIN account USING (account_id)
 WHERE account_id = ANY ($1::bigint[])
 UNION ALL
SELECT 2,
       limit_id,
       NULL,
       NULL,
       NULL,
       period_from,
       NULL,
       NULL,
       NULL,
       NULL,
       NULL,
       NULL,
       NULL,
       amount,
       alerted,
       NULL,
       NULL
  FROM velocity_use
  JOIN velocity_limit USING (limit_id)
 WHERE account_id = ANY ($1::bigint[])
   AND period_from > $2::timestamptz""",
    # One of that key would be another process's, and an error that says memory was wrong.
    "insert_calls": _NEW_CALLS,
    # An attempt that was refused is written anew.
    "rewrite_calls": f"""
WITH written AS (
{_NEW_CALLS}
    ON CONFLICT (client_id, session_key) DO UPDATE
   SET status = EXCLUDED.status,
       account_id = EXCLUDED.account_id,
       party_id = EXCLUDED.party_id,
       reserved_micros = EXCLUDED.reserved_micros,
       levels = EXCLUDED.levels,
       routes = EXCLUDED.routes,
       resource_group_in_id = EXCLUDED.resource_group_in_id,
       resource_group_out_id = EXCLUDED.resource_group_out_id,
       granted_seconds = EXCLUDED.granted_seconds,
       last_seconds = EXCLUDED.last_seconds,
       expires_at = EXCLUDED.expires_at,
       authorized_at = EXCLUDED.authorized_at,
       started_at = EXCLUDED.started_at,
       found_by = EXCLUDED.found_by,
       ani = EXCLUDED.ani,
       called = EXCLUDED.called,
       nas_address = EXCLUDED.nas_address,
       sip_call_id = EXCLUDED.sip_call_id,
       refusal = EXCLUDED.refusal,
       version = EXCLUDED.version
 WHERE call.version = EXCLUDED.version - 1
RETURNING 1
)
SELECT expect(count(*), cardinality($1)) FROM written""",  # noqa: S608 - nothing but constants
    "touch_calls": """
WITH written AS (
UPDATE call
   SET version = call.version + 1,
       granted_seconds = new.granted_seconds,
       last_seconds = new.last_seconds,
       step = new.step,
       step_seconds = new.step_seconds,
       expires_at = new.expires_at,
       started_at = new.started_at,
       reserved_micros = new.reserved_micros::bigint[],
       levels = coalesce(new.levels, call.levels)
  FROM unnest($1::int[], $2::text[], $3::int[], $4::int[], $5::int[], $6::int[],
              $7::timestamptz[], $8::timestamptz[], $9::text[], $10::int[], $11::text[])
       AS new (client_id, session_key, granted_seconds, last_seconds, step, step_seconds,
               expires_at, started_at, reserved_micros, version, levels)
 CROSS JOIN LATERAL (
        SELECT call.ctid AS place
          FROM call
         WHERE call.client_id = new.client_id
           AND call.session_key = new.session_key
           AND call.version = new.version
         LIMIT 1) AS found
 WHERE call.ctid = found.place
RETURNING 1
)
SELECT expect(count(*), cardinality($1)) FROM written""",
    "end_calls": """
WITH ended AS (
    SELECT *
      FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[],
                  $7::bigint[], $8::int[], $9::text[], $10::bigint[], $11::int[], $12::text[],
                  $13::int[], $14::int[], $15::timestamptz[])
           AS new (client_id, session_key, levels, routes, ended_at, ended_by,
                   duration_ms, seconds, cause, resource_group_out_id, postings, flags, version,
                   granted_seconds, started_at)
), gone AS (
    DELETE FROM call
     USING ended
     CROSS JOIN LATERAL (
            SELECT call.ctid AS place
              FROM call
             WHERE call.client_id = ended.client_id
               AND call.session_key = ended.session_key
               AND call.version = ended.version
             LIMIT 1) AS found
     WHERE call.ctid = found.place
 RETURNING call.*, ended.levels AS rated_levels, ended.routes AS rated_routes,
           ended.ended_at, ended.ended_by, ended.duration_ms, ended.seconds, ended.cause,
           ended.resource_group_out_id AS answered_id, ended.postings, ended.flags,
           ended.granted_seconds AS granted_in_all, ended.started_at AS begun_at
), written AS (
INSERT INTO cdr (call_id, client_id, session_key, account_id, party_id, levels, routes,
                 resource_group_in_id, granted_seconds, authorized_at, started_at, found_by,
                 ani, called, nas_address, sip_call_id, refusal, ended_at, ended_by,
                 duration_ms, seconds, cause, resource_group_out_id, postings, flags)
SELECT call_id, client_id, session_key, account_id, party_id,
       coalesce(rated_levels, levels), coalesce(rated_routes, routes),
       resource_group_in_id, granted_in_all, authorized_at, begun_at, found_by,
       ani, called, nas_address, sip_call_id, refusal, ended_at, ended_by,
       duration_ms, seconds, cause, answered_id, postings, flags::text[]
  FROM gone
    ON CONFLICT (call_id, authorized_at) DO UPDATE
   SET account_id = EXCLUDED.account_id,
       party_id = EXCLUDED.party_id,
       levels = EXCLUDED.levels,
       routes = EXCLUDED.routes,
       resource_group_in_id = EXCLUDED.resource_group_in_id,
       granted_seconds = EXCLUDED.granted_seconds,
       started_at = EXCLUDED.started_at,
       found_by = EXCLUDED.found_by,
       ani = EXCLUDED.ani,
       called = EXCLUDED.called,
       nas_address = EXCLUDED.nas_address,
       sip_call_id = EXCLUDED.sip_call_id,
       refusal = EXCLUDED.refusal,
       ended_at = EXCLUDED.ended_at,
       ended_by = EXCLUDED.ended_by,
       duration_ms = EXCLUDED.duration_ms,
       seconds = EXCLUDED.seconds,
       cause = EXCLUDED.cause,
       resource_group_out_id = EXCLUDED.resource_group_out_id,
       postings = EXCLUDED.postings,
       flags = EXCLUDED.flags
RETURNING 1
)
SELECT expect(count(*), cardinality($1)) FROM written""",
    # A refused attempt that had been closed is asked for again: its record waits where the
    # attempt's end will be written.
    "reopen_cdrs": """
UPDATE cdr
   SET authorized_at = new.authorized_at
  FROM unnest($1::bigint[], $2::timestamptz[]) AS new (call_id, authorized_at)
 WHERE cdr.call_id = new.call_id
   AND cdr.authorized_at >= least($3::timestamptz, now() - interval '32 days')
   AND cdr.authorized_at < greatest($4::timestamptz, now() + interval '32 days')""",
    "correct_cdrs": """
UPDATE cdr
   SET duration_ms = new.duration_ms,
       seconds = new.seconds,
       cause = new.cause,
       resource_group_out_id = new.resource_group_out_id,
       routes = coalesce(new.routes, cdr.routes),
       levels = coalesce(new.levels, cdr.levels),
       postings = new.postings,
       flags = new.flags::text[]
  FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[], $5::bigint[], $6::text[],
              $7::int[], $8::text[], $9::text[], $10::timestamptz[])
       AS new (call_id, duration_ms, seconds, cause, resource_group_out_id, routes, postings,
               flags, levels, authorized_at)
 WHERE cdr.call_id = new.call_id
   AND cdr.authorized_at = new.authorized_at
   AND cdr.authorized_at >= $11::timestamptz
   AND cdr.authorized_at <= $12::timestamptz""",
    "write_charges": """
INSERT INTO charge (call_id, level, number, account_id, currency, amount_micros,
                    billed_seconds, rate_id, prefix, exchange_e10, package_seconds)
SELECT *
  FROM unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::bigint[], $5::text[],
              $6::bigint[], $7::int[], $8::bigint[], $9::text[], $10::numeric[], $11::int[])""",
    "write_holdings": """
UPDATE package_holding
   SET used_seconds = new.used_seconds,
       reserved_seconds = new.reserved_seconds
  FROM unnest($1::bigint[], $2::int[], $3::int[])
       AS new (holding_id, used_seconds, reserved_seconds)
 WHERE package_holding.holding_id = new.holding_id""",
    "write_uses": """
INSERT INTO velocity_use (limit_id, period_from, amount, alerted)
SELECT limit_id, to_timestamp(period), amount, alerted
  FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::boolean[])
       AS new (limit_id, period, amount, alerted)
    ON CONFLICT (limit_id, period_from) DO UPDATE
   SET amount = EXCLUDED.amount,
       alerted = EXCLUDED.alerted""",
    "write_events": """
INSERT INTO event (account_id, kind, detail)
SELECT account_id, kind, detail::jsonb
  FROM unnest($1::bigint[], $2::text[], $3::text[]) AS new (account_id, kind, detail)""",
    # The trigger counts the revision up, once a batch, as the ledger has done.
    "write_profiles": """
WITH written AS (
UPDATE account
   SET pin_failures = new.pin_failures,
       locked_until = new.locked_until,
       first_used_at = new.first_used_at,
       expires_at = new.expires_at
  FROM unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[],
              $6::bigint[])
       AS new (account_id, pin_failures, locked_until, first_used_at, expires_at, revision)
 WHERE account.account_id = new.account_id
   AND account.revision = new.revision - 1
RETURNING 1
)
SELECT expect(count(*), cardinality($1)) FROM written""",
    "load_nonces": """
SELECT encode(nonce_hash, 'hex'),
       account_id,
       last_count,
       last_response,
       seen_at
  FROM digest_nonce
 WHERE nonce_hash IN (SELECT decode(one, 'hex') FROM unnest($1::text[]) AS one)""",
    "write_nonces": """
INSERT INTO digest_nonce (nonce_hash, account_id, last_count, last_response, seen_at)
SELECT decode(nonce_hash, 'hex'), account_id, last_count, last_response, seen_at
  FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::timestamptz[])
       AS new (nonce_hash, account_id, last_count, last_response, seen_at)
    ON CONFLICT (nonce_hash) DO UPDATE
   SET account_id = excluded.account_id,
       last_count = excluded.last_count,
       last_response = excluded.last_response,
       seen_at = excluded.seen_at""",
    "count_anis": """
SELECT account_id,
       count(*)
  FROM ani_map
 WHERE account_id = ANY ($1::bigint[])
 GROUP BY account_id""",
    "write_anis": """
INSERT INTO ani_map (ani, account_id)
SELECT ani, account_id
  FROM unnest($1::text[], $2::bigint[]) AS new (ani, account_id)
    ON CONFLICT (ani) DO NOTHING""",
    "write_transactions": """
INSERT INTO ledger_transaction (transaction_id, kind, reference, at)
SELECT transaction_id, 'call', reference, at
  FROM unnest($1::bigint[], $2::text[], $3::timestamptz[])
       AS new (transaction_id, reference, at)""",
    "write_postings": """
INSERT INTO posting (transaction_id, position, account_id, amount_micros, currency,
                     contra_account_id, contra_book)
SELECT *
  FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::text[],
              $6::bigint[], $7::text[])""",
    "write_accounts": """
WITH written AS (
UPDATE account
   SET balance_micros = new.balance_micros,
       reserved_micros = new.reserved_micros,
       channels = new.channels,
       second_at = new.second_at,
       second_calls = new.second_calls
  FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[], $5::bigint[], $6::int[],
              $7::bigint[], $8::bigint[], $9::int[], $10::bigint[], $11::int[], $12::bigint[])
       AS new (account_id, balance_micros, reserved_micros, channels, second_at, second_calls,
               was_balance, was_reserved, was_channels, was_second_at, was_second_calls, revision)
 WHERE account.account_id = new.account_id
   AND account.balance_micros = new.was_balance
   AND account.reserved_micros = new.was_reserved
   AND account.channels = new.was_channels
   AND account.second_at = new.was_second_at
   AND account.second_calls = new.was_second_calls
   AND account.revision = new.revision
RETURNING 1
)
SELECT expect(count(*), cardinality($1)) FROM written""",
    "write_groups": """
WITH written AS (
UPDATE resource_group
   SET channels = new.channels,
       second_at = new.second_at,
       second_calls = new.second_calls
  FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::int[], $5::int[], $6::bigint[],
              $7::int[])
       AS new (resource_group_id, channels, second_at, second_calls,
               was_channels, was_second_at, was_second_calls)
 WHERE resource_group.resource_group_id = new.resource_group_id
   AND resource_group.channels = new.was_channels
   AND resource_group.second_at = new.was_second_at
   AND resource_group.second_calls = new.was_second_calls
RETURNING 1
)
SELECT expect(count(*), cardinality($1)) FROM written""",
    # What was only looked at in memory is still so: prices, accounts, groups, calls; and no
    # call of a new call's key has ended before. Each alone: mostly there is only the first.
    # All keys are looked for at once, and whose they are is only asked of those found.
    "prove_catalogue": """
SELECT expect((SELECT revision FROM catalogue), $1::bigint)""",
    "prove_accounts": """
SELECT expect((
           SELECT count(*)
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[], $5::bigint[],
                         $6::int[], $7::bigint[])
                  AS was (account_id, balance_micros, reserved_micros, channels, second_at,
                          second_calls, revision)
             JOIN account USING (account_id, balance_micros, reserved_micros, channels,
                                 second_at, second_calls, revision)), cardinality($1))""",
    "prove_groups": """
SELECT expect((
           SELECT count(*)
             FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::int[])
                  AS was (resource_group_id, channels, second_at, second_calls)
             JOIN resource_group USING (resource_group_id, channels, second_at, second_calls)),
           cardinality($1))""",
    "prove_new": """
WITH found AS MATERIALIZED (
    SELECT client_id, session_key
      FROM cdr
     WHERE client_id = ANY ($1::int[])
       AND session_key = ANY ($2::text[])
       AND authorized_at >= least($3::timestamptz, now() - interval '32 days')
       AND authorized_at < greatest($4::timestamptz, now() + interval '32 days')
)
SELECT expect((
           SELECT count(*)
             FROM found
             JOIN unnest($1::int[], $2::text[]) AS new (client_id, session_key)
            USING (client_id, session_key)), 0)""",
    "prove_calls": """
SELECT expect((
           SELECT count(*)
             FROM unnest($1::int[], $2::text[], $3::int[])
                  AS was (client_id, session_key, version)
            CROSS JOIN LATERAL (
                   SELECT 1
                     FROM call
                    WHERE call.client_id = was.client_id
                      AND call.session_key = was.session_key
                      AND call.version = was.version
                    LIMIT 1) AS running), cardinality($1))""",
}

# What the connection beside the charging one runs.
LOOKS = {name: PREPARED[name] for name in ("next_accounts", "load_profiles")}
