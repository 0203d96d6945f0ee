"""Proof of the books: everything that is cached or said twice is computed again and compared.

Each check is one statement that yields its differences: what, as it should be by the
rows it is made of, and as it stands. Run in one REPEATABLE READ transaction, all of them
see the same instant, so a busy server causes no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage import audit_rollups

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

DIFFERENCES_MAX = 1000  # a check; more of them have one cause


class Check(NamedTuple):
    """One thing that must hold."""

    name: str
    sql: str


class Difference(NamedTuple):
    """Where it does not hold; `expected` by the rows that decide, `found` where it is kept."""

    check: str
    subject: str
    expected: str
    found: str


class Proved(NamedTuple):
    """One check's outcome."""

    check: str
    differences: list[Difference]


def prove(cursor: Cursor) -> list[Proved]:
    """Every check with its differences."""
    return [Proved(check.name, differences(cursor, check)) for check in CHECKS]


def differences(cursor: Cursor, check: Check) -> list[Difference]:
    """What one check finds, at most `DIFFERENCES_MAX`; its transaction reads no other way again."""
    # How many accounts hold something cannot be estimated from calls, whose levels are a text:
    # what was taken for a few would be compared with each of a million accounts.
    cursor.execute("SET LOCAL enable_nestloop = off")
    cursor.execute("SELECT set_config('work_mem', '256MB', true), set_config('jit', 'off', true)")
    cursor.execute(check.sql + "\n LIMIT %s", (DIFFERENCES_MAX,))
    return [Difference(check.name, *map(str, row)) for row in cursor.fetchall()]


_BALANCES = """
SELECT account.code,
       coalesce(posted.micros, 0),
       account.balance_micros
  FROM account
  LEFT JOIN (SELECT account_id,
                    sum(amount_micros) AS micros
               FROM posting
              GROUP BY account_id) AS posted USING (account_id)
 WHERE account.balance_micros <> coalesce(posted.micros, 0)
 ORDER BY account.code"""

# A call's levels and what it reserves at each stand in the same order.
_RESERVED = """
SELECT account.code,
       coalesce(held.micros, 0),
       account.reserved_micros
  FROM account
  LEFT JOIN (SELECT (level.value ->> 0)::bigint AS account_id,
                    sum(call.reserved_micros[level.place]) AS micros
               FROM call
              CROSS JOIN LATERAL jsonb_array_elements(call.levels::jsonb)
                    WITH ORDINALITY AS level (value, place)
              WHERE call.status = 'authorized'
              GROUP BY 1) AS held USING (account_id)
 WHERE account.reserved_micros <> coalesce(held.micros, 0)
 ORDER BY account.code"""

_ACCOUNT_CHANNELS = """
SELECT account.code,
       coalesce(held.calls, 0),
       account.channels
  FROM account
  LEFT JOIN (SELECT (level.value ->> 0)::bigint AS account_id,
                    count(*) AS calls
               FROM call
              CROSS JOIN LATERAL jsonb_array_elements(call.levels::jsonb) AS level (value)
              WHERE call.status = 'authorized'
              GROUP BY 1) AS held USING (account_id)
 WHERE account.channels <> coalesce(held.calls, 0)
 ORDER BY account.code"""

_GROUP_CHANNELS = """
SELECT resource_group.name,
       coalesce(held.calls, 0),
       resource_group.channels
  FROM resource_group
  LEFT JOIN (SELECT used.resource_group_id,
                    count(*) AS calls
               FROM call
              CROSS JOIN LATERAL (VALUES (call.resource_group_in_id),
                                         (call.resource_group_out_id))
                    AS used (resource_group_id)
              WHERE call.status = 'authorized'
              GROUP BY 1) AS held USING (resource_group_id)
 WHERE resource_group.channels <> coalesce(held.calls, 0)
 ORDER BY resource_group.name"""

_CHARGES = """
SELECT 'call ' || call_id || ', ' || coalesce(account.code, 'account ' || account_id),
       coalesce(charged.micros, 0),
       coalesce(posted.micros, 0)
  FROM (SELECT call_id,
               account_id,
               sum(CASE level WHEN -1 THEN amount_micros ELSE -amount_micros END) AS micros
          FROM charge
         GROUP BY call_id, account_id) AS charged
  FULL JOIN (SELECT split_part(ledger_transaction.reference, '/', 1)::bigint AS call_id,
                    posting.account_id,
                    sum(posting.amount_micros) AS micros
               FROM ledger_transaction
               JOIN posting USING (transaction_id)
              WHERE ledger_transaction.kind = 'call'
              GROUP BY 1, 2) AS posted USING (call_id, account_id)
  LEFT JOIN account USING (account_id)
 WHERE coalesce(charged.micros, 0) <> coalesce(posted.micros, 0)
 ORDER BY call_id, account_id"""

