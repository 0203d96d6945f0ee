"""The price of a call, against exact fractions, worked cases and its own laws."""

from __future__ import annotations

import json
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.rating.money import (
    EXCHANGE_SCALE,
    MICROS,
    NANOS,
    PPM,
    parse_exchange,
    parse_micros,
    parse_nanos,
    parse_percent_ppm,
)
from aaa_server.rating.rate import STEPS_MAX, Terms

CASES = json.loads((Path(__file__).parents[1] / "cases" / "rating.json").read_text())["cases"]

# Small numbers find the edges, large ones the overflow that must not exist.
PRICES = st.integers(0, 10**6) | st.integers(0, 10**12) | st.just(0)
FEES = st.just(0) | st.integers(0, 100) | st.integers(0, 10**9)
BLOCKS = st.integers(0, 7) | st.sampled_from([0, 30, 60, 3600])
# Steps that lie close together, and such as are sold.
STEPS = st.just(()) | st.dictionaries(
    st.integers(1, 40) | st.sampled_from([60, 120, 300, 600, 3600]), PRICES, max_size=STEPS_MAX
).map(lambda steps: tuple(sorted(steps.items())))
TERMS = st.builds(
    Terms,
    per_minute_nanos=PRICES,
    connect_fee_micros=FEES,
    included_seconds=st.just(0) | st.integers(0, 90),
    initial_seconds=BLOCKS,
    increment_seconds=st.integers(1, 7) | st.sampled_from([30, 60, 3600]),
    minimum_charge_micros=FEES,
    markup_ppm=st.sampled_from([0, 100_000, -100_000, -PPM, 123_457]) | st.integers(-PPM, 5 * PPM),
    exchange_e10=st.just(EXCHANGE_SCALE) | st.integers(1, 10**13),
    steps=STEPS,
)
SECONDS = st.integers(0, 400) | st.integers(0, 100_000)
PACKAGES = st.just(0) | st.integers(0, 500)


def exact_cost(terms: Terms, seconds: int, package_seconds: int) -> int:
    """The same price with fractions, in the words of the rule."""
    if seconds == 0:
        return 0
    chargeable = max(0, seconds - package_seconds - terms.included_seconds)
    if chargeable == 0 and terms.included_seconds == 0:
        return 0
    fee = Fraction(terms.connect_fee_micros, MICROS)
    if chargeable == 0:
        amount = fee
    else:
        beyond = Fraction(max(0, chargeable - terms.initial_seconds), terms.increment_seconds)
        billed = terms.initial_seconds + ceil(beyond) * terms.increment_seconds
        markup = 1 + Fraction(terms.markup_ppm, PPM)
        price = Fraction(0)
        stretches = ((0, terms.per_minute_nanos), *terms.steps)
        for place, (begins, nanos) in enumerate(stretches):
            ends = min(billed, stretches[place + 1][0]) if place < len(terms.steps) else billed
            price += Fraction(nanos, NANOS) * markup * Fraction(max(0, ends - begins), 60)
        amount = max(Fraction(terms.minimum_charge_micros, MICROS), fee + price)
    converted = amount * Fraction(terms.exchange_e10, EXCHANGE_SCALE)
    return floor(converted * MICROS + Fraction(1, 2))


@given(TERMS, SECONDS, PACKAGES)
def test_the_price_is_the_exact_fraction_rounded_once(
    terms: Terms, seconds: int, package_seconds: int
) -> None:
    assert terms.cost_micros(seconds, package_seconds) == exact_cost(
        terms, seconds, package_seconds
    )


@given(TERMS, SECONDS, SECONDS, PACKAGES)
def test_a_longer_call_never_costs_less(terms: Terms, one: int, other: int, package: int) -> None:
    shorter, longer = sorted((one, other))
    assert 0 <= terms.cost_micros(shorter, package) <= terms.cost_micros(longer, package)
    assert 0 <= terms.billed_seconds(shorter, package) <= terms.billed_seconds(longer, package)


@given(TERMS, SECONDS, PACKAGES, PACKAGES)
def test_more_package_seconds_never_cost_more(
    terms: Terms, seconds: int, one: int, other: int
) -> None:
    fewer, more = sorted((one, other))
    assert terms.cost_micros(seconds, more) <= terms.cost_micros(seconds, fewer)


@given(TERMS, PACKAGES)
def test_an_unanswered_call_costs_nothing(terms: Terms, package_seconds: int) -> None:
    assert terms.cost_micros(0, package_seconds) == 0
    assert terms.billed_seconds(0, package_seconds) == 0


