"""The ways out for a call, and the orders in which they may be tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.rate import Rate

if TYPE_CHECKING:
    from collections.abc import Callable


# Providers are compared by what a call of this length is expected to cost, so connect
# fees and billing steps count as well as the price: a usual average call duration.
REFERENCE_CALL_SECONDS = 180


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


def least_cost(routes: list[Route], _call_key: str) -> list[Route]:
    """Cheapest reference call first; then priority, then name."""
    return sorted(routes, key=_by_cost)


def longest_prefix(routes: list[Route], _call_key: str) -> list[Route]:
    """Most precise price first; then the cheapest reference call, priority, name."""
    return sorted(routes, key=_by_prefix)


# A strategy gets the routes and a key that is the same for all attempts of one call.
STRATEGIES: dict[str, Callable[[list[Route], str], list[Route]]] = {
    "least-cost": least_cost,
    "longest-prefix": longest_prefix,
}


def _by_cost(route: Route) -> tuple[int, int, str]:
    return (route.cost_micros, route.priority, route.name)


def _by_prefix(route: Route) -> tuple[int, int, int, str]:
    return (-len(route.rate.prefix), *_by_cost(route))
