"""The row that applies: the in-memory tariff against a search through all rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from aaa_server.rating.band import DAY_MINUTES, Bands, Window
from aaa_server.rating.prefix import Prefixes
from aaa_server.rating.rate import Rate, Terms
from aaa_server.rating.tariff import Tariff

DAWN = datetime(2026, 1, 1, tzinfo=UTC)
TERMS = Terms(30_000_000)


def day(number: int) -> datetime:
    return DAWN + timedelta(days=number)


def row(prefix: str, price: str = "0.03", *, start: int = 0, end: int | None = None) -> Rate:
    terms = Terms(int(price.replace(".", "").ljust(10, "0")))
    return Rate(1, prefix, terms, day(start), None if end is None else day(end))


class Owned(NamedTuple):
    account_id: int
    rate: Rate


def slow_rate_for(
    rows: list[Owned], called: str, at: datetime, account_id: int, band: str = ""
) -> Rate | None:
    """What the rule says, read off all rows."""
    candidates = [
        owned
        for owned in rows
        if owned.account_id in (0, account_id)
        and called.startswith(owned.rate.prefix)
        and owned.rate.band in ("", band)
        and owned.rate.effective_from <= at
        and (owned.rate.effective_to is None or at < owned.rate.effective_to)
    ]
    best = max(
        candidates,
        key=lambda owned: (len(owned.rate.prefix), owned.account_id != 0, owned.rate.band != ""),
        default=None,
    )
    return best.rate if best else None


# Few digits and few accounts, so that prefixes nest and owners meet.
PREFIXES = st.text("12*", min_size=1, max_size=6)
NUMBERS = st.text("12*", max_size=9)
ACCOUNTS = st.sampled_from([0, 0, 7, 8])
BANDS = st.sampled_from(["", "even", "odd"])
# Everybody's clock shows midnight at the instants that are asked for, and not in between.
EVEN_AND_ODD = Bands(
    UTC, (Window("odd", 0b1010101, 0, DAY_MINUTES), Window("even", 0b0101010, 0, DAY_MINUTES))
)


@st.composite
def keys_with_rows(draw: st.DrawFn) -> dict[tuple[int, str], list[Rate]]:
    keys = draw(st.lists(st.tuples(ACCOUNTS, PREFIXES), unique=True, max_size=12))
    table: dict[tuple[int, str], list[Rate]] = {}
    for number, (account_id, prefix, band) in enumerate(
        (*key, band)
        for key in keys
        for band in draw(st.just([""]) | st.lists(BANDS, unique=True, min_size=1))
    ):
        edges = sorted(draw(st.sets(st.integers(0, 9), min_size=1, max_size=4)))
        rates = []
        for place, start in enumerate(edges):
            following = edges[place + 1] if place + 1 < len(edges) else None
            end = draw(st.sampled_from([following, start]))
            rates.append(
                Rate(
                    rate_id=number * 10 + place,
                    prefix=prefix,
                    terms=TERMS,
                    effective_from=day(start),
                    effective_to=None if end is None else day(end),
                    blocked=draw(st.booleans()),
                    band=band,
                )
            )
        table.setdefault((account_id, prefix), []).extend(rates)
    return table


@given(
    keys_with_rows(),
    st.sampled_from([EVEN_AND_ODD, None]),
    st.lists(st.tuples(NUMBERS, st.integers(-1, 10), ACCOUNTS), max_size=20),
)
def test_the_tariff_finds_what_a_search_through_all_rows_finds(
    table: dict[tuple[int, str], list[Rate]],
    bands: Bands | None,
    questions: list[tuple[str, int, int]],
) -> None:
    tariff = Tariff(1, "USD")
    tariff.use_bands(bands)
    for (account_id, prefix), rates in table.items():
        tariff.replace(account_id, prefix, rates)
    rows = [Owned(key[0], rate) for key, rates in table.items() for rate in rates]
    for called, at, account_id in questions:
        band = bands.span(day(at)).band if bands else ""
        assert tariff.band_at(day(at)) == band
        assert tariff.rate_for(called, day(at), account_id) == slow_rate_for(
            rows, called, day(at), account_id, band
        )


@given(keys_with_rows(), keys_with_rows(), st.lists(NUMBERS, max_size=20))
def test_replacing_prefixes_ends_as_if_only_the_last_rows_had_been_there(
    before: dict[tuple[int, str], list[Rate]],
    after: dict[tuple[int, str], list[Rate]],
    numbers: list[str],
) -> None:
    changed, fresh = Tariff(1, "USD"), Tariff(1, "USD")
    for (account_id, prefix), rates in before.items():
        changed.replace(account_id, prefix, rates)
    for account_id, prefix in before:
        changed.replace(account_id, prefix, after.get((account_id, prefix), []))
    for (account_id, prefix), rates in after.items():
        changed.replace(account_id, prefix, rates)
        fresh.replace(account_id, prefix, rates)
    assert len(changed) == len(fresh) == len(after)
    for account_id in (0, 7, 8):
        assert sorted(rate.rate_id for rate in changed.rates(account_id)) == sorted(
            rate.rate_id for rate in fresh.rates(account_id)
        )
        for called in numbers:
            assert changed.rate_for(called, day(3), account_id) == fresh.rate_for(
                called, day(3), account_id
            )


def test_the_longest_prefix_wins() -> None:
    tariff = Tariff(1, "USD")
    for prefix, price in (("1", "0.01"), ("1212", "0.02"), ("12125551", "0.05")):
        tariff.replace(0, prefix, [row(prefix, price)])
    found = tariff.rate_for("12125551212", day(1))
    assert found is not None
    assert found.prefix == "12125551"


def test_a_longer_prefix_of_the_group_goes_before_the_accounts_own_shorter_one() -> None:
    tariff = Tariff(1, "USD")
    tariff.replace(7, "1", [row("1", "0.005")])
    tariff.replace(0, "1212", [row("1212", "0.02")])
    found = tariff.rate_for("12125550000", day(1), 7)
    assert found is not None
    assert found.prefix == "1212"


def test_at_equal_length_the_accounts_own_row_goes_first_and_only_for_that_account() -> None:
    tariff = Tariff(1, "USD")
    own, common = row("1212", "0.005"), row("1212", "0.02")
    tariff.replace(7, "1212", [own])
    tariff.replace(0, "1212", [common])
    assert tariff.rate_for("12125550000", day(1), 7) is own
    assert tariff.rate_for("12125550000", day(1), 8) is common
    assert tariff.rate_for("12125550000", day(1)) is common


def test_the_new_row_applies_from_its_first_instant_on() -> None:
    tariff = Tariff(1, "USD")
    old, new = row("34", "0.03", end=5), row("34", "0.04", start=5)
    tariff.replace(0, "34", [old, new])
    assert tariff.rate_for("34600", day(5) - timedelta(microseconds=1)) is old
    assert tariff.rate_for("34600", day(5)) is new


def test_a_row_entered_in_local_time_applies_from_that_instant() -> None:
    tariff = Tariff(1, "USD")
    madrid_new_year = datetime(2025, 12, 31, 23, tzinfo=UTC)
    old = Rate(1, "34", TERMS, day(-100), madrid_new_year)
    new = Rate(2, "34", TERMS, madrid_new_year, None)
    tariff.replace(0, "34", [old, new])
    assert tariff.rate_for("34600", datetime(2025, 12, 31, 23, 30, tzinfo=UTC)) is new
    assert tariff.rate_for("34600", datetime(2025, 12, 31, 22, 59, 59, tzinfo=UTC)) is old


def test_a_prefix_whose_rows_are_not_in_force_does_not_hide_a_shorter_one() -> None:
    tariff = Tariff(1, "USD")
    tariff.replace(0, "44", [row("44")])
    tariff.replace(0, "4420", [row("4420", end=3), row("4420", start=3, end=3)])
    found = tariff.rate_for("442071838750", day(4))
    assert found is not None
    assert found.prefix == "44"


def test_a_blocked_row_is_found_like_any_other() -> None:
    tariff = Tariff(1, "USD")
    tariff.replace(0, "4490", [Rate(1, "4490", TERMS, DAWN, None, blocked=True)])
    tariff.replace(0, "44", [row("44")])
    found = tariff.rate_for("449012345", day(1))
    assert found is not None
    assert found.blocked


def test_an_empty_tariff_and_an_empty_number_find_nothing() -> None:
    tariff = Tariff(1, "USD", revision=3)
    assert tariff.rate_for("442071838750", DAWN) is None
    tariff.replace(0, "44", [row("44")])
    assert tariff.rate_for("", DAWN) is None
    assert tariff.rate_for("4", DAWN) is None
    assert (tariff.tariff_id, tariff.currency, tariff.revision) == (1, "USD", 3)


# ------------------------------------------------------------------ bands


def banded_row(prefix: str, band: str, *, start: int = 0) -> Rate:
    return Rate(1, prefix, TERMS, day(start), None, band=band)


def test_the_row_of_the_band_in_force_goes_before_the_one_for_all_times() -> None:
    tariff = Tariff(1, "USD")
    tariff.use_bands(EVEN_AND_ODD)
    plain, odd = banded_row("44", ""), banded_row("44", "odd")
    tariff.replace(0, "44", [plain, odd])
    # 2026-01-01 is a Thursday: the fourth day of the week is an even one.
    assert tariff.rate_for("4420", day(0)) is plain
    assert tariff.rate_for("4420", day(1)) is odd
    assert tariff.rate_for("4420", day(1) - timedelta(microseconds=1)) is plain


def test_an_account_s_own_row_for_all_times_goes_before_everybody_s_of_the_band() -> None:
    tariff = Tariff(1, "USD")
    tariff.use_bands(EVEN_AND_ODD)
    own, own_even = banded_row("44", ""), banded_row("44", "even")
    tariff.replace(0, "44", [banded_row("44", "odd")])
    tariff.replace(7, "44", [own, own_even])
    assert tariff.rate_for("4420", day(1), 7) is own
    assert tariff.rate_for("4420", day(0), 7) is own_even


def test_at_other_times_a_prefix_with_rows_of_bands_alone_is_as_good_as_absent() -> None:
    tariff = Tariff(1, "USD")
    tariff.use_bands(EVEN_AND_ODD)
    shorter = row("4")
    tariff.replace(0, "4", [shorter])
    tariff.replace(0, "44", [banded_row("44", "odd")])
    assert tariff.rate_for("4420", day(0)) is shorter
    assert list(tariff.rates()) == [shorter, banded_row("44", "odd")]


def test_rows_of_bands_that_nobody_defines_never_apply() -> None:
    tariff = Tariff(1, "USD")
    plain = banded_row("44", "")
    tariff.replace(0, "44", [plain, banded_row("44", "odd")])
    assert {tariff.rate_for("4420", day(number)) for number in range(7)} == {plain}
    tariff.use_bands(EVEN_AND_ODD)
    assert tariff.rate_for("4420", day(1)) != plain
    tariff.use_bands(None)
    assert tariff.rate_for("4420", day(1)) is plain


@given(keys_with_rows(), NUMBERS, st.integers(-1, 10), st.integers(-40, 40))
def test_while_it_stays_the_row_is_the_same(
    table: dict[tuple[int, str], list[Rate]], called: str, at: int, hours: int
) -> None:
    tariff = Tariff(1, "USD")
    tariff.use_bands(EVEN_AND_ODD)
    for (account_id, prefix), rates in table.items():
        tariff.replace(account_id, prefix, rates)
    begins, ends = tariff.stays(called, day(at))
    other = day(at) + timedelta(hours=hours)
    if (begins is None or begins <= other) and (ends is None or other < ends):
        assert tariff.rate_for(called, other) is tariff.rate_for(called, day(at))


def test_new_bands_are_told_to_whoever_remembers_rows() -> None:
    prefixes = Prefixes()
    tariff = Tariff(1, "USD", prefixes=prefixes)
    tariff.replace(0, "442", [banded_row("442", "odd")])
    tariff.replace(0, "331", [row("331")])
    before = prefixes.longest("4420"), prefixes.longest("3310")
    tariff.use_bands(EVEN_AND_ODD)
    assert prefixes.longest("4420") != before[0]
    assert prefixes.longest("3310") == before[1]
    changed = prefixes.longest("4420")
    tariff.use_bands(Bands(UTC, EVEN_AND_ODD.windows))
    assert prefixes.longest("4420") == changed
