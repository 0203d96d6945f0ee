"""The periods of recurring charges: days, weeks, months, years, by anniversary or calendar.

Dates and times here are of the clock on the wall (naive): a month ends at midnight or at the
anchor's time of day, whatever the zone's hour is then. Period n is worked out from the
anchor, never from the period before it, so 31 January is followed by 28 February and then
by 31 March.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from aaa_server.rating.money import div_half_up

UNITS = ("day", "week", "month", "year")
MONTHS_A_YEAR = 12
DAYS_A_WEEK = 7
_DAY = timedelta(days=1)


class Plan(NamedTuple):
    """How time is cut: period 0 begins at `anchor`, or, by calendar, is the one it lies in."""

    anchor: datetime
    unit: str
    calendar: bool


class Period(NamedTuple):
    """[begin, end), the whole period; whoever joins late or leaves early has a part of it."""

    number: int
    begin: datetime
    end: datetime


def period(plan: Plan, number: int) -> Period:
    """The period of that number; each ends where the next one begins."""
    return Period(number, _beginning(plan, number), _beginning(plan, number + 1))


def period_at(plan: Plan, at: datetime) -> Period:
    """The period that `at` lies in; numbers below 0 lie before the anchor."""
    number = _guess(plan, at)
    while _beginning(plan, number) > at:
        number -= 1
    while _beginning(plan, number + 1) <= at:
        number += 1
    return period(plan, number)


def _beginning(plan: Plan, number: int) -> datetime:
    anchor = _calendar_anchor(plan) if plan.calendar else plan.anchor
    match plan.unit:
        case "day":
            return anchor + number * _DAY
        case "week":
            return anchor + number * DAYS_A_WEEK * _DAY
        case "month":
            return _months_on(anchor, number)
        case "year":
            return _months_on(anchor, number * MONTHS_A_YEAR)
        case _:
            raise AssertionError(f"{plan.unit!r} is no unit of time")


def _calendar_anchor(plan: Plan) -> datetime:
    midnight = plan.anchor.replace(hour=0, minute=0, second=0, microsecond=0)
    match plan.unit:
        case "week":
            return midnight - midnight.weekday() * _DAY
        case "month":
            return midnight.replace(day=1)
        case "year":
            return midnight.replace(month=1, day=1)
        case _:
            return midnight


def _months_on(anchor: datetime, months: int) -> datetime:
    """The same day and time of another month, or that month's last day where it is shorter."""
    year, month = divmod(anchor.year * MONTHS_A_YEAR + anchor.month - 1 + months, MONTHS_A_YEAR)
    first = anchor.replace(year=year, month=month + 1, day=1)
    next_first = (first + 31 * _DAY).replace(day=1)
    days = (next_first - first).days
    return first.replace(day=min(anchor.day, days))


def _guess(plan: Plan, at: datetime) -> int:
    """Near enough to the number of the period at `at` to be found from there in a few steps."""
    if plan.unit in ("day", "week"):
        return (at - plan.anchor).days // (1 if plan.unit == "day" else DAYS_A_WEEK)
    months = (at.year - plan.anchor.year) * MONTHS_A_YEAR + at.month - plan.anchor.month
    return months if plan.unit == "month" else months // MONTHS_A_YEAR


def days(begin: datetime, end: datetime) -> int:
    """Days of 24 hours from `begin` to `end`, a begun one whole; 0 when `end` is not after it."""
    return max(0, -((begin - end) // _DAY))


def share(amount: int, part: Period, whole: Period) -> int:
    """What `part` of `whole` costs when all of it costs `amount`: by days, rounded half up.

    A day that is begun counts; nothing costs more than the whole or less than 0.
    """
    assert whole.begin <= part.begin, "a part lies in its whole"
    assert part.end <= whole.end, "a part lies in its whole"
    assert amount >= 0
    of = days(whole.begin, whole.end)
    return div_half_up(amount * min(days(part.begin, part.end), of), of)


def clipped(whole: Period, begin: datetime, end: datetime | None) -> Period:
    """The part of `whole` within [begin, end); None: without end. Empty where they miss it."""
    from_ = min(max(whole.begin, begin), whole.end)
    until = whole.end if end is None else min(max(end, from_), whole.end)
    return Period(whole.number, from_, until)
