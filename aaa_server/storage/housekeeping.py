"""Rows that nobody will ask for any more. None of them is money, or a record of a call."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

ROWS_AT_ONCE = 10_000
# The longest period of a limit is a month, and a call may hold its share a while longer.
USE_KEPT = timedelta(days=93)
# Longer than any switch lets a nonce live.
NONCE_KEPT = timedelta(days=1)


def forget_uses(cursor: Cursor, now: datetime) -> int:
    """What was used of limits in periods that are long over; how many rows, a part at a time."""
    cursor.execute(
        """
        DELETE FROM velocity_use
         WHERE ctid = ANY (ARRAY (
               SELECT ctid FROM velocity_use WHERE period_from < %s LIMIT %s))
        """,
        (now - USE_KEPT, ROWS_AT_ONCE),
    )
    return cursor.rowcount


def forget_nonces(cursor: Cursor, now: datetime) -> int:
    """Nonces of digests that were last used long ago; how many rows, a part at a time."""
    cursor.execute(
        """
        DELETE FROM digest_nonce
         WHERE ctid = ANY (ARRAY (
               SELECT ctid FROM digest_nonce WHERE seen_at < %s ORDER BY seen_at LIMIT %s))
        """,
        (now - NONCE_KEPT, ROWS_AT_ONCE),
    )
    return cursor.rowcount


def forget_events(cursor: Cursor, before: datetime) -> int:
    """Events older than that; how many rows, a part at a time."""
    cursor.execute(
        """
        DELETE FROM event
         WHERE ctid = ANY (ARRAY (SELECT ctid FROM event WHERE at < %s ORDER BY at LIMIT %s))
        """,
        (before, ROWS_AT_ONCE),
    )
    return cursor.rowcount


def forget_orders(cursor: Cursor, before: datetime) -> int:
    """Calls that switches were told to end, long ago; how many rows, a part at a time."""
    cursor.execute(
        """
        DELETE FROM disconnect_order
         WHERE ctid = ANY (ARRAY (
               SELECT ctid
                 FROM disconnect_order
                WHERE ordered_at < %s
                  AND state NOT IN ('waiting', 'sent')
                ORDER BY ordered_at
                LIMIT %s))
        """,
        (before, ROWS_AT_ONCE),
    )
    return cursor.rowcount
