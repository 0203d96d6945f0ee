"""Rollups: calls, charges and postings by the hour (schema/0011_create_rollup.sql).

A transaction that writes records notes their hours as stale. Here the notes are taken and
the hours counted anew, both as of one snapshot: what is committed later has its own note.
Whole days and months are added up from their hours (schema/0015_add_spans.sql).
"""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import cursor as Cursor

HOURS_AT_ONCE = 24  # of one transaction
ROLLUPS = ("call", "charge", "ledger")
# A day that is over is added up when late records of it are few.
SETTLED = timedelta(hours=2)
DAY = timedelta(days=1)
# Days that a month grows by: more often its rows of accounts by destination would be written
# almost once a call, more rarely a transaction would take minutes.
WEEK = 7


class Span(NamedTuple):
    """Days of the operator's clock, [begins, ends), that are to be added to what begins then."""

    rollup: str
    width: str
    span_begins: datetime
    begins: datetime
    ends: datetime
    time_zone: str


def refresh(cursor: Cursor) -> int:
    """Count at most `HOURS_AT_ONCE` stale hours of each rollup anew; how many there were.

    The first statement of its transaction. Raises psycopg2's serialisation failure when
    another one refreshes at the same time.
    """
    _begin(cursor)
    return sum(_refresh(cursor, rollup) for rollup in ROLLUPS)


def _begin(cursor: Cursor) -> None:
    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    cursor.execute("SELECT set_config('work_mem', '128MB', true), set_config('jit', 'off', true)")


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
        cursor.execute(
            """
            DELETE FROM rollup_span
             WHERE rollup = %s
               AND EXISTS (SELECT
                             FROM unnest(%s::timestamptz[]) AS counted (hour)
                            WHERE hour >= begins
                              AND hour < ends)
            """,
            (rollup, hours),
        )
    return len(hours)


# ------------------------------------------------------------------ days and months


def extend(cursor: Cursor, now: datetime) -> bool:
    """Add up one day that is over, or add a week to its month; False: all is there.

    The first statement of its transaction. Days that do not begin with an hour of UTC are
    left to the hours, and so are those that have a stale one.
    """
    _begin(cursor)
    cursor.execute("SELECT time_zone FROM account WHERE kind = 'admin'")
    row = cursor.fetchone()
    if row is None:
        return False
    zone = ZoneInfo(row[0])
    _forget_other_clocks(cursor, zone)
    for rollup in ROLLUPS:
        missing = _missing(cursor, rollup, zone, now)
        if missing:
            _add(cursor, missing)
            return True
    return False


def _forget_other_clocks(cursor: Cursor, zone: ZoneInfo) -> None:
    """What was added up by a clock that is no longer the operator's."""
    cursor.execute(
        "DELETE FROM rollup_span WHERE time_zone <> %s RETURNING rollup, width, begins",
        (zone.key,),
    )
    for rollup, width, begins in cursor.fetchall():
        cursor.execute(_CLEAR[rollup], (width, begins))


def _missing(cursor: Cursor, rollup: str, zone: ZoneInfo, now: datetime) -> Span | None:
    cursor.execute(_FIRST[rollup])
    [first] = cursor.fetchone() or (None,)
    if first is None:
        return None
    cursor.execute("SELECT width, begins, ends FROM rollup_span WHERE rollup = %s", (rollup,))
    there = {(width, begins): ends for width, begins, ends in cursor.fetchall()}
    cursor.execute("SELECT DISTINCT hour FROM rollup_stale WHERE rollup = %s", (rollup,))
    stale = [hour for (hour,) in cursor.fetchall()]
    past = (now - SETTLED).astimezone(zone).date()
    for month in _months(first.astimezone(zone).date(), past):
        grown = there.get(("month", _midnight(month, zone)), _midnight(month, zone))
        days = _days(month, min(_next_month(month), past), zone)
        for begins, ends in days:
            if not any(begins <= hour < ends for hour in stale) and ("day", begins) not in there:
                return Span(rollup, "day", begins, begins, ends, zone.key)
        whole = _midnight(_next_month(month), zone)
        weeks = {ends for number, (_, ends) in enumerate(days, 1) if number % WEEK == 0}
        weeks |= {ends for _, ends in days if ends == whole}
        end = min((ends for ends in weeks if ends > grown), default=grown)
        if (
            grown < end
            and grown.astimezone(UTC).minute == end.minute == 0
            and not any(grown <= hour < end for hour in stale)
        ):
            return Span(rollup, "month", _midnight(month, zone), grown, end, zone.key)
    return None


