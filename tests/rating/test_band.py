"""Bands: the wall clock of the price list decides, whatever it does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.rating.band import DAY_MINUTES, EVERY_DAY, Bands, Window

MADRID = ZoneInfo("Europe/Madrid")
NEW_YORK = ZoneInfo("America/New_York")
WORKING_DAYS = 0b0011111
WEEKEND = 0b1100000


def window(
    band: str, begins: str, ends: str, weekdays: int = EVERY_DAY, *, position: int = 0
) -> Window:
    return Window(band, weekdays, minute(begins), minute(ends), position=position)


def holiday(band: str, begins: str = "00:00", ends: str = "24:00") -> Window:
    return Window(band, 0, minute(begins), minute(ends), holiday=True)


def minute(text: str) -> int:
    hour, _, rest = text.partition(":")
    return 60 * int(hour) + int(rest)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def in_band(bands: Bands, *texts: str) -> list[str]:
    # Each is asked anew: what is held of the last answer has a test of its own.
    return [Bands(bands.zone, bands.windows, bands.holidays).span(utc(text)).band for text in texts]


# ------------------------------------------------------------------ against the rule


ZONES = st.sampled_from(
    [MADRID, NEW_YORK, ZoneInfo("UTC"), ZoneInfo("Asia/Kathmandu"), ZoneInfo("Australia/Lord_Howe")]
)
MINUTES = st.integers(0, DAY_MINUTES - 1) | st.sampled_from([0, 60, 90, 120, 150, 180, 1380])


@st.composite
def windows(draw: st.DrawFn) -> tuple[Window, ...]:
    """With a position each, since nothing tells two of one position apart where both hold."""
    found = []
    for position in range(draw(st.integers(0, 5))):
        begins = draw(MINUTES)
        ends = draw(MINUTES.filter(begins.__ne__)) or DAY_MINUTES
        if draw(st.booleans()):
            found.append(Window(f"h{position}", 0, begins, ends, holiday=True, position=position))
        else:
            weekdays = draw(st.integers(1, EVERY_DAY))
            found.append(Window(f"b{position}", weekdays, begins, ends, position=position))
    return tuple(draw(st.permutations(found)))


# Around the days on which the clocks of these zones change in 2026.
INSTANTS = st.builds(
    lambda day, second: datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(seconds=second),
    st.sampled_from(
        ["2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01"]
    ),
    st.integers(-2 * 86_400, 2 * 86_400),
)
HOLIDAYS = st.frozensets(
    st.builds(
        lambda day, more: date.fromisoformat(day) + timedelta(days=more),
        st.sampled_from(["2026-03-28", "2026-10-24", "2026-11-01"]),
        st.integers(-2, 2),
    ),
    max_size=4,
)


def slow_band(bands: Bands, at: datetime) -> str:
    """What the rule says: every window, day by day, compared with what the clock shows."""
    clock = at.astimezone(bands.zone).replace(tzinfo=None)
    holding = []
    for one in bands.windows:
        for ago in (0, 1):
            midnight = clock.replace(hour=0, minute=0, second=0, microsecond=0)
            midnight -= timedelta(days=ago)
            day = midnight.date()
            begins = midnight + timedelta(minutes=one.from_minute)
            length = (one.to_minute - one.from_minute) % DAY_MINUTES or DAY_MINUTES
            begins_today = (
                day in bands.holidays if one.holiday else one.weekdays & 1 << day.weekday()
            )
            if begins_today and begins <= clock < begins + timedelta(minutes=length):
                holding.append((not one.holiday, one.position, one.band))
    return min(holding)[2] if holding else ""


@given(ZONES, windows(), HOLIDAYS, st.lists(INSTANTS, max_size=12))
def test_the_band_is_what_the_clock_says_at_any_instant(
    zone: ZoneInfo,
    given_windows: tuple[Window, ...],
    holidays: frozenset[date],
    instants: list[datetime],
) -> None:
    bands = Bands(zone, given_windows, holidays)
    for at in instants:
        assert bands.span(at).band == slow_band(bands, at)


@given(ZONES, windows(), HOLIDAYS, INSTANTS, st.lists(st.integers(0, 999), max_size=12))
def test_the_band_stays_the_same_for_the_whole_span(
    zone: ZoneInfo,
    given_windows: tuple[Window, ...],
    holidays: frozenset[date],
    at: datetime,
    thousandths: list[int],
) -> None:
    bands = Bands(zone, given_windows, holidays)
    band, begins, ends = bands.span(at)
    assert begins <= at < ends
    assert ends - begins <= timedelta(hours=25)
    last = ends - timedelta(microseconds=1)
    for instant in [
        begins,
        last,
        *[begins + (ends - begins) * part // 1000 for part in thousandths],
    ]:
        assert slow_band(bands, instant) == band


# ------------------------------------------------------------------ the clock is changed


def test_in_madrid_the_hour_that_is_skipped_has_no_calls() -> None:
    # 2026-03-29 02:00 local is 03:00: 01:00 UTC.
    bands = Bands(MADRID, (window("night", "02:30", "04:00"),))
    assert in_band(
        bands, "2026-03-29 00:59:59", "2026-03-29 01:00", "2026-03-29 01:59:59", "2026-03-29 02:00"
    ) == ["", "night", "night", ""]
    assert bands.span(utc("2026-03-29 00:30")).ends == utc("2026-03-29 01:00")


def test_in_madrid_the_hour_that_is_shown_twice_is_in_its_band_both_times() -> None:
    # 2026-10-25 03:00 local is 02:00 again: 01:00 UTC.
    bands = Bands(MADRID, (window("night", "02:00", "03:00"),))
    assert in_band(
        bands,
        "2026-10-24 23:59:59",
        "2026-10-25 00:00",
        "2026-10-25 00:59:59",
        "2026-10-25 01:00",
        "2026-10-25 01:59:59",
        "2026-10-25 02:00",
    ) == ["", "night", "night", "night", "night", ""]


def test_in_new_york_a_window_that_begins_in_the_skipped_hour_begins_after_it() -> None:
    # 2026-03-08 02:00 local is 03:00: 07:00 UTC.
    bands = Bands(NEW_YORK, (window("early", "02:15", "05:00"),))
    assert in_band(
        bands, "2026-03-08 06:59:59", "2026-03-08 07:00", "2026-03-08 08:59:59", "2026-03-08 09:00"
    ) == ["", "early", "early", ""]


def test_in_new_york_a_window_that_begins_in_the_repeated_hour_begins_twice() -> None:
    # 2026-11-01 02:00 local is 01:00 again: 06:00 UTC.
    bands = Bands(NEW_YORK, (window("early", "01:30", "03:00"),))
    assert in_band(
        bands,
        "2026-11-01 05:29:59",
        "2026-11-01 05:30",
        "2026-11-01 06:00",
        "2026-11-01 06:29:59",
        "2026-11-01 06:30",
        "2026-11-01 08:00",
    ) == ["", "early", "", "", "early", ""]


def test_the_same_wall_clock_is_another_instant_in_summer() -> None:
    bands = Bands(MADRID, (window("peak", "08:00", "20:00", WORKING_DAYS),))
    assert in_band(bands, "2026-01-07 06:59", "2026-01-07 07:00") == ["", "peak"]
    assert in_band(bands, "2026-07-08 05:59", "2026-07-08 06:00") == ["", "peak"]


# ------------------------------------------------------------------ windows


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    friday_night = Bands(UTC, (window("night", "22:00", "06:00", 0b0010000),))
    assert in_band(
        friday_night,
        "2026-11-20 05:59",
        "2026-11-20 22:00",
        "2026-11-21 05:59",
        "2026-11-21 06:00",
        "2026-11-21 22:00",
    ) == ["", "night", "night", "", ""]


def test_a_holiday_goes_before_the_days_of_the_week() -> None:
    bands = Bands(
        MADRID,
        (
            window("peak", "08:00", "20:00", WORKING_DAYS, position=-5),
            window("weekend", "00:00", "24:00", WEEKEND),
            holiday("holiday", "06:00"),
        ),
        frozenset([date(2026, 12, 25)]),
    )
    assert in_band(bands, "2026-12-24 12:00", "2026-12-25 12:00", "2026-12-26 12:00") == [
        "peak",
        "holiday",
        "weekend",
    ]
    # At 05:30 the holiday's window has not begun: the other ones hold, if any.
    assert in_band(bands, "2026-12-25 04:30", "2026-12-25 22:59") == ["", "holiday"]


def test_the_lower_position_goes_first() -> None:
    bands = Bands(
        UTC,
        (
            window("day", "00:00", "24:00", position=2),
            window("lunch", "12:00", "14:00", position=1),
        ),
    )
    assert in_band(bands, "2026-11-22 11:59", "2026-11-22 12:00", "2026-11-22 14:00") == [
        "day",
        "lunch",
        "day",
    ]


@pytest.mark.parametrize("at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_the_ends_of_the_calendar_have_no_bands(at: datetime) -> None:
    bands = Bands(MADRID, (window("day", "00:00", "24:00"),))
    assert bands.span(at).band == ""
    assert bands.span(utc("2026-11-22 12:00")).band == "day"


def test_impossible_windows_are_refused() -> None:
    with pytest.raises(AssertionError):
        Bands(UTC, (Window("day", EVERY_DAY, DAY_MINUTES, 60),))
    with pytest.raises(AssertionError):
        Bands(UTC, (Window("day", EVERY_DAY, 60, DAY_MINUTES + 1),))
