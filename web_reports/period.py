"""Periods of reports: [begin, end), from midnight to midnight in the reader's time zone."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from aaa_server.storage.problem import BadValue

HOUR = timedelta(hours=1)
# Far enough from the ends of what a date can be for periods to be added, and zones.
YEAR_MIN, YEAR_MAX = 1900, 8999
PRESETS = (
    "today", "yesterday", "this-week", "last-week", "this-month", "last-month",
    "this-quarter", "last-quarter", "this-year", "last-year", "last-day",
)  # fmt: skip
FORMS = "2026, 2026-Q4, 2026-11 and 2026-11-22"


class Period(NamedTuple):
    """`name` is what was asked for, '' for two instants; `zone` is the reader's."""

    begin: datetime
    end: datetime
    zone: ZoneInfo
    name: str = ""

    @property
    def whole_hours(self) -> bool:
        """Whether it begins and ends with an hour of UTC, and its days and hours do too."""
        return all(
            one.astimezone(UTC).time().replace(hour=0) == time()
            and (one.astimezone(self.zone).utcoffset() or HOUR) % HOUR == timedelta()
            for one in (self.begin, self.end)
        )


def named(name: str, zone: ZoneInfo, now: datetime) -> Period:
    """The period of that name, a preset or a date. Raises `BadValue` that names what there is."""
    today = now.astimezone(zone).date()
    days = _preset(name, today) if name in PRESETS else _dated(name)
    if days is None:
        raise BadValue(f"{name!r} is no period: {', '.join(PRESETS)} are, and {FORMS}")
    return Period(_midnight(days[0], zone), _midnight(days[1], zone), zone, name)


def between(begin: datetime | date, end: datetime | date | None, zone: ZoneInfo) -> Period:
    """From `begin` up to, not including, `end`; None: for a day. Raises `BadValue`."""
    first = begin if isinstance(begin, datetime) else _midnight(begin, zone)
    if end is None:
        local = first.astimezone(zone)
        last = _midnight(local.date() + timedelta(days=1), zone)
    else:
        last = end if isinstance(end, datetime) else _midnight(end, zone)
    if last <= first:
        raise BadValue(
            f"the period ends at {last.isoformat()}, before it begins: {first.isoformat()}"
        )
    return Period(first, last, zone)


def read_instant(text: str, zone: ZoneInfo) -> datetime | date:
    """A day, or an instant; one that names no zone is in the reader's. Raises `BadValue`."""
    instant: datetime | date
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            instant = date.fromisoformat(text)
        else:
            instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadValue(
            f"{text!r} is no instant: 2026-11-22, 2026-11-22T18:30 or 2026-11-22T18:30:00Z are"
        ) from error
    if not YEAR_MIN <= instant.year <= YEAR_MAX:
        raise BadValue(f"{text!r} is outside the years {YEAR_MIN} to {YEAR_MAX}")
    if isinstance(instant, datetime) and instant.tzinfo is None:
        return instant.replace(tzinfo=zone)
    return instant


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=zone)


def _month(year: int, month: int) -> date:
    """The first of a month; months go on counting over the years, in both directions."""
    return date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)


def _preset(name: str, today: date) -> tuple[date, date]:
    which, _, unit = name.partition("-")
    back = 1 if which in ("last", "yesterday") else 0
    if unit in ("", "day"):
        begin = today - timedelta(days=back)
        return begin, begin + timedelta(days=1)
    if unit == "week":
        begin = today - timedelta(days=today.weekday() + 7 * back)
        return begin, begin + timedelta(days=7)
    months = {"month": 1, "quarter": 3, "year": 12}[unit]
    first = today.month - (today.month - 1) % months - months * back
    return _month(today.year, first), _month(today.year, first + months)


def _dated(name: str) -> tuple[date, date] | None:
    match = re.fullmatch(r"(\d{4})(?:-(?:Q([1-4])|(\d\d)(?:-(\d\d))?))?", name)
    if match is None:
        return None
    year, quarter, month, day = (int(part) if part else 0 for part in match.groups())
    try:
        if day:
            begin = date(year, month, day)
            return begin, begin + timedelta(days=1)
        if month:
            return date(year, month, 1), _month(year, month + 1)
        if quarter:
            return _month(year, 3 * quarter - 2), _month(year, 3 * quarter + 1)
        return date(year, 1, 1), date(year + 1, 1, 1)
    except ValueError:
        return None