@given(
    TERMS,
    SECONDS,
    st.integers(-3, 3),
    st.integers(0, 100_000),
    PACKAGES,
)
def test_affordable_is_the_exact_inverse_of_the_price(
    terms: Terms, priced_seconds: int, offset: int, at_most: int, package: int
) -> None:
    # Around the price of some length, where one micro decides.
    available = terms.cost_micros(priced_seconds, package) + offset
    seconds = terms.affordable_seconds(available, at_most, package)
    assert 0 <= seconds <= at_most
    if available < 0:
        assert seconds == 0
        return
    assert terms.cost_micros(seconds, package) <= available
    if seconds < at_most:
        assert terms.cost_micros(seconds + 1, package) > available


@given(TERMS, st.integers(-(10**6), -1), PACKAGES)
def test_nothing_is_affordable_below_zero(terms: Terms, available: int, package: int) -> None:
    assert terms.affordable_seconds(available, 7200, package) == 0


@given(TERMS, SECONDS)
def test_billed_seconds_are_whole_blocks_that_cover_the_call(terms: Terms, seconds: int) -> None:
    billed = terms.billed_seconds(seconds)
    chargeable = max(0, seconds - terms.included_seconds)
    assert billed >= chargeable
    if billed > terms.initial_seconds:
        assert (billed - terms.initial_seconds) % terms.increment_seconds == 0
        assert billed - terms.increment_seconds < chargeable


@given(TERMS, st.integers(1, 10**13), st.integers(-PPM, 5 * PPM), SECONDS)
def test_exchange_and_markup_make_the_same_terms_as_building_them_anew(
    terms: Terms, exchange_e10: int, markup_ppm: int, seconds: int
) -> None:
    changed = terms.with_exchange(exchange_e10).with_markup(markup_ppm)
    assert (changed.exchange_e10, changed.markup_ppm) == (exchange_e10, markup_ppm)
    assert changed.cost_micros(seconds) == exact_cost(changed, seconds, 0)
    assert changed.with_exchange(terms.exchange_e10).with_markup(terms.markup_ppm) == terms


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_worked_prices(case: dict[str, Any]) -> None:
    terms = Terms(
        per_minute_nanos=parse_nanos(case["per_minute"]),
        connect_fee_micros=parse_micros(case["connect_fee"]),
        included_seconds=case["included_seconds"],
        initial_seconds=case["initial_seconds"],
        increment_seconds=case["increment_seconds"],
        minimum_charge_micros=parse_micros(case["minimum_charge"]),
        markup_ppm=parse_percent_ppm(case["markup_pct"]),
    )
    seconds = case["answered_seconds"]
    assert terms.cost_micros(seconds) == parse_micros(case["expect"]["amount"])
    assert terms.billed_seconds(seconds) == case["expect"]["billed_seconds"]


def per_minute(price: str, initial: int, increment: int, **more: Any) -> Terms:
    return Terms(parse_nanos(price), initial_seconds=initial, increment_seconds=increment, **more)


@pytest.mark.parametrize(
    ("terms", "seconds", "amount"),
    [
        (per_minute("0.10", 60, 60), 61, "0.200000"),
        (per_minute("0.08", 30, 6), 61, "0.088000"),
        (per_minute("0.06", 1, 1), 61, "0.061000"),
        (per_minute("0.04", 6, 6), 61, "0.044000"),
        (per_minute("0.10", 1, 1), 61, "0.101667"),
        (per_minute("0.08", 60, 60), 61, "0.160000"),
        (per_minute("30.00", 60, 60), 2460, "1230.000000"),
        (per_minute("0.01", 60, 60), 36_000, "6.000000"),
        (per_minute("0.00003", 1, 1), 1, "0.000001"),
        (per_minute("0", 60, 60, connect_fee_micros=100_000), 45, "0.100000"),
        (per_minute("0.06", 1, 1), 2, "0.002000"),
        (per_minute("0.10", 60, 60, exchange_e10=parse_exchange("0.92")), 61, "0.184000"),
        # 0.0011666… × 0.92; rounded before converting it would be 0.001074.
        (per_minute("0.01", 1, 1, exchange_e10=parse_exchange("0.92")), 7, "0.001073"),
    ],
)
def test_scenario_prices(terms: Terms, seconds: int, amount: str) -> None:
    assert terms.cost_micros(seconds) == parse_micros(amount)


