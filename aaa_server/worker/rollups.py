"""The job that keeps the rollups of calls, charges and the ledger, which make reports fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.storage import rollups
from aaa_server.storage.database import transaction

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import connection as Connection


def refresh_rollups(connection: Connection, now: datetime) -> str:
    """Count anew each hour in which something has changed; add up days and months that are over."""
    # What came before has read something: the snapshot must be this transaction's own.
    connection.commit()
    counted = 0
    while True:
        with transaction(connection) as cursor:
            hours = rollups.refresh(cursor)
        if not hours:
            break
        counted += hours
    while True:
        with transaction(connection) as cursor:
            if not rollups.extend(cursor, now):
                return f"{counted} hours counted"
