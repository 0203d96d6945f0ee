"""The job that charges what is due again and again: subscriptions, packages, DIDs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.storage.recurring import charge_recurring

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import connection as Connection


def fees(connection: Connection, now: datetime) -> str:
    """Charges every period that has begun by now and is not charged yet."""
    return str(charge_recurring(connection, now))
