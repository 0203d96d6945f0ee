"""What somebody should know: low balances, limits reached, cards locked, jobs that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aaa_server.storage.viewer import Deed, Viewer, may

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

LIST_MAX = 100_000


class Event(NamedTuple):
    """One thing that happened; `account_code` '' when it is the operator's own business."""

    event_id: int
    at: datetime
    kind: str
    account_code: str
    account_chain: tuple[int, ...]
    detail: Mapping[str, Any]


def list_events(
    cursor: Cursor,
    viewer: Viewer,
    *,
    account_id: int | None = None,
    kind: str = "",
    begin: datetime | None = None,
    end: datetime | None = None,
    limit: int = LIST_MAX,
) -> list[Event]:
    """The last `limit` in [begin, end), the oldest first; of the viewer's tree."""
    cursor.execute(
        """
        SELECT event.event_id,
               event.at,
               event.kind,
               coalesce(account.code, ''),
               coalesce(account.chain, '{}'),
               event.detail
          FROM event
          LEFT JOIN account USING (account_id)
         WHERE (%(account_id)s::bigint IS NULL OR event.account_id = %(account_id)s)
           AND (%(kind)s = '' OR event.kind = %(kind)s)
           AND (%(begin)s::timestamptz IS NULL OR event.at >= %(begin)s)
           AND (%(end)s::timestamptz IS NULL OR event.at < %(end)s)
         ORDER BY event.at DESC, event.event_id DESC
         LIMIT %(limit)s
        """,
        {"account_id": account_id, "kind": kind, "begin": begin, "end": end, "limit": limit},
    )
    found = [Event(*row)._replace(account_chain=tuple(row[4])) for row in cursor.fetchall()]
    return [event for event in reversed(found) if may(viewer, Deed.SEE, event.account_chain)]
