"""Periods of `rating.period`, which know the clock on the wall only, as instants of a time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from aaa_server.rating.period import Plan


def local(at: datetime, zone: str) -> datetime:
    """What the clock on the wall shows at that instant."""
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


def instant(wall: datetime, zone: str) -> datetime:
    """When the clock shows this: the first time where it is turned back.

    What the clock jumps over is as long after the jump as it would be after its beginning.
    """
    return wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def plan(anchor: datetime, zone: str, unit: str, *, calendar: bool) -> Plan:
    """How time is cut from that instant on."""
    return Plan(local(anchor, zone), unit, calendar)
