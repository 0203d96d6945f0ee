"""Bands of price lists: when they are in force, and the holidays that some of them go by.

Whoever changes them locks the list's row as an import of rates does, so no rate arrives for
a band that is just being removed.
"""

from __future__ import annotations

from datetime import UTC, date, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg2.errors
from twisted.logger import Logger

from aaa_server.rating.band import Bands, Window
from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.rate_import import lock_tariff

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg2.extensions import cursor as Cursor

log = Logger()

WINDOWS_MAX = 64  # of one price list: each is looked at when the last answer does not hold
HOLIDAYS_MAX = 1_000  # of one price list: decades of them

_COLUMNS = """
       rate_band.name,
       rate_band.weekdays,
       rate_band.from_minute,
       rate_band.to_minute,
       rate_band.holiday,
       rate_band.position
  FROM rate_band"""
WINDOWS = (
    """
SELECT rate_band.tariff_id,
       coalesce(rate_group.time_zone, resource_group.time_zone, 'UTC'),"""
    + _COLUMNS
    + """
  LEFT JOIN rate_group USING (tariff_id)
  LEFT JOIN resource_group USING (tariff_id)"""
)
HOLIDAYS = """
SELECT tariff_id,
       day
  FROM rate_holiday"""


class Holiday(NamedTuple):
    """A day on which the windows of holidays are open."""

    day: date
    name: str


def bands_by_tariff(
    windows: Iterable[Sequence[Any]], holidays: Iterable[Sequence[Any]]
) -> dict[int, Bands]:
    """What the rows of `WINDOWS` and `HOLIDAYS` say, by the number of the price list."""
    days: dict[int, set[date]] = {}
    for tariff_id, day in holidays:
        days.setdefault(tariff_id, set()).add(day)
    zones: dict[int, str] = {}
    found: dict[int, list[Window]] = {}
    for tariff_id, zone, *window in windows:
        zones[tariff_id] = zone
        found.setdefault(tariff_id, []).append(Window(*window))
    return {
        # In order: the same bands must be equal however they were read.
        tariff_id: Bands(
            _zone(zones[tariff_id]),
            tuple(sorted(mine)),
            frozenset(days.get(tariff_id, ())),
        )
        for tariff_id, mine in found.items()
    }


@lru_cache(maxsize=1024)
def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # Commands refuse such a name; a price list must not stop the server for it.
        log.error("no time zone {name}: its bands go by UTC", name=name)
        return UTC


def bands_of(cursor: Cursor, tariff_id: int, time_zone: str) -> Bands | None:
    """The bands of one price list, which goes by `time_zone`; None: it has none."""
    windows = [(tariff_id, time_zone, *one) for one in list_windows(cursor, tariff_id)]
    cursor.execute(HOLIDAYS + " WHERE tariff_id = %s", (tariff_id,))
    return bands_by_tariff(windows, cursor.fetchall()).get(tariff_id)


def list_windows(cursor: Cursor, tariff_id: int) -> list[Window]:
    """In order of precedence, then of the week."""
    cursor.execute("SELECT" + _COLUMNS + " WHERE tariff_id = %s", (tariff_id,))
    windows = [Window(*row) for row in cursor.fetchall()]
    return sorted(
        windows, key=lambda one: (not one.holiday, one.position, one.band, one.from_minute)
    )


def add_window(cursor: Cursor, tariff_id: int, window: Window) -> None:
    """One more window of a band, which may be new.

    Raises `Conflict` where a window of its rank is open at such a time already, `BadValue`.
    """
    lock_tariff(cursor, tariff_id)
    standing = list_windows(cursor, tariff_id)
    if len(standing) >= WINDOWS_MAX:
        raise BadValue(f"the price list has {WINDOWS_MAX} windows, which is the most")
    cursor.execute("SAVEPOINT add_window")
    try:
        cursor.execute(
            """
            INSERT INTO rate_band (
                       tariff_id, name, holiday, weekdays, from_minute, to_minute, position)
            VALUES (%(tariff_id)s, %(band)s, %(holiday)s, %(weekdays)s, %(from_minute)s,
                    %(to_minute)s, %(position)s)
            """,
            {**window._asdict(), "tariff_id": tariff_id},
        )
    except psycopg2.errors.ExclusionViolation as error:
        cursor.execute("ROLLBACK TO SAVEPOINT add_window")
        raise Conflict(_overlap_text(cursor, tariff_id, window)) from error
    except psycopg2.errors.CheckViolation as error:
        raise BadValue(_check_text(error, window)) from error


