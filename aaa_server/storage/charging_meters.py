"""Rows of packages and limits, as the charging core knows them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from aaa_server.charging.meter import Holding, Limit, LimitUse, Meters

if TYPE_CHECKING:
    from datetime import tzinfo

ZONES_HELD_MAX = 600  # there are about as many

zone_of = lru_cache(maxsize=ZONES_HELD_MAX)(ZoneInfo)


def read_meters(rows: list[tuple[Any, ...]]) -> Meters:
    """What statement load_meters has answered."""
    meters = Meters({}, {}, {})
    for kind, row_id, account_id, prefixes, *rest in rows:
        if kind == 0:
            holding = Holding(row_id, account_id, tuple(prefixes), *rest[:6])
            meters.holdings[row_id] = holding
        elif kind == 1:
            name, period, measure, maximum, blocks, active = rest[6:12]
            zone: tzinfo = zone_of(rest[12])
            limit = Limit(
                row_id,
                account_id,
                name,
                tuple(prefixes),
                period,
                measure,
                maximum,
                blocks,
                active,
                zone,
            )
            meters.limits.setdefault(account_id, []).append(limit)
        else:
            period_from = int(rest[1].timestamp())
            amount, alerted = rest[9:11]
            meters.uses[row_id, period_from] = LimitUse(row_id, period_from, amount, alerted)
    return meters
