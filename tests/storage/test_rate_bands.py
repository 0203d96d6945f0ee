"""Bands in a real PostgreSQL: what it refuses, and its own reading of the clock as an oracle."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import psycopg2.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aaa_server.rating.band import DAY_MINUTES, EVERY_DAY, Bands, Window
from aaa_server.storage import rate_bands, rates
from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.rate_bands import Holiday
from aaa_server.storage.rates import RateRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

EXAMPLES = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
MINUTES = st.integers(0, DAY_MINUTES - 1) | st.sampled_from([0, 60, 120, 150, 180, 1320])
WINDOWS = st.builds(
    Window,
    band=st.sampled_from(["peak", "night", "weekend"]),
    weekdays=st.integers(0, EVERY_DAY),
    from_minute=MINUTES,
    to_minute=st.integers(1, DAY_MINUTES) | st.sampled_from([60, 120, 180, 360]),
    position=st.integers(0, 1),
).map(lambda window: window._replace(holiday=not window.weekdays))
# Hours around the days on which the clocks of both zones change.
INSTANTS = st.builds(
    lambda begins, minutes: (
        datetime.fromisoformat(begins).replace(tzinfo=UTC) + timedelta(minutes=minutes)
    ),
    st.sampled_from(["2026-03-08", "2026-03-29", "2026-10-25", "2026-11-01"]),
    st.integers(-5000, 5000),
)
HOLIDAYS = st.sets(
    st.sampled_from(["2026-03-08", "2026-03-28", "2026-10-25", "2026-11-01"]), max_size=3
)


@pytest.fixture
def cursor(connection: Connection) -> Iterator[Cursor]:
    with connection.cursor() as opened:
        yield opened


def new_tariff(cursor: Cursor) -> int:
    cursor.execute("INSERT INTO tariff (currency) VALUES ('EUR') RETURNING tariff_id")
    [(tariff_id,)] = cursor.fetchall()
    return int(tariff_id)


@pytest.fixture
def tariff_id(cursor: Cursor) -> int:
    return new_tariff(cursor)


def whole_days(band: str, weekdays: int = EVERY_DAY, position: int = 0) -> Window:
    return Window(band, weekdays, 0, DAY_MINUTES, position=position)


def sql_band(cursor: Cursor, tariff_id: int, zone: str, at: datetime) -> str:
    """PostgreSQL's reading of the clock, window by window."""
    cursor.execute(
        """
        SELECT name
          FROM (SELECT %(at)s AT TIME ZONE %(zone)s AS local) AS clock
         CROSS JOIN LATERAL (
               SELECT extract(hour FROM local) * 60 + extract(minute FROM local) AS minute) AS read
          JOIN rate_band ON tariff_id = %(tariff_id)s
           AND CASE WHEN NOT holiday
                    THEN week @> ((extract(isodow FROM local) - 1) * 1440 + minute)::integer
                    WHEN from_minute < to_minute OR minute >= from_minute
                    THEN minute >= from_minute
                         AND (minute < to_minute OR to_minute < from_minute)
                         AND local::date IN (SELECT day FROM rate_holiday
                                              WHERE tariff_id = %(tariff_id)s)
                    ELSE minute < to_minute
                         AND local::date - 1 IN (SELECT day FROM rate_holiday
                                                  WHERE tariff_id = %(tariff_id)s)
               END
         ORDER BY holiday DESC, position
         LIMIT 1
        """,
        {"at": at, "zone": zone, "tariff_id": tariff_id},
    )
    row = cursor.fetchone()
    return "" if row is None else str(row[0])


