"""Events about accounts that come with time or money: a low balance, an end that has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

ACCOUNTS_AT_ONCE = 1000  # rows that one transaction holds back from calls


def raise_low_balances(cursor: Cursor, now: datetime) -> tuple[int, int]:
    """How many accounts were seen, and how many events raised; at most `ACCOUNTS_AT_ONCE`.

    An account's balance below its threshold is told once; it has to be at the threshold or
    above it before it is told again. The event is committed together with the mark.
    """
    # Locked in the order of all writers; what another one has just changed is looked at anew.
    cursor.execute(
        """
        WITH crossed AS (
            SELECT account_id
              FROM account
             WHERE low_balance_micros IS NOT NULL
               AND (balance_micros < low_balance_micros) <> low_balance_raised
             ORDER BY account_id
             LIMIT %(limit)s
               FOR NO KEY UPDATE
        ), marked AS (
            UPDATE account
               SET low_balance_raised = balance_micros < low_balance_micros
             WHERE account_id IN (SELECT account_id FROM crossed)
         RETURNING account_id, low_balance_raised, balance_micros, low_balance_micros, currency
        ), raised AS (
            INSERT INTO event (at, account_id, kind, detail)
            SELECT %(now)s, account_id, 'low-balance',
                   jsonb_build_object('balance_micros', balance_micros,
                                      'low_balance_micros', low_balance_micros,
                                      'currency', currency)
              FROM marked
             WHERE low_balance_raised
         RETURNING 1
        )
        SELECT (SELECT count(*) FROM marked), (SELECT count(*) FROM raised)
        """,
        {"now": now, "limit": ACCOUNTS_AT_ONCE},
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def raise_expiries(cursor: Cursor, now: datetime) -> int:
    """How many accounts and cards were found to have come to their end; told once an end."""
    cursor.execute(
        """
        WITH ended AS (
            SELECT account_id
              FROM account
             WHERE expires_at <= %(now)s
               AND expiry_told IS DISTINCT FROM expires_at
             ORDER BY account_id
             LIMIT %(limit)s
               FOR NO KEY UPDATE
        ), marked AS (
            UPDATE account
               SET expiry_told = expires_at
             WHERE account_id IN (SELECT account_id FROM ended)
         RETURNING account_id, card_batch_id, expires_at, balance_micros, currency
        )
        INSERT INTO event (at, account_id, kind, detail)
        SELECT %(now)s,
               account_id,
               CASE WHEN card_batch_id IS NULL THEN 'account-expired' ELSE 'card-expired' END,
               jsonb_build_object('expired_at', expires_at,
                                  'balance_micros', balance_micros,
                                  'currency', currency)
          FROM marked
        """,
        {"now": now, "limit": ACCOUNTS_AT_ONCE},
    )
    return cursor.rowcount