@pytest.mark.parametrize(
    ("terms", "available", "seconds", "cost"),
    [
        (per_minute("0.03", 60, 60), "0.05", 60, "0.03"),
        (per_minute("0.03", 6, 6), "0.02", 36, "0.018"),
        (
            per_minute("0.03", 60, 60, connect_fee_micros=40_000, included_seconds=30),
            "0.10",
            150,
            "0.10",
        ),
        (per_minute("0.03", 60, 60), "0.03", 60, "0.03"),
        (per_minute("0.10", 60, 60), "5.00", 3000, "5.00"),
        (per_minute("0.08", 30, 6), "1.00", 750, "1.00"),
        (per_minute("0.06", 1, 1), "2.00", 2000, "2.00"),
        (per_minute("0.01", 60, 60), "0.005", 0, "0"),
        (per_minute("0", 60, 60), "0", 7200, "0"),
    ],
)
def test_scenario_grants(terms: Terms, available: str, seconds: int, cost: str) -> None:
    assert terms.affordable_seconds(parse_micros(available), 7200) == seconds
    assert terms.cost_micros(seconds) == parse_micros(cost)


def test_included_seconds_go_first_then_the_package_and_both_leave_the_connect_fee() -> None:
    terms = Terms(30_000_000, connect_fee_micros=50_000, included_seconds=30)
    assert terms.cost_micros(20, package_seconds=600) == 50_000
    assert terms.cost_micros(90, package_seconds=60) == 50_000
    assert terms.cost_micros(91, package_seconds=60) == 80_000


def test_a_package_that_covers_the_first_second_frees_the_connect_fee() -> None:
    terms = Terms(30_000_000, connect_fee_micros=50_000)
    assert terms.cost_micros(60, package_seconds=60) == 0
    assert terms.cost_micros(130, package_seconds=60) == 110_000
    assert terms.affordable_seconds(0, 7200, package_seconds=60) == 60


def test_the_minimum_charge_does_not_touch_free_seconds() -> None:
    terms = Terms(30_000_000, included_seconds=30, minimum_charge_micros=200_000)
    assert terms.cost_micros(30) == 0
    assert terms.cost_micros(31) == 200_000
    assert terms.affordable_seconds(199_999, 7200) == 30


def test_the_price_changes_after_so_many_billed_seconds() -> None:
    terms = Terms(100_000_000, steps=((300, 50_000_000), (600, 0)))
    assert terms.cost_micros(299) == terms.cost_micros(300) == 500_000
    assert terms.cost_micros(301) == 550_000
    assert terms.cost_micros(600) == terms.cost_micros(7200) == 750_000
    assert terms.billed_seconds(301) == 360
    assert terms.affordable_seconds(499_999, 7200) == 240
    assert terms.affordable_seconds(549_999, 7200) == 300
    assert terms.affordable_seconds(749_999, 7200) == 540
    assert terms.affordable_seconds(750_000, 7200) == 7200


def test_a_block_across_a_step_is_split_there() -> None:
    terms = Terms(60_000_000, steps=((90, 30_000_000),))
    assert terms.cost_micros(61) == 105_000
    assert terms.affordable_seconds(104_999, 7200) == 60
    assert terms.affordable_seconds(105_000, 7200) == 120


def test_free_seconds_bring_no_step_nearer() -> None:
    terms = Terms(
        60_000_000,
        included_seconds=60,
        initial_seconds=1,
        increment_seconds=1,
        steps=((60, 120_000_000),),
    )
    assert terms.cost_micros(120) == 60_000
    assert terms.cost_micros(121) == 62_000
    assert terms.cost_micros(180, package_seconds=60) == 60_000


def test_markup_and_exchange_work_on_every_step_and_not_on_the_fee() -> None:
    terms = Terms(100_000_000, connect_fee_micros=50_000, steps=((60, 40_000_000),))
    assert terms.with_markup(100_000).cost_micros(120) == 50_000 + 110_000 + 44_000
    assert terms.with_exchange(2 * EXCHANGE_SCALE).cost_micros(120) == 2 * 190_000


def test_terms_that_differ_in_a_step_are_different_terms() -> None:
    terms = Terms(1, steps=((60, 2),))
    assert terms != Terms(1)
    assert terms.with_markup(7) != Terms(1).with_markup(7)
    assert terms.with_markup(7).steps == terms.steps


@pytest.mark.parametrize(
    "steps",
    [
        ((0, 1),),
        ((60, 1), (60, 2)),
        ((60, 1), (30, 2)),
        ((60, -1),),
        tuple((second, 1) for second in range(1, STEPS_MAX + 2)),
    ],
)
def test_impossible_steps_are_refused(steps: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(AssertionError):
        Terms(1, steps=steps)


def test_impossible_terms_are_refused() -> None:
    with pytest.raises(AssertionError):
        Terms(-1)
    with pytest.raises(AssertionError):
        Terms(1, increment_seconds=0)
    with pytest.raises(AssertionError):
        Terms(1, exchange_e10=0)