_CALL_TRANSACTIONS = """
SELECT 'call ' || call_id,
       coalesce(posted.transactions, 0),
       coalesce(cdr.postings::text, 'no record of this call')
  FROM cdr_ever AS cdr
  FULL JOIN (SELECT split_part(reference, '/', 1)::bigint AS call_id,
                    count(*) AS transactions
               FROM ledger_transaction
              WHERE kind = 'call'
              GROUP BY 1) AS posted USING (call_id)
 WHERE coalesce(posted.transactions, 0) IS DISTINCT FROM cdr.postings
 ORDER BY call_id"""

_TRANSACTIONS = """
SELECT subject, expected, found
  FROM (SELECT 'transaction ' || transaction_id AS subject,
               'postings' AS expected,
               'none' AS found
          FROM ledger_transaction
         WHERE NOT EXISTS (SELECT FROM posting
                            WHERE posting.transaction_id = ledger_transaction.transaction_id)
         UNION ALL
        SELECT 'posting ' || transaction_id || ' ' || position, 'a transaction', 'none'
          FROM posting
         WHERE NOT EXISTS (SELECT FROM ledger_transaction
                            WHERE ledger_transaction.transaction_id = posting.transaction_id)
         UNION ALL
        SELECT 'call ' || call_id || ' level ' || level, 'a record of the call', 'none'
          FROM charge
         WHERE NOT EXISTS (SELECT FROM cdr_ever AS cdr WHERE cdr.call_id = charge.call_id)
         UNION ALL
        SELECT 'call ' || call_id, 'in progress or ended', 'both'
          FROM call
         WHERE EXISTS (SELECT FROM cdr_ever AS cdr
                        WHERE cdr.call_id = call.call_id
                          -- An attempt that was refused and closed may be tried again.
                          AND cdr.refusal IS NULL)) AS lost
 ORDER BY subject"""

_REFERENCES = """
SELECT subject, expected, found
  FROM (SELECT 'posting ' || transaction_id || ' ' || position AS subject,
               'account ' || named.account_id AS expected,
               'none' AS found
          FROM posting
         CROSS JOIN LATERAL (VALUES (posting.account_id), (posting.contra_account_id))
               AS named (account_id)
         WHERE NOT EXISTS (SELECT FROM account WHERE account.account_id = named.account_id)
         UNION ALL
        SELECT 'call ' || call_id || ' level ' || level, 'account ' || account_id, 'none'
          FROM charge
         WHERE NOT EXISTS (SELECT FROM account WHERE account.account_id = charge.account_id)
         UNION ALL
        SELECT 'call ' || call_id || ' level ' || level, 'rate ' || rate_id, 'none'
          FROM charge
         WHERE rate_id <> 0
           AND NOT EXISTS (SELECT FROM rate WHERE rate.rate_id = charge.rate_id)
         UNION ALL
        SELECT 'call ' || call_id, 'account ' || account_id, 'none'
          FROM (SELECT call_id, account_id FROM call
                 UNION ALL
                SELECT call_id, account_id FROM cdr_ever AS cdr) AS either
         WHERE account_id IS NOT NULL
           AND NOT EXISTS (SELECT FROM account WHERE account.account_id = either.account_id)
         UNION ALL
        SELECT 'call ' || call_id, 'resource group ' || resource_group_id, 'none'
          FROM (SELECT call_id, resource_group_in_id FROM call
                 UNION ALL
                SELECT call_id, resource_group_out_id FROM call
                 UNION ALL
                SELECT call_id, resource_group_in_id FROM cdr_ever AS cdr
                 UNION ALL
                SELECT call_id, resource_group_out_id FROM cdr_ever AS cdr)
               AS used (call_id, resource_group_id)
         WHERE resource_group_id IS NOT NULL
           AND NOT EXISTS (SELECT FROM resource_group
                            WHERE resource_group.resource_group_id = used.resource_group_id))
       AS dangling
 ORDER BY subject"""

_CURRENCIES = """
SELECT subject, expected, found
  FROM (SELECT 'posting ' || transaction_id || ' ' || position AS subject,
               account.currency AS expected,
               posting.currency AS found
          FROM posting
          JOIN account USING (account_id)
         WHERE posting.currency <> account.currency
         UNION ALL
        SELECT 'call ' || call_id || ' level ' || level, account.currency, charge.currency
          FROM charge
          JOIN account USING (account_id)
         WHERE charge.currency <> account.currency) AS mixed
 ORDER BY subject"""

