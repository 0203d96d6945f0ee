"""The ways out for a call, and the orders in which they may be tried.

An order is made of what a call is expected to cost over each route, and never of chance:
where shares decide, the call's own key is the dice, so the same call has the same order.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.money import EXCHANGE_SCALE, PPM, div_floor
from aaa_server.rating.rate import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

# Providers are compared by what a call of this length is expected to cost, so connect
# fees and billing steps count as well as the price: a usual average call duration.
REFERENCE_CALL_SECONDS = 180

# Fewer attempts than this say nothing about a route. At 30 the answer-seizure ratio of a
# route that is as good as the others is within 18 points of theirs, 19 times of 20.
QUALITY_ATTEMPTS_MIN = 30

_QUALITY_SCALE = 10**6
_DRAW_OCTETS = 8  # so many that no share is off by more than 2^-40 of it
_BLOCK_OCTETS = 64  # BLAKE2b gives at most so many at once


class Quality(NamedTuple):
    """What became of the calls that were tried over a route in the last hours."""

    attempts: int
    answered: int
    talk_seconds: int

    @property
    def is_measured(self) -> bool:
        """Whether there were enough attempts to say anything."""
        return self.attempts >= QUALITY_ATTEMPTS_MIN


class Route(NamedTuple):
    """One outbound resource group that can take the call.

    `rate` is the provider's row; `cost_micros` is the reference call's price by it, in the
    one currency in which all routes of a call are compared. The lower `priority` comes
    first, `weight` is a share.
    """

    resource_group_id: int
    name: str
    provider_id: int
    rate: Rate
    cost_micros: int
    priority: int = 0
    weight: int = 1
    quality: Quality | None = None


def least_cost(routes: Sequence[Route], _call_key: str) -> list[Route]:
    """Cheapest reference call first; then priority, the rate row's priority, name."""
    return sorted(routes, key=_by_cost)


def longest_prefix(routes: Sequence[Route], _call_key: str) -> list[Route]:
    """Most precise price first; then the cheapest reference call, priority, name."""
    return sorted(routes, key=_by_prefix)


def priority(routes: Sequence[Route], _call_key: str) -> list[Route]:
    """Lowest priority of the attachment first; then of the rate row, then cost, name."""
    return sorted(routes, key=_by_priority)


def percentage(routes: Sequence[Route], call_key: str) -> Iterator[Route]:
    """By lot: each place goes to one of those left, with a chance in proportion to its weight.

    Weight 0 comes after all others, the cheapest first. The lots are drawn as they are asked
    for, so a long list costs no more than its first places.
    """
    left = [route for route in routes if route.weight]
    weights = [route.weight for route in left]
    total = sum(weights)
    lots = b""
    block = 0
    while left:
        if not lots:
            lots = _lots(call_key, block)
            block += 1
        lot = int.from_bytes(lots[:_DRAW_OCTETS], "big") % total
        lots = lots[_DRAW_OCTETS:]
        place = 0
        for weight in weights:
            if lot < weight:
                break
            lot -= weight
            place += 1
        total -= weights.pop(place)
        yield left.pop(place)
    yield from sorted([route for route in routes if not route.weight], key=_by_cost)


def quality(routes: Sequence[Route], call_key: str) -> list[Route]:
    """Least cost for a second of talk that an attempt brings: cost / (ASR x ACD).

    A route with too few attempts counts as good as those measured are together, so its
    cost alone decides; without any that is measured, the order is that of least cost.
    """
    measured = [
        route.quality for route in routes if route.quality is not None and route.quality.is_measured
    ]
    average = Quality(
        sum([each.attempts for each in measured]),
        sum([each.answered for each in measured]),
        sum([each.talk_seconds for each in measured]),
    )
    if not measured:
        return least_cost(routes, call_key)
    return [route for _, _, route in sorted([_by_talk(route, average) for route in routes])]


# A strategy gets the routes and a key that is the same for all attempts of one call.
STRATEGIES: dict[str, Callable[[Sequence[Route], str], Iterable[Route]]] = {
    "least-cost": least_cost,
    "longest-prefix": longest_prefix,
    "priority": priority,
    "percentage": percentage,
    "quality": quality,
}
# Of these each call has an order of its own; the others' is the same for all calls.
BY_CALL = frozenset({"percentage"})


def most_micros(
    sold_micros: int, minimum_margin_ppm: int, exchange_e10: int = EXCHANGE_SCALE
) -> int:
    """The most that a call may cost that is sold at `sold_micros`, so that the margin is kept.

    The margin is a share of the selling price; below 0 it is a loss that is accepted.
    `exchange_e10` turns the currency sold in into the one bought in. Rounded down.
    """
    return div_floor(sold_micros * exchange_e10 * (PPM - minimum_margin_ppm), PPM * EXCHANGE_SCALE)


def margin_ppm(sold: int, cost: int) -> int | None:
    """What is left of the selling price, as a share of it, rounded down; None: sold at 0.

    Both are in the same unit, whichever it is.
    """
    return div_floor((sold - cost) * PPM, sold) if sold else None


def _by_cost(route: Route) -> tuple[int, int, int, str]:
    return (route.cost_micros, route.priority, route.rate.priority, route.name)


def _by_prefix(route: Route) -> tuple[int, int, int, int, str]:
    return (-len(route.rate.prefix), *_by_cost(route))


def _by_priority(route: Route) -> tuple[int, int, int, str]:
    return (route.priority, route.rate.priority, route.cost_micros, route.name)


def _by_talk(
    route: Route, average: Quality
) -> tuple[tuple[bool, int], tuple[int, int, int, str], Route]:
    found = route.quality if route.quality is not None and route.quality.is_measured else average
    talk = found.talk_seconds
    if not talk:  # nobody ever talked: behind all where somebody did
        return (True, 0), _by_cost(route), route
    worth = div_floor(route.cost_micros * found.attempts * _QUALITY_SCALE, talk)
    return (False, worth), _by_cost(route), route


def _lots(call_key: str, block: int) -> bytes:
    text = call_key.encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=_BLOCK_OCTETS, salt=block.to_bytes(16, "big")).digest()