@EXAMPLES
@given(
    zone=st.sampled_from(["Europe/Madrid", "America/New_York"]),
    windows=st.lists(WINDOWS, max_size=6),
    holidays=HOLIDAYS,
    instants=st.lists(INSTANTS, max_size=10),
)
def test_the_band_in_memory_is_the_one_that_sql_reads_off_the_clock(
    cursor: Cursor, zone: str, windows: list[Window], holidays: set[str], instants: list[datetime]
) -> None:
    cursor.connection.rollback()
    tariff_id = new_tariff(cursor)
    taken: list[Window] = []
    for window in windows:
        try:
            rate_bands.add_window(cursor, tariff_id, window)
        except Conflict:
            # Refused is what would leave open which of two goes first, and nothing else.
            assert any(overlap(window, other) for other in taken)
        except BadValue:
            assert window.from_minute == window.to_minute
            cursor.connection.rollback()
            return
        else:
            assert not any(overlap(window, other) for other in taken)
            taken.append(window)
    days = [Holiday(date.fromisoformat(day), "") for day in sorted(holidays)]
    rate_bands.add_holidays(cursor, tariff_id, days)
    bands = rate_bands.bands_of(cursor, tariff_id, zone)
    assert (bands is None) == (not taken)
    for at in instants:
        found = bands.span(at).band if bands is not None else ""
        assert found == sql_band(cursor, tariff_id, zone, at)


def overlap(one: Window, other: Window) -> bool:
    if (one.holiday, one.position) != (other.holiday, other.position):
        return False
    return bool(minutes_of_week(one) & minutes_of_week(other))


def minutes_of_week(window: Window) -> set[int]:
    length = (window.to_minute - window.from_minute) % DAY_MINUTES or DAY_MINUTES
    return {
        (day * DAY_MINUTES + window.from_minute + minute) % (7 * DAY_MINUTES)
        for day in range(7)
        if window.holiday or window.weekdays >> day & 1
        for minute in range(length)
    }


# ------------------------------------------------------------------ what is refused


def test_two_windows_of_one_rank_are_refused_where_nothing_tells_which_goes_first(
    cursor: Cursor, tariff_id: int
) -> None:
    rate_bands.add_window(cursor, tariff_id, whole_days("weekend", 0b1100000))
    night = Window("night", 0b0010000, 22 * 60, 6 * 60)
    with pytest.raises(Conflict, match="band weekend is in force at some of these times"):
        rate_bands.add_window(cursor, tariff_id, night)
    # The transaction goes on, and another rank tells.
    rate_bands.add_window(cursor, tariff_id, night._replace(position=-1))
    rate_bands.add_window(cursor, tariff_id, Window("holiday", 0, 0, DAY_MINUTES, holiday=True))
    assert [window.band for window in rate_bands.list_windows(cursor, tariff_id)] == [
        "holiday",
        "night",
        "weekend",
    ]


@pytest.mark.parametrize(
    ("window", "text"),
    [
        (whole_days("Peak"), "no name of a band"),
        (whole_days(""), "no name of a band"),
        (Window("peak", EVERY_DAY, 60, 60), "ends at another time"),
        (Window("peak", 0, 0, 60), "needs days of the week"),
        (Window("peak", EVERY_DAY, 0, 60, holiday=True), "needs days of the week"),
        (Window("peak", 128, 0, 60), "rate_band_weekdays_check"),
        (Window("peak", EVERY_DAY, 1440, 60), "rate_band_from_minute_check"),
    ],
)
def test_an_impossible_window_is_refused_in_words(
    cursor: Cursor, tariff_id: int, window: Window, text: str
) -> None:
    with pytest.raises(BadValue, match=text):
        rate_bands.add_window(cursor, tariff_id, window)


def test_so_many_windows_and_no_more(cursor: Cursor, tariff_id: int) -> None:
    for position in range(rate_bands.WINDOWS_MAX):
        rate_bands.add_window(cursor, tariff_id, whole_days("peak", position=position))
    with pytest.raises(BadValue, match="64 windows"):
        rate_bands.add_window(cursor, tariff_id, whole_days("peak", position=-1))
    days = [Holiday(date(2026, 1, 1) + timedelta(days=more), "") for more in range(1001)]
    with pytest.raises(BadValue, match="more than 1000 holidays"):
        rate_bands.add_holidays(cursor, tariff_id, days)


