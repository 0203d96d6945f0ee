"""What is found out for one number holds for all of its longest prefix, until a row changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from aaa_server.rating.prefix import Prefixes
from aaa_server.rating.rate import Rate, Terms
from aaa_server.rating.tariff import Tariff

DAWN = datetime(2026, 1, 1, tzinfo=UTC)
TERMS = Terms(30_000_000)
PREFIXES = st.text("12*", min_size=1, max_size=5)
NUMBERS = st.text("12*", max_size=8)
NUMBERS_OF_LEADS = ("121000", "122000", "123000")


def day(number: int) -> datetime:
    return DAWN + timedelta(days=number)


@st.composite
def rows(draw: st.DrawFn) -> tuple[int, str, list[Rate]]:
    prefix = draw(PREFIXES)
    edges = sorted(draw(st.sets(st.integers(0, 9), max_size=4)))
    rates = []
    for start, end in zip(edges, [*edges[1:], None], strict=False):
        last = draw(st.sampled_from([end, start]))
        rates.append(Rate(start, prefix, TERMS, day(start), None if last is None else day(last)))
    return draw(st.integers(0, 1)), prefix, rates


@given(st.lists(rows(), max_size=12), st.lists(NUMBERS, min_size=2, max_size=20))
def test_numbers_of_one_longest_prefix_find_the_same_rows(
    changes: list[tuple[int, str, list[Rate]]], numbers: list[str]
) -> None:
    prefixes = Prefixes()
    tariffs = [Tariff(number, "USD", prefixes=prefixes) for number in range(2)]
    for number, prefix, rates in changes:
        tariffs[number].replace(0, prefix, rates)
    found: dict[str, list[Rate | None]] = {}
    for called in numbers:
        longest, _ = prefixes.longest(called)
        assert called.startswith(longest)
        rates_found = [tariff.rate_for(called, day(3)) for tariff in tariffs]
        assert found.setdefault(longest, rates_found) == rates_found
        assert [tariff.rate_for(longest, day(3)) for tariff in tariffs] == rates_found
    assert len(prefixes) == len({prefix for _, prefix, _ in changes})


@given(
    st.lists(rows(), max_size=6),
    rows(),
    NUMBERS,
    st.lists(st.integers(-1, 10), min_size=1, max_size=4),
)
def test_a_row_that_changes_changes_the_count_of_its_numbers(
    before: list[tuple[int, str, list[Rate]]],
    change: tuple[int, str, list[Rate]],
    called: str,
    days: list[int],
) -> None:
    prefixes = Prefixes()
    tariffs = [Tariff(number, "USD", prefixes=prefixes) for number in range(2)]
    for number, prefix, rates in before:
        tariffs[number].replace(0, prefix, rates)
    known = prefixes.longest(called)
    answers = [[tariff.rate_for(called, day(at)) for at in days] for tariff in tariffs]
    tariffs[change[0]].replace(0, change[1], change[2])
    if prefixes.longest(called) == known:
        after = [[tariff.rate_for(called, day(at)) for at in days] for tariff in tariffs]
        assert after == answers


# A short prefix is shared by numbers of several leads, and each has its own changes.
@settings(max_examples=500)
@given(st.lists(st.sampled_from(["1", "1215", "1225", *NUMBERS_OF_LEADS]), min_size=5, max_size=12))
def test_while_the_count_is_the_same_no_row_of_the_prefix_has_changed(steps: list[str]) -> None:
    prefixes = Prefixes()
    tariff = Tariff(1, "USD", prefixes=prefixes)
    kept: dict[tuple[str, int], Rate | None] = {}
    for number, step in enumerate(steps):
        if step in NUMBERS_OF_LEADS:
            found = tariff.rate_for(step, DAWN)
            assert kept.setdefault(prefixes.longest(step), found) == found
        else:
            tariff.replace(0, step, [Rate(number, step, TERMS, DAWN, None)])


@given(st.lists(rows(), max_size=8), NUMBERS, st.integers(-1, 10), st.integers(-1, 10))
def test_the_row_is_the_same_in_the_whole_span_in_which_it_is_said_to_stay(
    changes: list[tuple[int, str, list[Rate]]], called: str, at: int, other: int
) -> None:
    tariff = Tariff(1, "USD")
    for _, prefix, rates in changes:
        tariff.replace(0, prefix, rates)
    begins, ends = tariff.stays(called, day(at))
    assert begins is None or begins <= day(at)
    assert ends is None or day(at) < ends
    for instant in (day(other), day(other) - timedelta(microseconds=1)):
        if (begins is None or begins <= instant) and (ends is None or instant < ends):
            assert tariff.rate_for(called, instant) is tariff.rate_for(called, day(at))


def test_a_row_that_names_its_way_out_is_known_by_its_number() -> None:
    tariff = Tariff(1, "USD")
    tariff.replace(0, "44", [Rate(7, "44", TERMS, DAWN, None, resource_group_id=21)])
    tariff.replace(0, "49", [Rate(8, "49", TERMS, DAWN, None)])
    assert tariff.forced == {7: 21}
