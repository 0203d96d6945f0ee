"""Jobs that tell somebody: balances that are low, accounts and cards that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.storage import alerts
from aaa_server.storage.alerts import ACCOUNTS_AT_ONCE
from aaa_server.storage.database import transaction

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import connection as Connection


def low_balance(connection: Connection, now: datetime) -> str:
    """An event for each balance that has fallen below its threshold."""
    told = 0
    while True:
        with transaction(connection) as cursor:
            seen, raised = alerts.raise_low_balances(cursor, now)
        told += raised
        if seen < ACCOUNTS_AT_ONCE:
            return f"{told} low balances"


def expiry(connection: Connection, now: datetime) -> str:
    """An event for each account or card whose end has come."""
    told = 0
    while True:
        with transaction(connection) as cursor:
            found = alerts.raise_expiries(cursor, now)
        told += found
        if found < ACCOUNTS_AT_ONCE:
            return f"{told} expired"
