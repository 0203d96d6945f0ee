"""Periods by name, in the reader's time zone."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from aaa_server.storage.problem import BadValue
from web_reports.period import PRESETS, between, named, read_instant

MADRID = ZoneInfo("Europe/Madrid")
# In Madrid it is Sunday the 22nd already.
NOW = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "begin", "end"),
    [
        ("today", "2026-11-22", "2026-11-23"),
        ("yesterday", "2026-11-21", "2026-11-22"),
        ("this-week", "2026-11-16", "2026-11-23"),
        ("last-week", "2026-11-09", "2026-11-16"),
        ("this-month", "2026-11-01", "2026-12-01"),
        ("last-month", "2026-10-01", "2026-11-01"),
        ("this-quarter", "2026-10-01", "2027-01-01"),
        ("last-quarter", "2026-07-01", "2026-10-01"),
        ("this-year", "2026-01-01", "2027-01-01"),
        ("last-year", "2025-01-01", "2026-01-01"),
        ("2026", "2026-01-01", "2027-01-01"),
        ("2026-Q4", "2026-10-01", "2027-01-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2026-11-22", "2026-11-22", "2026-11-23"),
    ],
)
def test_a_name_is_two_midnights(name: str, begin: str, end: str) -> None:
    period = named(name, MADRID, NOW)
    assert period.begin == datetime.fromisoformat(begin).replace(tzinfo=MADRID)
    assert period.end == datetime.fromisoformat(end).replace(tzinfo=MADRID)


def test_the_last_month_of_january_is_last_year_s() -> None:
    period = named("last-month", MADRID, datetime(2027, 1, 15, tzinfo=UTC))
    assert period.begin.date() == date(2026, 12, 1)


@pytest.mark.parametrize("name", ["", "tomorrow", "2026-13", "2026-02-30", "26-11", "2026-Q5"])
def test_what_is_no_period_is_told_those_there_are(name: str) -> None:
    with pytest.raises(BadValue, match="last-month") as raised:
        named(name, MADRID, NOW)
    assert all(preset in str(raised.value) for preset in PRESETS)


def test_a_day_of_a_changing_clock_has_25_hours() -> None:
    period = named("2026-10-25", MADRID, NOW)
    assert (period.end.astimezone(UTC) - period.begin.astimezone(UTC)).total_seconds() == 25 * 3600
    assert period.whole_hours


def test_only_whole_hours_are_rolled_up() -> None:
    assert not named("2026-11", ZoneInfo("Asia/Kolkata"), NOW).whole_hours
    begin = read_instant("2026-11-01T10:30", MADRID)
    assert not between(begin, read_instant("2026-11-02", MADRID), MADRID).whole_hours
    assert between(date(2026, 11, 1), None, MADRID).whole_hours


def test_an_instant_without_a_zone_is_the_reader_s() -> None:
    assert read_instant("2026-11-22T10:00", MADRID) == datetime(2026, 11, 22, 9, tzinfo=UTC)
    assert read_instant("2026-11-22T10:00Z", MADRID) == datetime(2026, 11, 22, 10, tzinfo=UTC)
    with pytest.raises(BadValue, match="no instant"):
        read_instant("noon", MADRID)
