"""What must hold of the books whatever has happened, and all rows that charging writes.

The sums here are written down a second time, apart from `sky-aaa audit`, and checked
beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.storage import audit

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

# Each yields the rows for which it does not hold.
LAWS = {
    "a transaction balances in each currency": """
        SELECT transaction_id, currency, sum(amount_micros)
          FROM ledger_entry
         GROUP BY transaction_id, currency
        HAVING sum(amount_micros) <> 0""",
    "the whole ledger balances in each currency": """
        SELECT currency, sum(amount_micros)
          FROM ledger_entry
         GROUP BY currency
        HAVING sum(amount_micros) <> 0""",
    "a balance is the sum of the postings": """
        SELECT code, balance_micros
          FROM account
         WHERE balance_micros <> (SELECT coalesce(sum(amount_micros), 0)
                                    FROM posting
                                   WHERE posting.account_id = account.account_id)""",
    "reserved is what the calls in progress of account and customers hold": """
        SELECT code, reserved_micros
          FROM account
         WHERE reserved_micros <> (
                   SELECT coalesce(sum(call.reserved_micros[place]), 0)
                     FROM call
                     JOIN account AS caller ON caller.account_id = call.account_id,
                          array_position(caller.chain, account.account_id) AS place
                    WHERE call.status = 'authorized' AND place IS NOT NULL)""",
    "channels are the calls in progress of account and customers": """
        SELECT code, channels
          FROM account
         WHERE channels <> (
                   SELECT count(*)
                     FROM call
                     JOIN account AS caller ON caller.account_id = call.account_id
                    WHERE call.status = 'authorized'
                      AND call.levels <> '[]' -- an emergency call takes none
                      AND account.account_id = ANY (caller.chain))""",
    "a resource group's channels are its calls in progress": """
        SELECT name, channels
          FROM resource_group
         WHERE channels <> (
                   SELECT count(*)
                     FROM call
                    WHERE call.status = 'authorized'
                      AND resource_group_id IN (resource_group_in_id, resource_group_out_id))""",
    "a call that is not authorised holds nothing": """
        SELECT client_id, session_key
          FROM call
         WHERE status <> 'authorized' AND cardinality(reserved_micros) <> 0""",
    "every charge is posted to its account, and nothing else is": """
        SELECT call_id, account_id, charged.micros, posted.micros
          FROM (SELECT call_id, account_id,
                       sum(CASE level WHEN -1 THEN 1 ELSE -1 END * amount_micros) AS micros
                  FROM charge
                 GROUP BY call_id, account_id) AS charged
          FULL JOIN (SELECT split_part(reference, '/', 1)::bigint AS call_id, account_id,
                            sum(amount_micros) AS micros
                       FROM posting
                       JOIN ledger_transaction USING (transaction_id)
                      WHERE kind = 'call'
                      GROUP BY 1, 2) AS posted USING (call_id, account_id)
         WHERE coalesce(charged.micros, 0) <> coalesce(posted.micros, 0)""",
    # What the customer pays stays somewhere: with resellers and operator, or the provider.
    "margins and the provider's cost are what the customer pays": """
        SELECT cdr.call_id, paid.amount_micros, went.micros
          FROM cdr
          JOIN (SELECT call_id, sum(amount_micros) AS amount_micros
                  FROM charge
                 WHERE level = 0
                 GROUP BY call_id) AS paid USING (call_id)
          JOIN LATERAL (
                 SELECT coalesce(sum(amount_micros), 0) AS micros
                   FROM ledger_entry
                   JOIN ledger_transaction USING (transaction_id)
                  WHERE kind = 'call'
                    AND split_part(reference, '/', 1) = cdr.call_id::text
                    AND account_id <> cdr.account_id) AS went ON true
         WHERE went.micros <> paid.amount_micros
           AND (SELECT count(DISTINCT currency) = 1
                  FROM charge
                 WHERE charge.call_id = cdr.call_id)""",
    # Late messages and calls that nobody asked about are all that can make debts.
    "no prepaid account owes or has promised what it has not": """
        SELECT code, balance_micros, reserved_micros
          FROM account
         WHERE prepaid
           AND balance_micros < reserved_micros
           AND NOT EXISTS (
                   SELECT
                     FROM cdr
                    WHERE account.account_id = ANY (cdr.party_id)
                      AND cdr.flags && ARRAY['longer-than-granted', 'late-stop',
                                             'no-authorization', 'rerated'])""",
    "package seconds that are reserved are those that calls in progress hold": """
        SELECT holding_id, reserved_seconds, held.seconds
          FROM package_holding
          LEFT JOIN (SELECT (share ->> 1)::bigint AS holding_id,
                            sum((share ->> 3)::int) AS seconds
                       FROM call,
                            jsonb_array_elements(call.levels::jsonb) AS level,
                            jsonb_array_elements(level -> 1) AS share
                      WHERE status = 'authorized'
                        AND jsonb_typeof(level -> 1) = 'array'
                        AND share ->> 0 = 'p'
                      GROUP BY 1) AS held USING (holding_id)
         WHERE reserved_seconds <> coalesce(held.seconds, 0)""",
    "package seconds that are used are those of calls that have ended": """
        SELECT holding_id, used_seconds, used.seconds
          FROM package_holding
          JOIN (SELECT (share ->> 1)::bigint AS holding_id, sum((share ->> 3)::int) AS seconds
                  FROM cdr,
                       jsonb_array_elements(cdr.levels::jsonb) AS level,
                       jsonb_array_elements(level -> 1) AS share
                 WHERE jsonb_typeof(level -> 1) = 'array'
                   AND share ->> 0 = 'p'
                 GROUP BY 1) AS used USING (holding_id)
         WHERE used.seconds > used_seconds
            OR used_seconds + reserved_seconds > granted_seconds""",
    "a call that was ended or refused is not in progress too": """
        SELECT call_id
          FROM call
          JOIN cdr USING (call_id)
         WHERE cdr.refusal IS NULL""",
    "what was charged is what the record's seconds cost": """
        SELECT call_id, seconds
          FROM cdr
         WHERE (seconds = 0 OR refusal IS NOT NULL)
           AND EXISTS (SELECT
                         FROM charge
                        WHERE charge.call_id = cdr.call_id
                        GROUP BY level, account_id
                       HAVING sum(amount_micros) <> 0)""",
}

# Numbers of calls and transactions differ from run to run; calls are named by their keys.
ROWS = {
    # A batch that changes an account twice revises it once.
    "account": "SELECT to_jsonb(account) - 'created_at' - 'revision' FROM account",
    "resource_group": "SELECT to_jsonb(resource_group) FROM resource_group",
    "package_holding": "SELECT to_jsonb(package_holding) FROM package_holding",
    "velocity_use": "SELECT to_jsonb(velocity_use) FROM velocity_use",
    "event": "SELECT account_id, kind, detail FROM event",
    "call": "SELECT to_jsonb(call) - 'call_id' - 'version' FROM call",
    # The record of a refused attempt that is being tried again is written anew at its end; in
    # one batch it is never written before.
    "cdr": """
        SELECT to_jsonb(cdr) - 'call_id'
          FROM cdr
         WHERE NOT EXISTS (SELECT FROM call WHERE call.call_id = cdr.call_id)""",
    "charge": """
        SELECT client_id, session_key, authorized_at, to_jsonb(charge) - 'call_id' - 'at'
          FROM charge
          LEFT JOIN cdr USING (call_id)""",
    "ledger_transaction": """
        SELECT client_id, session_key, authorized_at, split_part(reference, '/', 2), at
          FROM ledger_transaction
          LEFT JOIN cdr ON cdr.call_id::text = split_part(reference, '/', 1)
         WHERE kind = 'call'""",
    "posting": """
        SELECT kind,
               CASE kind WHEN 'payment' THEN reference ELSE split_part(reference, '/', 2) END,
               client_id,
               session_key,
               authorized_at,
               to_jsonb(posting) - 'transaction_id'
          FROM posting
          JOIN ledger_transaction USING (transaction_id)
          LEFT JOIN cdr ON cdr.call_id::text = split_part(reference, '/', 1)""",
}


def broken_laws(cursor: Cursor) -> dict[str, list[tuple[object, ...]]]:
    """What does not hold, by name; empty when the books are in order."""
    broken = {}
    for name, statement in LAWS.items():
        cursor.execute(statement)
        rows = cursor.fetchall()
        if rows:
            broken[name] = rows
    for proved in audit.prove(cursor):
        if proved.differences:
            broken[f"audit: {proved.check}"] = [tuple(row) for row in proved.differences]
    return broken


def rows(cursor: Cursor) -> dict[str, list[str]]:
    """Every row that charging writes, in one order, without the numbers that may differ."""
    found = {}
    for table, statement in ROWS.items():
        cursor.execute(statement)
        found[table] = sorted(map(repr, cursor.fetchall()))
    return found
