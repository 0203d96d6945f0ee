"""Money as text and integers: exact both ways, or refused with a reason."""

from __future__ import annotations

import re
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.rating import money

AMOUNTS = st.integers(-money.LARGEST, money.LARGEST)
PLAIN_AMOUNT = re.compile(r"[-+]?([0-9]{1,12}\.?([0-9]{1,6}0*)?|\.[0-9]{1,6}0*)")
DENOMINATORS = st.integers(1, 10**20)


@given(AMOUNTS, DENOMINATORS)
def test_the_three_divisions_round_as_they_are_named(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    assert money.div_floor(numerator, denominator) == floor(exact)
    assert money.div_ceil(numerator, denominator) == -floor(-exact)
    assert money.div_half_up(numerator, denominator) == floor(exact + Fraction(1, 2))


def test_halves_go_up() -> None:
    assert [money.div_half_up(n, 2) for n in (-3, -1, 1, 3)] == [-1, 0, 1, 2]


@given(AMOUNTS)
def test_what_is_written_is_read_back_exactly(amount: int) -> None:
    assert money.parse_micros(money.format_micros(amount)) == amount
    assert money.parse_nanos(money.format_nanos(amount)) == amount
    assert money.parse_percent_ppm(money.format_percent(amount)) == amount
    if amount > 0:
        assert money.parse_exchange(money.format_exchange(amount)) == amount


@given(st.text(max_size=12) | st.from_regex(r"[-+]?[0-9]{0,4}[.,]?[0-9]{0,8}"))
def test_text_is_read_exactly_or_refused_by_its_name(text: str) -> None:
    if PLAIN_AMOUNT.fullmatch(text.strip()):
        amount = Fraction(money.parse_micros(text), money.MICROS)
        assert amount == Fraction(text.strip().removesuffix("."))
    else:
        with pytest.raises(ValueError, match=r"is not an amount: "):
            money.parse_micros(text)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0.10", 100_000),
        ("-12.5", -12_500_000),
        ("+1", 1_000_000),
        (" 5 ", 5_000_000),
        (".5", 500_000),
        ("5.", 5_000_000),
        ("0.000001", 1),
        ("1.0000000000", 1_000_000),
        ("00000000000000000000001", 1_000_000),
        ("9223372036854.775807", money.LARGEST),
    ],
)
def test_amounts_are_read(text: str, micros: int) -> None:
    assert money.parse_micros(text) == micros


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.1x", "digits and a point are expected, like 12.50"),
        ("", "digits and a point"),
        (".", "digits and a point"),
        ("1,5", "digits and a point"),
        ("1e5", "digits and a point"),
        ("٣", "digits and a point"),
        ("nan", "digits and a point"),
        ("0.0000001", "it has 7 decimals, 6 are allowed"),
        ("9223372036854.775808", "too large"),
        ("9" * 100_000, "too large"),
    ],
)
def test_a_bad_amount_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        money.parse_micros(text)


def test_prices_percentages_and_exchange_rates_have_their_own_decimals() -> None:
    assert money.parse_nanos("0.000000001") == 1
    assert money.parse_percent_ppm("10") == 100_000
    assert money.parse_percent_ppm("12.5 %") == 125_000
    assert money.parse_percent_ppm("-0.0001") == -1
    assert money.parse_exchange("0.92") == 9_200_000_000
    with pytest.raises(ValueError, match="10 decimals, 9 are allowed"):
        money.parse_nanos("0.0000000001")
    with pytest.raises(ValueError, match="is not a percentage"):
        money.parse_percent_ppm("ten")
    for text in ("0", "-1"):
        with pytest.raises(ValueError, match="it must be above 0"):
            money.parse_exchange(text)


def test_how_money_is_written() -> None:
    assert money.format_micros(100_000) == "0.100000"
    assert money.format_micros(-1) == "-0.000001"
    assert money.format_nanos(12_300_000) == "0.0123"
    assert money.format_nanos(10_000) == "0.00001"
    assert money.format_nanos(100_000_000) == "0.1000"
    assert money.format_percent(100_000) == "10"
    assert money.format_percent(-125_000) == "-12.5"
    assert money.format_exchange(9_200_000_000) == "0.9200"
