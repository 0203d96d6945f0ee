"""The months of the call records: made ahead of time, and taken out of the way when old."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

# Making or detaching a month needs a moment in which nobody reads the records. Whoever waits
# for it makes calls wait too: better to give up and come again.
LOCK_TIMEOUT = "2s"


def wanted(cursor: Cursor, now: datetime, *, ahead: int, back: int) -> list[datetime]:
    """First instants of months that have no table and should have one.

    They are this month, the next `ahead`, and those of the last `back` that have had to be
    kept aside.
    """
    cursor.execute(
        """
        SELECT month
          FROM (SELECT cdr_month_begins(%(now)s + make_interval(months => ahead)) AS month
                  FROM generate_series(0, %(ahead)s) AS ahead
                 UNION
                SELECT DISTINCT cdr_month_begins(authorized_at)
                  FROM cdr_default
                 WHERE authorized_at >= %(now)s - make_interval(months => %(back)s)
                   AND authorized_at < %(now)s) AS month
         WHERE NOT EXISTS (SELECT FROM cdr_months() WHERE begins = month)
           AND to_regclass('cdr_detached_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM')) IS NULL
         ORDER BY month
        """,
        {"now": now, "ahead": ahead, "back": back},
    )
    return [row[0] for row in cursor.fetchall()]


def add(cursor: Cursor, month: datetime) -> bool:
    """Make the month's table and move its rows there; whether there was none."""
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))
    cursor.execute("SELECT cdr_add_month(%s)", (month,))
    row = cursor.fetchone()
    return row is not None and bool(row[0])


def old(cursor: Cursor, now: datetime, months: int) -> list[datetime]:
    """The months that ended `months` months ago or earlier, the oldest first."""
    cursor.execute(
        """
        SELECT begins
          FROM cdr_months()
         WHERE cdr_month_ends(begins) AT TIME ZONE 'UTC'
               <= cdr_month_begins(%s) AT TIME ZONE 'UTC' - make_interval(months => %s)
         ORDER BY begins
        """,
        (now, months),
    )
    return [row[0] for row in cursor.fetchall()]


def detach(cursor: Cursor, month: datetime) -> str:
    """Take the month out of the call records; the name of the table that keeps it."""
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))
    cursor.execute("SELECT cdr_detach_month(%s)", (month,))
    row = cursor.fetchone()
    assert row is not None
    return str(row[0])
