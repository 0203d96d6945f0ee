"""Rollups: calls and charges by the hour (schema/0011_create_rollup.sql), kept up to date.

A transaction that writes records notes their hours as stale. Here the notes are taken and
the hours counted anew, both as of one snapshot: what is committed later has its own note.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

HOURS_AT_ONCE = 24  # of one transaction
ROLLUPS = ("call", "charge")


def refresh(cursor: Cursor) -> int:
    """Count at most `HOURS_AT_ONCE` stale hours of each rollup anew; how many there were.

    The first statement of its transaction. Raises psycopg2's serialisation failure when
    another one refreshes at the same time.
    """
    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    cursor.execute("SELECT set_config('work_mem', '128MB', true), set_config('jit', 'off', true)")
    return sum(_refresh(cursor, rollup) for rollup in ROLLUPS)


def _refresh(cursor: Cursor, rollup: str) -> int:
    cursor.execute(
        """
        WITH taken AS (
            DELETE FROM rollup_stale
             WHERE rollup = %(rollup)s
               AND hour IN (SELECT DISTINCT hour
                              FROM rollup_stale
                             WHERE rollup = %(rollup)s
                             ORDER BY hour
                             LIMIT %(limit)s)
         RETURNING hour
        )
        SELECT DISTINCT hour
          FROM taken
         ORDER BY hour
        """,
        {"rollup": rollup, "limit": HOURS_AT_ONCE},
    )
    hours = [hour for (hour,) in cursor.fetchall()]
    if hours:
        cursor.execute(_FORGET[rollup], (hours,))
        cursor.execute(_COUNT[rollup], (hours,))
    return len(hours)


_FORGET = {
    "call": "DELETE FROM call_hour WHERE hour = ANY (%s)",
    "charge": "DELETE FROM charge_hour WHERE hour = ANY (%s)",
}
_COUNT = {
    "call": """
        INSERT INTO call_hour
        SELECT counted.*
          FROM unnest(%s::timestamptz[]) AS stale (hour)
         CROSS JOIN LATERAL count_calls(stale.hour, stale.hour + interval '1 hour', '1 hour')
               AS counted""",
    "charge": """
        INSERT INTO charge_hour
        SELECT counted.*
          FROM unnest(%s::timestamptz[]) AS stale (hour)
         CROSS JOIN LATERAL count_charges(stale.hour, stale.hour + interval '1 hour', '1 hour')
               AS counted""",
}