def _overlap_text(cursor: Cursor, tariff_id: int, window: Window) -> str:
    cursor.execute(
        """
        SELECT name
          FROM rate_band
         WHERE tariff_id = %(tariff_id)s
           AND holiday = %(holiday)s
           AND position = %(position)s
           AND week && rate_band_week(%(weekdays)s::smallint, %(holiday)s, %(from_minute)s,
                                      %(to_minute)s)
         ORDER BY name
         LIMIT 1
        """,
        {**window._asdict(), "tariff_id": tariff_id},
    )
    [(name,)] = cursor.fetchall()
    return (
        f"band {name} is in force at some of these times already, at the same position "
        f"({window.position}), so nothing would tell which one goes first: name other times, or "
        "give this one another --position (the lower goes first)"
    )


def _check_text(error: psycopg2.errors.CheckViolation, window: Window) -> str:
    constraint = error.diag.constraint_name or ""
    return {
        "rate_band_name_check": f"{window.band!r} is no name of a band: a small letter, then up to "
        "31 small letters, digits and -",
        "rate_band_has_length": "a window ends at another time than it begins; a whole day is "
        "00:00 to 24:00",
        "rate_band_has_days": "a window needs days of the week, or is of holidays",
    }.get(constraint, f"band {window.band}: a value is out of range ({constraint})")


def remove_band(cursor: Cursor, tariff_id: int, band: str) -> list[Window]:
    """All windows of `band`, which are gone now.

    Raises `NotFound`, and `Conflict` while rates of the band are in force or planned.
    """
    lock_tariff(cursor, tariff_id)
    gone = [window for window in list_windows(cursor, tariff_id) if window.band == band]
    if not gone:
        raise NotFound(f"the price list has no band {band!r}: `band list` shows what there is")
    cursor.execute(
        """
        SELECT count(*)
          FROM rate
         WHERE tariff_id = %s
           AND band = %s
           AND band <> ''
           AND (effective_to IS NULL
                OR effective_to > greatest(effective_from, now()))
        """,
        (tariff_id, band),
    )
    [(in_use,)] = cursor.fetchall()
    if in_use:
        raise Conflict(
            f"{in_use} rates of band {band} are in force or planned: `rate close --band {band}` "
            "or an import with --replace ends them first"
        )
    cursor.execute("DELETE FROM rate_band WHERE tariff_id = %s AND name = %s", (tariff_id, band))
    return gone


def list_holidays(cursor: Cursor, tariff_id: int) -> list[Holiday]:
    """In order of time."""
    cursor.execute(
        "SELECT day, name FROM rate_holiday WHERE tariff_id = %s ORDER BY day", (tariff_id,)
    )
    return [Holiday(*row) for row in cursor.fetchall()]


def add_holidays(cursor: Cursor, tariff_id: int, holidays: Sequence[Holiday]) -> None:
    """Raises `Conflict` for a day that is a holiday already, and `BadValue`."""
    lock_tariff(cursor, tariff_id)
    standing = list_holidays(cursor, tariff_id)
    if len(standing) + len(holidays) > HOLIDAYS_MAX:
        raise BadValue(f"the price list would have more than {HOLIDAYS_MAX} holidays")
    try:
        cursor.execute(
            """
            INSERT INTO rate_holiday (tariff_id, day, name)
            SELECT %s, day, name
              FROM unnest(%s::date[], %s::text[]) AS new (day, name)
            """,
            (tariff_id, [one.day for one in holidays], [one.name for one in holidays]),
        )
    except psycopg2.errors.UniqueViolation as error:
        known = {one.day for one in standing}
        twice = next((one.day for one in holidays if one.day in known), holidays[0].day)
        raise Conflict(f"{twice} is a holiday already") from error


def remove_holidays(cursor: Cursor, tariff_id: int, days: Sequence[date]) -> list[Holiday]:
    """The holidays that are gone now. Raises `NotFound` for a day that is none."""
    lock_tariff(cursor, tariff_id)
    standing = {one.day: one for one in list_holidays(cursor, tariff_id)}
    for day in days:
        if day not in standing:
            raise NotFound(f"{day} is no holiday of this price list: `holiday list` shows all")
    cursor.execute(
        "DELETE FROM rate_holiday WHERE tariff_id = %s AND day = ANY (%s::date[])",
        (tariff_id, list(days)),
    )
    return [standing[day] for day in days]
