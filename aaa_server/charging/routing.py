"""Which way out: the routes that one call is offered, in trial order.

Candidates are the outbound resource groups attached to the rate group of the chain's
topmost account, the one that buys from the admin. The rate group's strategy orders them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.charging.call import Offer, apply_rate
from aaa_server.rating.lcr import REFERENCE_CALL_SECONDS, STRATEGIES, Route
from aaa_server.rating.prefix import dial_number

if TYPE_CHECKING:
    from aaa_server.charging.catalogue import Attachment, RateGroup, ResourceGroup
    from aaa_server.charging.ledger import Ledger
    from aaa_server.rating.rate import Rate

ROUTES_MAX = 8  # more do not fit into one FreeSWITCH attribute, and no caller waits for them


class Wish(NamedTuple):
    """What is asked of the routes: where to, when, for which call, over which one only."""

    called: str
    at: datetime
    key: str
    wanted: str = ""  # "RG_21", or '' for any


def offers_for(group: RateGroup, wish: Wish, ledger: Ledger) -> tuple[Offer, ...]:
    """The routes to try, best first; none when no resource group can take the call."""
    routes = []
    for attachment in group.routes:
        route = consider(attachment, wish, ledger)
        if not isinstance(route, str):
            routes.append(route)
    if len(routes) > 1:
        routes = STRATEGIES[group.strategy](routes, wish.key)[:ROUTES_MAX]
    return tuple([_offer(route, wish, ledger) for route in routes])


def consider(attachment: Attachment, wish: Wish, ledger: Ledger) -> Route | str:
    """The route over this resource group, or why it cannot carry the call."""
    group = attachment.group
    if wish.wanted and wish.wanted != group.name:
        return f"{wish.wanted} was asked for"
    if not group.active:
        return "suspended"
    if busy(group, wish.at, ledger):
        return "its channels or calls per second are used up"
    rate = _termination_rate(group, wish)
    if rate is None:
        return "no termination rate for this number"
    if rate.blocked:
        return f"prefix {rate.prefix} is blocked"
    assert group.tariff is not None
    catalogue = ledger.catalogue
    currency = group.tariff.currency
    exchange_e10 = catalogue.exchange_e10(currency, catalogue.admin_currency, wish.at)
    if exchange_e10 is None or _provider_exchange(group, wish.at, ledger) is None:
        return f"no exchange rate for {currency}"
    compared = apply_rate(rate, currency, markup_ppm=0, exchange_e10=exchange_e10)
    return Route(
        group.resource_group_id,
        group.name,
        group.account_id,
        rate,
        compared.terms.cost_micros(REFERENCE_CALL_SECONDS),
        attachment.priority,
        attachment.weight,
    )


def busy(group: ResourceGroup, at: datetime, ledger: Ledger) -> bool:
    """Whether a channel or calls-per-second limit keeps another call out."""
    if not group.max_calls and not group.calls_per_second:
        return False
    use = ledger.group_uses[group.resource_group_id]
    if group.max_calls and use.channels >= group.max_calls:
        return True
    return bool(
        group.calls_per_second
        and use.second_at == unix_second(at)
        and use.second_calls >= group.calls_per_second
    )


def unix_second(at: datetime) -> int:
    """The whole second since 1970 that `at` lies in."""
    return int(at.timestamp())


def offer_over(group: ResourceGroup, wish: Wish, ledger: Ledger) -> Offer | None:
    """This group as a route whatever its limits: it carried the call. None: it has no rate."""
    rate = _termination_rate(group, wish) if group.tariff is not None else None
    if rate is None:
        return None
    exchange_e10 = _provider_exchange(group, wish.at, ledger)
    if exchange_e10 is None:
        return None
    return _priced(group, rate, dial_string(group, rate, wish.called), exchange_e10)


def dial_string(group: ResourceGroup, rate: Rate, called: str) -> str:
    """What the switch dials: the gateway with the number as the provider wants it."""
    number = dial_number(
        called, strip=group.strip + rate.strip, prepend=group.prepend + rate.prepend
    )
    if "{number}" in group.gateway:
        return group.gateway.replace("{number}", number)
    return f"{group.gateway}/{number}" if group.gateway else number


def _termination_rate(group: ResourceGroup, wish: Wish) -> Rate | None:
    assert group.tariff is not None
    return group.tariff.rate_for(wish.called, wish.at)


def _provider_exchange(group: ResourceGroup, at: datetime, ledger: Ledger) -> int | None:
    assert group.tariff is not None
    return ledger.catalogue.exchange_e10(group.tariff.currency, group.account_currency, at)


def _offer(route: Route, wish: Wish, ledger: Ledger) -> Offer:
    group = ledger.catalogue.resource_groups[route.resource_group_id]
    exchange_e10 = _provider_exchange(group, wish.at, ledger)
    assert exchange_e10 is not None  # `consider` has dropped the others
    return _priced(group, route.rate, dial_string(group, route.rate, wish.called), exchange_e10)


def _priced(group: ResourceGroup, rate: Rate, dial: str, exchange_e10: int) -> Offer:
    assert group.tariff is not None
    applied = apply_rate(rate, group.tariff.currency, markup_ppm=0, exchange_e10=exchange_e10)
    return Offer(group.resource_group_id, group.name, dial, group.account_id, applied)
