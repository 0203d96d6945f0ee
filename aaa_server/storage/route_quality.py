"""What became of the calls that were tried over each outbound resource group.

A call is tried over the routes it was offered, one after the other, up to the one that
carried it: those before it are attempts that failed. Of a call that nobody answered the
last route told of is a failed attempt too, or the first one offered where none was told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.viewer import Viewer, require_operator

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from psycopg2.extensions import cursor as Cursor


class RouteQuality(NamedTuple):
    """The attempts of the calls that ended in `(counted_from, counted_to]`."""

    resource_group: str
    provider: str
    attempts: int
    answered: int
    talk_seconds: int
    counted_from: datetime
    counted_to: datetime


def refresh(cursor: Cursor, now: datetime, window: timedelta) -> int:
    """Count the calls of the last `window` before `now` again; how many groups' counts changed.

    Where none has changed nothing is written, so servers keep what they hold.
    """
    cursor.execute("SELECT set_config('work_mem', '64MB', true), set_config('jit', 'off', true)")
    cursor.execute(_COUNTED, {"begins": now - window, "ends": now})
    counted = {row[0]: tuple(row[1:]) for row in cursor.fetchall()}
    # Two that count at once would each think its own rows new.
    cursor.execute("LOCK TABLE route_quality IN SHARE ROW EXCLUSIVE MODE")
    cursor.execute("SELECT resource_group_id, attempts, answered, talk_seconds FROM route_quality")
    held = {row[0]: tuple(row[1:]) for row in cursor.fetchall()}
    gone = [group_id for group_id in held if group_id not in counted]
    changed = [group_id for group_id, row in counted.items() if held.get(group_id) != row]
    if gone:
        cursor.execute("DELETE FROM route_quality WHERE resource_group_id = ANY (%s)", (gone,))
    if changed:
        columns = zip(*(counted[group_id] for group_id in changed), strict=True)
        cursor.execute(_WRITE, (now - window, now, changed, *map(list, columns)))
    return len(gone) + len(changed)


def list_route_quality(cursor: Cursor, viewer: Viewer) -> list[RouteQuality]:
    """All that were tried, by name. Raises `NotAllowed` for all but the operator."""
    require_operator(viewer, "the quality of routes")
    cursor.execute(
        """
        SELECT resource_group.name,
               account.code,
               route_quality.attempts,
               route_quality.answered,
               route_quality.talk_seconds,
               route_quality.counted_from,
               route_quality.counted_to
          FROM route_quality
          JOIN resource_group USING (resource_group_id)
          JOIN account USING (account_id)
         ORDER BY length(resource_group.name), resource_group.name
        """
    )
    return [RouteQuality(*row) for row in cursor.fetchall()]


# Most calls are carried by the first route that they were offered, which is seen without
# reading the JSON of all of them.
_COUNTED = """
WITH ended AS MATERIALIZED (
    SELECT routes,
           resource_group_out_id,
           seconds,
           starts_with(routes, '[[' || resource_group_out_id || ',') AS by_the_first
      FROM cdr
     WHERE ended_at > %(begins)s
       AND ended_at <= %(ends)s
       AND refusal IS NULL
), attempt AS (
    SELECT resource_group_out_id AS resource_group_id,
           seconds
      FROM ended
     WHERE by_the_first
        OR routes = '[]'
     UNION ALL
    SELECT coalesce(resource_group_out_id, (routes::jsonb #>> '{0,0}')::bigint),
           seconds
      FROM ended
     WHERE by_the_first IS NOT TRUE
       AND routes <> '[]'
     UNION ALL
    SELECT offered.resource_group_id,
           0
      FROM ended
     CROSS JOIN LATERAL (
           SELECT (value ->> 0)::bigint AS resource_group_id,
                  place,
                  min(place) FILTER (WHERE (value ->> 0)::bigint = ended.resource_group_out_id)
                      OVER () AS carried
             FROM jsonb_array_elements(routes::jsonb) WITH ORDINALITY AS one (value, place)
           ) AS offered
     WHERE by_the_first IS NOT TRUE
       AND routes <> '[]'
       AND offered.place < offered.carried
)
SELECT resource_group_id,
       count(*)::integer,
       (count(*) FILTER (WHERE seconds > 0))::integer,
       sum(seconds)::bigint
  FROM attempt
  JOIN resource_group USING (resource_group_id)
 WHERE resource_group.direction = 'out'
 GROUP BY resource_group_id"""

_WRITE = """
INSERT INTO route_quality AS held (
           resource_group_id, attempts, answered, talk_seconds, counted_from, counted_to)
SELECT counted.*,
       %s,
       %s
  FROM unnest(%s::bigint[], %s::int[], %s::int[], %s::bigint[])
       AS counted (resource_group_id, attempts, answered, talk_seconds)
    ON CONFLICT (resource_group_id) DO UPDATE
   SET attempts = excluded.attempts,
       answered = excluded.answered,
       talk_seconds = excluded.talk_seconds,
       counted_from = excluded.counted_from,
       counted_to = excluded.counted_to"""