# A level buys from its parent, the operator from a provider; a payment goes to one above.
_SELLERS = """
SELECT 'posting ' || posting.transaction_id || ' ' || posting.position,
       CASE WHEN ledger_transaction.kind = 'payment' THEN 'cash of an account above'
            WHEN account.kind = 'provider' THEN parent.code || ' purchases'
            ELSE parent.code || ' sales' END,
       coalesce(contra.code, 'account ' || posting.contra_account_id)
       || ' ' || posting.contra_book
  FROM posting
  JOIN ledger_transaction USING (transaction_id)
  JOIN account ON account.account_id = posting.account_id
  JOIN account AS parent ON parent.account_id = account.parent_id
  LEFT JOIN account AS contra ON contra.account_id = posting.contra_account_id
 WHERE NOT coalesce(
           CASE WHEN ledger_transaction.kind = 'payment'
                THEN posting.contra_book = 'cash'
                     AND (contra.kind = 'admin'
                          OR contra.account_id = ANY (account.chain[2:]))
                WHEN ledger_transaction.kind = 'call'
                THEN contra.account_id = account.parent_id
                     AND posting.contra_book
                         = CASE account.kind WHEN 'provider' THEN 'purchases' ELSE 'sales' END
                WHEN ledger_transaction.kind IN ('invoice', 'credit-note')
                THEN contra.account_id = account.parent_id
                     AND posting.contra_book IN ('sales', 'fees', 'tax', 'rounding')
                ELSE true END,
           false)
 ORDER BY posting.transaction_id, posting.position"""

# A line is the sum of the charges, or the fee, that carry it.
_INVOICE_LINES = """
SELECT 'invoice ' || coalesce(invoice.number, invoice.invoice_id::text) || ' line '
       || invoice_line.position,
       coalesce(billed.micros, 0),
       invoice_line.raw_micros
  FROM invoice_line
  JOIN invoice USING (invoice_id)
  LEFT JOIN (SELECT invoice_line_id,
                    sum(micros) AS micros
               FROM (SELECT invoice_line_id, amount_micros
                       FROM charge
                      WHERE invoice_line_id IS NOT NULL
                      UNION ALL
                     SELECT invoice_fee.invoice_line_id, -posting.amount_micros
                       FROM invoice_fee
                       JOIN posting USING (transaction_id, position))
                    AS part (invoice_line_id, micros)
              GROUP BY invoice_line_id) AS billed USING (invoice_line_id)
 WHERE invoice.status <> 'void'
   AND invoice_line.kind IN ('usage', 'correction', 'fee')
   AND invoice.kind = 'invoice'
   AND invoice_line.raw_micros <> coalesce(billed.micros, 0)
 ORDER BY invoice.invoice_id, invoice_line.position"""

_INVOICE_TAXES = """
SELECT 'invoice ' || invoice.number || ' tax',
       CASE invoice.kind WHEN 'invoice' THEN invoice.tax_micros ELSE -invoice.tax_micros END,
       coalesce(posted.micros, 0)
  FROM invoice
  LEFT JOIN (SELECT transaction_id,
                    -sum(amount_micros) AS micros
               FROM posting
              WHERE contra_book = 'tax'
                AND contra_book NOT IN ('sales', 'purchases')
              GROUP BY transaction_id) AS posted USING (transaction_id)
 WHERE invoice.status <> 'draft'
   AND coalesce(posted.micros, 0)
       <> CASE invoice.kind WHEN 'invoice' THEN invoice.tax_micros ELSE -invoice.tax_micros END
 ORDER BY invoice.invoice_id"""

_DOUBLE_ENTRY = """
SELECT 'transaction ' || transaction_id || ' ' || currency,
       0,
       sum(amount_micros)
  FROM ledger_entry
 GROUP BY transaction_id, currency
HAVING sum(amount_micros) <> 0
 ORDER BY transaction_id, currency"""

CHECKS = (
    Check("balances are the sums of the postings", _BALANCES),
    Check("reserved is what calls in progress hold", _RESERVED),
    Check("channels of accounts are their calls in progress", _ACCOUNT_CHANNELS),
    Check("channels of resource groups are their calls in progress", _GROUP_CHANNELS),
    Check("charges of calls are what was posted for them", _CHARGES),
    Check("records of calls count their transactions", _CALL_TRANSACTIONS),
    Check("transactions, postings, charges and calls belong together", _TRANSACTIONS),
    Check("accounts, rates and resource groups that are named exist", _REFERENCES),
    Check("postings and charges are in their account's currency", _CURRENCIES),
    Check("contra books are the seller's", _SELLERS),
    Check("lines of invoices are what they bill", _INVOICE_LINES),
    Check("taxes of invoices are what was posted for them", _INVOICE_TAXES),
    Check("transactions balance in each currency", _DOUBLE_ENTRY),
    *(Check(name, sql) for name, sql in audit_rollups.STATEMENTS.items()),
)
