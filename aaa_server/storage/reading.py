"""What a long read-only transaction begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor


def begin(cursor: Cursor, *, statement_seconds: int) -> datetime:
    """Limits each statement to so many seconds; the instant that the transaction began.

    Rows of a cursor are all read: it is not planned for the first of them.
    """
    cursor.execute(
        """
        SELECT now(),
               set_config('statement_timeout', %s, true),
               set_config('work_mem', '64MB', true),
               set_config('jit', 'off', true),
               set_config('cursor_tuple_fraction', '1', true)
        """,
        (f"{statement_seconds}s",),
    )
    row = cursor.fetchone()
    assert row is not None
    instant: datetime = row[0]
    return instant
