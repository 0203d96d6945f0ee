"""Jobs that keep tables from growing for ever, and never touch what is money."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from aaa_server.storage import cdr_months, report_schedules
from aaa_server.storage import housekeeping as rows
from aaa_server.storage.database import transaction
from aaa_server.storage.housekeeping import ROWS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.worker.job import Work


# Months of call records that have their table before the first record comes.
MONTHS_AHEAD = 2
# Records that came while there was no worker get their tables; older ones are of clocks gone wrong.
MONTHS_BACK = 24
# A late Stop must find its call.
MONTHS_KEPT_MIN = 3


def call_records(kept_months: int) -> Work:
    """Makes the coming months, and detaches those older than `kept_months` (0: none)."""

    def work(connection: Connection, now: datetime) -> str:
        kept = max(kept_months, MONTHS_KEPT_MIN) if kept_months else 0
        back = min(MONTHS_BACK, kept) if kept else MONTHS_BACK
        with transaction(connection) as cursor:
            missing = cdr_months.wanted(cursor, now, ahead=MONTHS_AHEAD, back=back)
            old = cdr_months.old(cursor, now, kept) if kept else []
        for month in missing:
            with transaction(connection) as cursor:
                cdr_months.add(cursor, month)
        for month in old:
            with transaction(connection) as cursor:
                cdr_months.detach(cursor, month)
        return f"{len(missing)} months made, {len(old)} detached"

    return work


def housekeeping(event_days: int) -> Work:
    """Forgets events, orders to switches and the log of mailed reports after `event_days`.

    0: never. Uses and nonces are forgotten by themselves.
    """

    def work(connection: Connection, now: datetime) -> str:
        gone = {
            "uses of limits": _all(connection, rows.forget_uses, now),
            "nonces": _all(connection, rows.forget_nonces, now),
        }
        if event_days:
            before = now - timedelta(days=event_days)
            gone["events"] = _all(connection, rows.forget_events, before)
            gone["orders to switches"] = _all(connection, rows.forget_orders, before)
            gone["mailed reports"] = _all(connection, forget_deliveries, before)
        return ", ".join(f"{count} {what}" for what, count in gone.items()) + " forgotten"

    return work


def forget_deliveries(cursor: Cursor, before: datetime) -> int:
    """Lines of the log of mailed reports; how many, a part at a time."""
    return report_schedules.forget(cursor, before, ROWS_AT_ONCE)


def _all(connection: Connection, forget: Callable[[Cursor, datetime], int], at: datetime) -> int:
    """How many rows went, in transactions that hold nobody up for long."""
    total = 0
    while True:
        with transaction(connection) as cursor:
            count = forget(cursor, at)
        total += count
        if count < ROWS_AT_ONCE:
            return total
