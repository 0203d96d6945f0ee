"""The orders of routes, as a table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aaa_server.rating.lcr import REFERENCE_CALL_SECONDS, STRATEGIES, Route
from aaa_server.rating.rate import Rate, Terms

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
