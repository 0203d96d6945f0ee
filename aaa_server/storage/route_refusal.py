"""How often a route was not offered because too little of the price would have been left.

Servers count in memory what they have committed, and write it every few seconds: a call
waits for none of it. What a server has not written when it is killed is not counted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.database import DatabaseUnavailable
from aaa_server.storage.viewer import Viewer, require_operator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.database import Connection

Counts = dict[tuple[int, int], int]  # by rate group and resource group


class RouteRefusals:
    """What one server has counted; `total` since it started."""

    def __init__(self) -> None:
        self.total = 0
        self._unwritten: Counts = {}

    def add(self, counts: Mapping[tuple[int, int], int]) -> None:
        """Count what a committed batch has refused."""
        unwritten = self._unwritten
        for key, count in counts.items():
            unwritten[key] = unwritten.get(key, 0) + count
            self.total += count

    async def write(self, connection: Connection, now: datetime) -> None:
        """Add what was counted to the hour of `now`. What cannot be written is kept."""
        if not self._unwritten:
            return
        taken, self._unwritten = self._unwritten, {}
        try:
            await connection.execute(
                _ADD,
                (
                    hour_of(now),
                    [key[0] for key in taken],
                    [key[1] for key in taken],
                    list(taken.values()),
                ),
            )
        except DatabaseUnavailable:
            self.total -= sum(taken.values())
            self.add(taken)
            raise


class RouteRefusal(NamedTuple):
    """How often, in the hour from `hour` on, a route of a rate group was not offered."""

    hour: datetime
    rate_group: str
    resource_group: str
    provider: str
    refusals: int


def list_route_refusals(
    cursor: Cursor, viewer: Viewer, *, since: datetime, until: datetime
) -> list[RouteRefusal]:
    """Of the hours that begin in `[since, until)`, the latest first.

    Raises `NotAllowed` for all but the operator.
    """
    require_operator(viewer, "what routes were refused for")
    cursor.execute(
        """
        SELECT route_refusal.hour,
               rate_group.name,
               resource_group.name,
               account.code,
               route_refusal.refusals
          FROM route_refusal
          JOIN rate_group USING (rate_group_id)
          JOIN resource_group USING (resource_group_id)
          JOIN account USING (account_id)
         WHERE route_refusal.hour >= %s
           AND route_refusal.hour < %s
         ORDER BY route_refusal.hour DESC,
                  route_refusal.refusals DESC,
                  rate_group.name,
                  resource_group.name
        """,
        (since, until),
    )
    return [RouteRefusal(*row) for row in cursor.fetchall()]


def hour_of(instant: datetime) -> datetime:
    """The hour, in UTC, that `instant` lies in."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


# A rate group or resource group that is gone meanwhile is counted no more.
_ADD = """
INSERT INTO route_refusal AS held (hour, rate_group_id, resource_group_id, refusals)
SELECT %s,
       counted.rate_group_id,
       counted.resource_group_id,
       counted.refusals
  FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])
       AS counted (rate_group_id, resource_group_id, refusals)
  JOIN rate_group USING (rate_group_id)
  JOIN resource_group USING (resource_group_id)
    ON CONFLICT (hour, rate_group_id, resource_group_id) DO UPDATE
   SET refusals = held.refusals + excluded.refusals"""