def test_a_band_whose_rates_are_in_force_or_planned_stays(cursor: Cursor, tariff_id: int) -> None:
    rate_bands.add_window(cursor, tariff_id, Window("peak", EVERY_DAY, 480, 720))
    rate_bands.add_window(cursor, tariff_id, Window("peak", EVERY_DAY, 840, 1200))
    at = datetime.now(UTC) + timedelta(days=1)
    rates.add_rate(cursor, tariff_id, RateRow("44", 1, band="peak", effective_from=at))
    with pytest.raises(Conflict, match="1 rates of band peak are in force or planned"):
        rate_bands.remove_band(cursor, tariff_id, "peak")
    rates.close_rate(cursor, tariff_id, "44", at=at, band="peak")
    gone = rate_bands.remove_band(cursor, tariff_id, "peak")
    assert [window.from_minute for window in gone] == [480, 840]
    with pytest.raises(NotFound, match="no band 'peak'"):
        rate_bands.remove_band(cursor, tariff_id, "peak")


def test_a_day_is_a_holiday_once(cursor: Cursor, tariff_id: int) -> None:
    christmas = Holiday(date(2026, 12, 25), "Christmas")
    rate_bands.add_holidays(cursor, tariff_id, [christmas])
    cursor.execute("SAVEPOINT again")
    with pytest.raises(Conflict, match="2026-12-25 is a holiday already"):
        rate_bands.add_holidays(cursor, tariff_id, [christmas])
    cursor.execute("ROLLBACK TO SAVEPOINT again")
    assert rate_bands.list_holidays(cursor, tariff_id) == [christmas]
    with pytest.raises(NotFound, match="2026-12-26 is no holiday"):
        rate_bands.remove_holidays(cursor, tariff_id, [date(2026, 12, 26)])
    assert rate_bands.remove_holidays(cursor, tariff_id, [christmas.day]) == [christmas]
    assert rate_bands.list_holidays(cursor, tariff_id) == []


def test_every_change_is_told_to_the_servers(cursor: Cursor, tariff_id: int) -> None:
    def revision() -> int:
        cursor.execute("SELECT revision FROM catalogue")
        [(found,)] = cursor.fetchall()
        return int(found)

    seen = [revision()]
    rate_bands.add_window(cursor, tariff_id, whole_days("peak"))
    seen.append(revision())
    rate_bands.add_holidays(cursor, tariff_id, [Holiday(date(2026, 12, 25), "")])
    seen.append(revision())
    rate_bands.remove_holidays(cursor, tariff_id, [date(2026, 12, 25)])
    seen.append(revision())
    rate_bands.remove_band(cursor, tariff_id, "peak")
    seen.append(revision())
    assert seen == sorted(set(seen))


def test_a_time_zone_that_is_none_counts_as_utc() -> None:
    windows = [(1, "Europe/Atlantis", *whole_days("day"))]
    found = rate_bands.bands_by_tariff(windows, [(1, date(2026, 1, 1)), (2, date(2026, 1, 1))])
    assert found == {1: Bands(UTC, (whole_days("day"),), frozenset([date(2026, 1, 1)]))}
    [same] = rate_bands.bands_by_tariff([(1, "Europe/Madrid", *whole_days("day"))], []).values()
    assert same.zone == ZoneInfo("Europe/Madrid")


# ------------------------------------------------------------------ the database, by itself


def test_a_row_s_period_is_its_band_s_alone(cursor: Cursor, tariff_id: int) -> None:
    def insert(band: str, begins: str) -> None:
        cursor.execute(
            """
            INSERT INTO rate (tariff_id, prefix, per_minute_nanos, initial_seconds,
                              increment_seconds, effective_from, revision, band)
            VALUES (%s, '44', 1, 60, 60, %s, 1, %s)
            """,
            (tariff_id, begins, band),
        )

    for band in ("", "peak", "night"):
        insert(band, "2026-01-01Z")
    for band, constraint in (
        ("", "rate_periods_do_not_overlap"),
        ("peak", "rate_band_periods_do_not_overlap"),
    ):
        cursor.execute("SAVEPOINT refused")
        with pytest.raises(psycopg2.errors.ExclusionViolation, match=constraint):
            insert(band, "2026-06-01Z")
        cursor.execute("ROLLBACK TO SAVEPOINT refused")
