"""The orders of routes, as a table, by their laws, and by lot."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.rating.lcr import (
    BY_CALL,
    QUALITY_ATTEMPTS_MIN,
    REFERENCE_CALL_SECONDS,
    STRATEGIES,
    Quality,
    Route,
    margin_ppm,
    most_micros,
)
from aaa_server.rating.rate import Rate, Terms

if TYPE_CHECKING:
    from random import Random

DAWN = datetime(2026, 1, 1, tzinfo=UTC)


def route(name: str, prefix: str, terms: Terms, priority: int = 0) -> Route:
    rate = Rate(1, prefix, terms, DAWN, None)
    cost_micros = terms.cost_micros(REFERENCE_CALL_SECONDS)
    return Route(int(name[3:]), name, 1, rate, cost_micros, priority)


CHEAP = Terms(10_000_000, initial_seconds=1, increment_seconds=1)
DEAR = Terms(20_000_000, initial_seconds=1, increment_seconds=1)
# The lower price, but its connect fee makes a call of three minutes the dearest.
FEE = Terms(5_000_000, connect_fee_micros=60_000, initial_seconds=1, increment_seconds=1)
# The lower price again, but it bills five minutes at once.
COARSE = Terms(9_000_000, initial_seconds=300, increment_seconds=300)


@pytest.mark.parametrize(
    ("strategy", "routes", "order"),
    [
        ("least-cost", [], []),
        ("least-cost", [("RG_1", "44", DEAR), ("RG_2", "4", CHEAP)], ["RG_2", "RG_1"]),
        ("longest-prefix", [("RG_1", "4", CHEAP), ("RG_2", "44", DEAR)], ["RG_2", "RG_1"]),
        ("longest-prefix", [("RG_1", "44", DEAR), ("RG_2", "44", CHEAP)], ["RG_2", "RG_1"]),
        ("least-cost", [("RG_1", "44", FEE), ("RG_2", "44", DEAR)], ["RG_2", "RG_1"]),
        ("least-cost", [("RG_1", "44", COARSE), ("RG_2", "44", CHEAP)], ["RG_2", "RG_1"]),
        ("least-cost", [("RG_1", "44", CHEAP, 2), ("RG_2", "44", CHEAP, 1)], ["RG_2", "RG_1"]),
        ("longest-prefix", [("RG_2", "44", CHEAP, 1), ("RG_1", "44", CHEAP, 1)], ["RG_1", "RG_2"]),
        ("least-cost", [("RG_2", "44", CHEAP), ("RG_1", "44", CHEAP)], ["RG_1", "RG_2"]),
        ("priority", [("RG_1", "44", CHEAP, 2), ("RG_2", "44", DEAR, 1)], ["RG_2", "RG_1"]),
        ("priority", [("RG_1", "44", DEAR, 1), ("RG_2", "44", CHEAP, 1)], ["RG_2", "RG_1"]),
        ("priority", [("RG_2", "44", CHEAP), ("RG_1", "44", CHEAP)], ["RG_1", "RG_2"]),
        ("priority", [("RG_1", "44", CHEAP), ("RG_2", "44", DEAR, -1)], ["RG_2", "RG_1"]),
        ("percentage", [], []),
        ("percentage", [("RG_1", "44", DEAR)], ["RG_1"]),
        ("quality", [], []),
    ],
)
def test_routes_are_tried_in_this_order(
    strategy: str, routes: list[tuple[str, str, Terms]], order: list[str]
) -> None:
    offered = [route(*each) for each in routes]
    assert [each.name for each in STRATEGIES[strategy](offered, "call-1")] == order


def test_routes_are_compared_in_one_currency() -> None:
    # 0.010 EUR at 1.2 USD is dearer than 0.011 USD.
    euro = route("RG_1", "44", CHEAP.with_exchange(12_000_000_000))
    dollar = route("RG_2", "44", Terms(11_000_000, initial_seconds=1, increment_seconds=1))
    assert euro.cost_micros == 36_000
    assert [each.name for each in STRATEGIES["least-cost"]([euro, dollar], "")] == ["RG_2", "RG_1"]


def test_of_two_rate_rows_that_are_otherwise_equal_the_lower_priority_comes_first() -> None:
    first, second = route("RG_1", "44", CHEAP), route("RG_2", "44", CHEAP)
    first = first._replace(rate=Rate(1, "44", CHEAP, DAWN, None, priority=2))
    second = second._replace(rate=Rate(2, "44", CHEAP, DAWN, None, priority=1))
    for strategy in ("least-cost", "longest-prefix", "priority", "quality"):
        assert [each.name for each in STRATEGIES[strategy]([first, second], "")] == ["RG_2", "RG_1"]


# ------------------------------------------------------------------ quality


def measured(name: str, cost: Terms, quality: Quality | None) -> Route:
    return route(name, "44", cost)._replace(quality=quality)


ENOUGH = QUALITY_ATTEMPTS_MIN
GOOD = Quality(10 * ENOUGH, 5 * ENOUGH, 900 * ENOUGH)  # 90 s of talk an attempt
POOR = Quality(10 * ENOUGH, ENOUGH, 90 * ENOUGH)  # 9 s
DEAD = Quality(10 * ENOUGH, 0, 0)
TOO_FEW = Quality(ENOUGH - 1, 0, 0)
TOO_FEW_BUT_FINE = Quality(ENOUGH - 1, ENOUGH - 1, 3600 * ENOUGH)


@pytest.mark.parametrize(
    ("routes", "order"),
    [
        # Twice as dear, but ten times the talk for an attempt.
        ([("RG_1", CHEAP, POOR), ("RG_2", DEAR, GOOD)], ["RG_2", "RG_1"]),
        ([("RG_1", DEAR, GOOD), ("RG_2", CHEAP, GOOD)], ["RG_2", "RG_1"]),
        # As good as the measured ones together, so by cost: between them, before them.
        ([("RG_1", CHEAP, None), ("RG_2", CHEAP, GOOD), ("RG_3", CHEAP, POOR)], "213"),
        ([("RG_1", CHEAP, TOO_FEW), ("RG_2", DEAR, GOOD)], ["RG_1", "RG_2"]),
        ([("RG_1", DEAR, TOO_FEW_BUT_FINE), ("RG_2", CHEAP, GOOD)], ["RG_2", "RG_1"]),
        ([("RG_1", DEAR, None), ("RG_2", CHEAP, None)], ["RG_2", "RG_1"]),
        # Where nobody ever talked comes last, whatever it costs.
        ([("RG_1", CHEAP, DEAD), ("RG_2", DEAR, POOR)], ["RG_2", "RG_1"]),
        ([("RG_1", DEAR, DEAD), ("RG_2", CHEAP, DEAD)], ["RG_2", "RG_1"]),
        ([("RG_1", DEAR, DEAD), ("RG_2", CHEAP, None)], ["RG_2", "RG_1"]),
    ],
)
def test_quality_weighs_talk_for_an_attempt_against_cost(
    routes: list[tuple[str, Terms, Quality | None]], order: list[str] | str
) -> None:
    wanted = [f"RG_{digit}" for digit in order] if isinstance(order, str) else order
    found = STRATEGIES["quality"]([measured(*each) for each in routes], "call-1")
    assert [each.name for each in found] == wanted


def test_a_quality_is_measured_from_the_least_number_of_attempts_on() -> None:
    assert Quality(ENOUGH, 0, 0).is_measured
    assert not Quality(ENOUGH - 1, 0, 0).is_measured


# ------------------------------------------------------------------ laws of all orders


@st.composite
def any_routes(draw: st.DrawFn) -> list[Route]:
    numbers = draw(st.lists(st.integers(1, 99), unique=True, max_size=8))
    return [
        route(
            f"RG_{number}",
            draw(st.sampled_from(["4", "44", "4420"])),
            draw(st.sampled_from([CHEAP, DEAR, FEE, COARSE, Terms(0)])),
            draw(st.integers(0, 2)),
        )._replace(
            weight=draw(st.sampled_from([0, 1, 1, 3, 10**9])),
            quality=draw(st.sampled_from([None, GOOD, POOR, DEAD, TOO_FEW])),
        )
        for number in numbers
    ]


ANY_STRATEGY = st.sampled_from(sorted(STRATEGIES))
KEYS = st.text(max_size=20)


@given(ANY_STRATEGY, any_routes(), KEYS)
def test_every_order_has_every_route_once_and_one_call_always_has_the_same(
    strategy: str, routes: list[Route], key: str
) -> None:
    order = list(STRATEGIES[strategy](routes, key))
    assert sorted(order) == sorted(routes)
    assert list(STRATEGIES[strategy](list(routes), key)) == order


@given(st.sampled_from(sorted(STRATEGIES.keys() - BY_CALL)), any_routes(), KEYS, st.randoms())
def test_all_calls_have_the_same_order_however_the_routes_are_listed(
    strategy: str, routes: list[Route], key: str, chance: Random
) -> None:
    order = list(STRATEGIES[strategy](routes, ""))
    shuffled = list(routes)
    chance.shuffle(shuffled)
    assert list(STRATEGIES[strategy](shuffled, key)) == order


@given(any_routes())
def test_a_route_that_is_cheaper_and_else_the_same_is_never_behind(routes: list[Route]) -> None:
    for one in routes:
        cheaper = one._replace(name="RG_0", resource_group_id=0, cost_micros=one.cost_micros // 2)
        for strategy in ("least-cost", "longest-prefix", "priority", "quality"):
            order = list(STRATEGIES[strategy]([*routes, cheaper], ""))
            assert order.index(cheaper) < order.index(one)


@given(any_routes())
def test_without_enough_attempts_quality_is_least_cost(routes: list[Route]) -> None:
    few = [each._replace(quality=TOO_FEW) for each in routes]
    assert list(STRATEGIES["quality"](few, "")) == list(STRATEGIES["least-cost"](few, ""))


# ------------------------------------------------------------------ by lot

WEIGHTS = {"RG_1": 50, "RG_2": 30, "RG_3": 20, "RG_4": 0, "RG_5": 0}
CALLS = 20_000


def lottery() -> list[Route]:
    prices = {"RG_4": DEAR, "RG_5": CHEAP}
    return [
        route(name, "44", prices.get(name, CHEAP))._replace(weight=weight)
        for name, weight in WEIGHTS.items()
    ]


def test_each_route_has_its_share_of_the_calls_at_every_place() -> None:
    routes = lottery()
    orders = [
        tuple(each.name for each in STRATEGIES["percentage"](routes, f"call-{number}"))
        for number in range(CALLS)
    ]
    firsts = Counter(order[0] for order in orders)
    pairs = Counter(order[:2] for order in orders)
    # The keys are fixed, so this passes always or never: five standard deviations are allowed.
    for name, weight in WEIGHTS.items():
        expected = CALLS * weight / 100
        assert abs(firsts[name] - expected) <= 5 * (expected * (1 - weight / 100)) ** 0.5
        for other, second in WEIGHTS.items():
            if weight and second and other != name:
                expected = CALLS * weight / 100 * second / (100 - weight)
                assert abs(pairs[name, other] - expected) <= 5 * expected**0.5


def test_weight_0_is_the_last_resort_the_cheapest_first() -> None:
    for number in range(200):
        order = [each.name for each in STRATEGIES["percentage"](lottery(), f"call-{number}")]
        assert order[3:] == ["RG_5", "RG_4"]


def test_only_weights_of_0_are_an_order_by_cost() -> None:
    routes = [each._replace(weight=0) for each in lottery()]
    names = [each.name for each in STRATEGIES["percentage"](routes, "call-1")]
    assert names == [each.name for each in STRATEGIES["least-cost"](routes, "")]


def test_a_long_list_is_drawn_to_its_end() -> None:
    routes = [route(f"RG_{number}", "44", CHEAP) for number in range(1, 31)]
    order = list(STRATEGIES["percentage"](routes, "call-1"))
    assert sorted(order) == sorted(routes)


# ------------------------------------------------------------------ margins


@given(
    st.integers(0, 10**12),
    st.integers(-100_000_000, 1_000_000),
    st.integers(1, 10**14),
    st.integers(0, 10**13),
)
def test_what_may_be_spent_is_exactly_what_leaves_the_margin(
    sold_micros: int, minimum_ppm: int, exchange_e10: int, cost_micros: int
) -> None:
    sold, cost = sold_micros * exchange_e10, cost_micros * 10**10
    kept = cost_micros <= most_micros(sold_micros, minimum_ppm, exchange_e10)
    assert kept == ((sold - cost) * 10**6 >= minimum_ppm * sold)
    if sold:
        left = margin_ppm(sold, cost)
        assert left is not None
        assert kept == (left >= minimum_ppm)


def test_what_is_sold_at_nothing_has_no_margin_and_may_cost_nothing() -> None:
    assert margin_ppm(0, 5) is None
    assert most_micros(0, -500_000) == 0
