"""Periods of recurring charges: laws for all of them, and the dates that people ask about."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.rating.period import (
    UNITS,
    Period,
    Plan,
    clipped,
    days,
    period,
    period_at,
    share,
)

MOMENTS = st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1))  # noqa: DTZ001
PLANS = st.builds(Plan, MOMENTS, st.sampled_from(UNITS), st.booleans())
NUMBERS = st.integers(-40, 400)
AMOUNTS = st.integers(0, 10**15)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def begins(plan: Plan, count: int) -> list[str]:
    return [period(plan, number).begin.isoformat(" ", "minutes") for number in range(count)]


@given(PLANS, NUMBERS)
def test_each_period_ends_where_the_next_begins_and_is_not_empty(plan: Plan, number: int) -> None:
    one, following = period(plan, number), period(plan, number + 1)
    assert one.begin < one.end == following.begin
    longest = {"day": 1, "week": 7, "month": 31, "year": 366}[plan.unit]
    assert one.end - one.begin <= timedelta(days=longest)


@given(PLANS, MOMENTS)
def test_every_instant_lies_in_the_period_that_is_found_for_it(plan: Plan, when: datetime) -> None:
    found = period_at(plan, when)
    assert found.begin <= when < found.end
    assert found == period(plan, found.number)


@given(PLANS)
def test_the_anchor_lies_in_period_0(plan: Plan) -> None:
    first = period(plan, 0)
    assert period_at(plan, plan.anchor) == first
    assert plan.calendar or first.begin == plan.anchor


@given(PLANS, NUMBERS, MOMENTS, st.none() | MOMENTS, AMOUNTS)
def test_a_part_costs_its_days_of_the_whole_rounded_once(
    plan: Plan, number: int, begin: datetime, end: datetime | None, amount: int
) -> None:
    whole = period(plan, number)
    part = clipped(whole, begin, end)
    assert whole.begin <= part.begin <= part.end <= whole.end
    cost = share(amount, part, whole)
    assert 0 <= cost <= amount
    of = days(whole.begin, whole.end)
    exact = Fraction(amount * min(days(part.begin, part.end), of), of)
    assert Fraction(-1, 2) <= exact - cost < Fraction(1, 2)
    if part == whole:
        assert cost == amount
    if part.begin == part.end:
        assert cost == 0


@given(PLANS, NUMBERS, MOMENTS, MOMENTS, AMOUNTS)
def test_a_longer_part_never_costs_less(
    plan: Plan, number: int, one: datetime, other: datetime, amount: int
) -> None:
    whole = period(plan, number)
    short = clipped(whole, whole.begin, min(one, other))
    long = clipped(whole, whole.begin, max(one, other))
    assert share(amount, short, whole) <= share(amount, long, whole)


def test_the_31st_is_the_last_day_of_shorter_months_and_the_31st_again() -> None:
    plan = Plan(at("2027-01-31T15:32"), "month", calendar=False)
    assert begins(plan, 4) == [
        "2027-01-31 15:32",
        "2027-02-28 15:32",
        "2027-03-31 15:32",
        "2027-04-30 15:32",
    ]


def test_the_29th_of_february_is_the_28th_in_other_years() -> None:
    plan = Plan(at("2028-02-29"), "year", calendar=False)
    assert begins(plan, 5)[1::3] == ["2029-02-28 00:00", "2032-02-29 00:00"]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("day", "2026-11-19 00:00"),
        ("week", "2026-11-16 00:00"),  # a Monday
        ("month", "2026-11-01 00:00"),
        ("year", "2026-01-01 00:00"),
    ],
)
def test_calendar_periods_begin_as_the_calendar_does(unit: str, expected: str) -> None:
    assert begins(Plan(at("2026-11-19T15:32"), unit, calendar=True), 1) == [expected]


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        ("2026-01-10T15:32", None, "0.709677"),  # 22 of 31 days, the 10th included
        ("2026-01-01", None, "1.000000"),
        ("2026-01-01", "2026-01-11", "0.322581"),  # the first ten
        ("2026-01-01", "2026-01-11T00:00:01", "0.354839"),  # the eleventh is begun
        ("2026-01-31T23:59:59", None, "0.032258"),
        ("2026-01-05", "2026-01-05", "0.000000"),
    ],
)
def test_a_month_begun_or_left_in_the_middle_costs_its_days(
    begin: str, end: str | None, expected: str
) -> None:
    whole = period(Plan(at(begin), "month", calendar=True), 0)
    part = clipped(whole, at(begin), at(end) if end else None)
    cost = share(1_000_000, part, whole)
    assert f"{cost // 10**6}.{cost % 10**6:06}" == expected


def test_a_part_outside_of_its_whole_is_a_mistake_of_ours() -> None:
    whole = Period(0, at("2026-01-01"), at("2026-02-01"))
    with pytest.raises(AssertionError, match="lies in its whole"):
        share(1, Period(0, at("2025-12-31"), at("2026-01-05")), whole)
    with pytest.raises(AssertionError, match="no unit"):
        period(Plan(at("2026-01-01"), "fortnight", calendar=False), 0)
