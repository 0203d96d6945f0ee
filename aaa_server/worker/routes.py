"""Jobs about ways out."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from aaa_server.storage import route_quality
from aaa_server.storage.database import transaction

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import connection as Connection

    from aaa_server.worker.job import Work


def quality(hours: int) -> Work:
    """Counts anew what became of the calls of the last `hours`."""

    def work(connection: Connection, now: datetime) -> str:
        with transaction(connection) as cursor:
            changed = route_quality.refresh(cursor, now, timedelta(hours=hours))
        return f"{changed} routes changed"

    return work