def _months(first: date, past: date) -> Iterator[date]:
    month = first.replace(day=1)
    while month < past:
        yield month
        month = _next_month(month)


def _next_month(month: date) -> date:
    return (month.replace(day=1) + 31 * DAY).replace(day=1)


def _days(first: date, past: date, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """Begin and end of each day from `first` up to `past` that is made of whole hours of UTC."""
    midnights = [_midnight(first + number * DAY, zone) for number in range((past - first).days + 1)]
    return [pair for pair in itertools.pairwise(midnights) if all(one.minute == 0 for one in pair)]


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


def _add(cursor: Cursor, span: Span) -> None:
    if span.begins == span.span_begins:
        cursor.execute(_CLEAR[span.rollup], (span.width, span.span_begins))
    cursor.execute(_ADD[span.rollup], (span.width, span.span_begins, span.begins, span.ends))
    cursor.execute(
        """
        INSERT INTO rollup_span (rollup, width, begins, ends, time_zone)
        VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (rollup, width, begins) DO UPDATE SET ends = excluded.ends
        """,
        (span.rollup, span.width, span.span_begins, span.ends, span.time_zone),
    )


# ------------------------------------------------------------------ statements

_FORGET = {
    "call": "DELETE FROM call_hour WHERE hour = ANY (%s)",
    "charge": "DELETE FROM charge_hour WHERE hour = ANY (%s)",
    "ledger": "DELETE FROM ledger_hour WHERE hour = ANY (%s)",
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
    "ledger": """
        INSERT INTO ledger_hour
        SELECT counted.*
          FROM unnest(%s::timestamptz[]) AS stale (hour)
         CROSS JOIN LATERAL count_ledger(stale.hour, stale.hour + interval '1 hour', '1 hour')
               AS counted""",
}
_FIRST = {
    "call": "SELECT min(hour) FROM call_hour WHERE cut = 'all'",
    "charge": "SELECT min(hour) FROM charge_hour WHERE cut = 'all'",
    "ledger": "SELECT min(hour) FROM ledger_hour",
}
_CLEAR = {
    "call": "DELETE FROM call_span WHERE width = %s AND begins = %s",
    "charge": "DELETE FROM charge_span WHERE width = %s AND begins = %s",
    "ledger": "DELETE FROM ledger_span WHERE width = %s AND begins = %s",
}
# A month already has other days of the same key.
_ADD = {
    "call": """
        INSERT INTO call_span AS span
        SELECT * FROM add_up_calls(%s, %s, %s, %s)
            ON CONFLICT (width, cut, begins, account_id, resource_group_id, rate_id, prefix)
            DO UPDATE SET attempts = span.attempts + excluded.attempts,
                          answered = span.answered + excluded.answered,
                          effective = span.effective + excluded.effective,
                          refused = span.refused + excluded.refused,
                          seconds = span.seconds + excluded.seconds,
                          timed = span.timed + excluded.timed,
                          setup_ms = span.setup_ms + excluded.setup_ms,
                          longest_seconds = greatest(span.longest_seconds,
                                                     excluded.longest_seconds)""",
    "charge": """
        INSERT INTO charge_span AS span
        SELECT * FROM add_up_charges(%s, %s, %s, %s)
            ON CONFLICT (width, cut, begins, party_id, level, account_id, provider_id, rate_id,
                         prefix, own_rate_id, currency)
            DO UPDATE SET calls = span.calls + excluded.calls,
                          corrections = span.corrections + excluded.corrections,
                          billed_seconds = span.billed_seconds + excluded.billed_seconds,
                          package_seconds = span.package_seconds + excluded.package_seconds,
                          amount_micros = span.amount_micros + excluded.amount_micros,
                          home_e10 = CASE WHEN excluded.home_e10 IS NULL THEN span.home_e10
                                          ELSE coalesce(span.home_e10, 0) + excluded.home_e10
                                     END""",
    "ledger": """
        INSERT INTO ledger_span AS span
        SELECT * FROM add_up_ledger(%s, %s, %s, %s)
            ON CONFLICT (width, begins, account_id, kind, contra_account_id, contra_book, currency)
            DO UPDATE SET postings = span.postings + excluded.postings,
                          amount_micros = span.amount_micros + excluded.amount_micros,
                          debit_micros = span.debit_micros + excluded.debit_micros""",
}
