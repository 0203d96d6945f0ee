"""Which way out: the routes that one call is offered, in trial order.

Candidates are the outbound resource groups attached to the rate group of the chain's
topmost account, the one that buys from the admin. The rate group's strategy orders them.

What is the same for all numbers of a prefix (prices, their order) is found out once and
kept, so that fifty providers cost a call no more than two; `consider` says of one route
what decides, and is what the kept choice must agree with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.charging.call import Dial, Offer, Price, apply_rate
from aaa_server.charging.choice import Candidate, Choice, dial_of
from aaa_server.charging.numbers import Blocked, Rule, translate
from aaa_server.rating.lcr import (
    BY_CALL,
    REFERENCE_CALL_SECONDS,
    STRATEGIES,
    Route,
    margin_ppm,
    most_micros,
)
from aaa_server.rating.money import EXCHANGE_SCALE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from aaa_server.charging.catalogue import Attachment, Catalogue, RateGroup, ResourceGroup
    from aaa_server.charging.ledger import Ledger

# Callers do not wait for more, and each stands on the call's row and in its answer.
ROUTES_MAX = 5
# Of a long list so many are kept: when some are busy or lose money, others follow.
CANDIDATES_HELD_MAX = 3 * ROUTES_MAX


class Sale:
    """What the topmost account pays the admin for the call, in `currency`."""

    def __init__(self, price: Price, currency: str) -> None:
        self.price = price
        self.currency = currency


class Wish:
    """What is asked of the routes: where to, when, for which call, over which one only.

    `wanted` is "RG_21", or '' for any. `sale` None: whatever the call is sold at, as it has
    taken place already.
    """

    def __init__(
        self,
        called: str,
        at: datetime,
        key: str,
        wanted: str = "",
        sale: Sale | None = None,
    ) -> None:
        self.called = called
        self.at = at
        self.key = key
        self.wanted = wanted
        self.sale = sale


class Limits:
    """What one call's price leaves of the routes.

    `most_micros` is the most they may cost, None when no margin is asked for; `forced_id` the
    only one allowed, 0: any.
    """

    def __init__(self, most_micros: int | None, forced_id: int) -> None:
        self.most_micros = most_micros
        self.forced_id = forced_id


def offers_for(group: RateGroup, wish: Wish, ledger: Ledger) -> tuple[Offer, ...]:
    """The routes to try, best first; none when no resource group can take the call.

    Notes in the ledger those that were not offered because too little would be left of
    the price.
    """
    limits = limits_of(group, wish, ledger)
    if wish.wanted or limits.forced_id:
        choice = _find_out(group, _only(group, wish, limits), wish, ledger)
    else:
        choice = _choice(group, wish, ledger, held_max=CANDIDATES_HELD_MAX)
    offers, lossy = _offered(_in_order(group, choice, wish), limits, wish, ledger)
    if choice.more and len(offers) < ROUTES_MAX:
        choice = _choice(group, wish, ledger, held_max=len(group.routes))
        offers, lossy = _offered(_in_order(group, choice, wish), limits, wish, ledger)
    for resource_group_id in lossy:
        key = (group.rate_group_id, resource_group_id)
        ledger.margin_refused[key] = ledger.margin_refused.get(key, 0) + 1
    return tuple(offers)


def no_route_text(group: RateGroup, wish: Wish, ledger: Ledger) -> str:
    """Why `offers_for` has found nothing, for the log and the operator."""
    if wish.sale is not None and group.minimum_margin_ppm is not None:
        limits = Limits(None, limits_of(group, wish, ledger).forced_id)
        choice = _find_out(group, _only(group, wish, limits), wish, ledger)
        if any(_barred(one, limits, wish, ledger) is None for one in choice.candidates):
            return "no route to this number leaves the minimum margin"
    return "no route to this number"


def limits_of(group: RateGroup, wish: Wish, ledger: Ledger) -> Limits:
    """What the price that the call is sold at leaves of the routes."""
    sale = wish.sale
    if sale is None:
        return Limits(None, 0)
    forced = group.tariff.forced
    forced_id = forced.get(sale.price.rate_id, 0) if forced else 0
    if group.minimum_margin_ppm is None:
        return Limits(None, forced_id)
    catalogue = ledger.catalogue
    exchange_e10 = catalogue.exchange_e10(sale.currency, catalogue.admin_currency, wish.at)
    if exchange_e10 is None:
        return Limits(-1, forced_id)  # a margin that nobody can know is not kept
    sold_micros = sale.price.terms.cost_micros(REFERENCE_CALL_SECONDS)
    return Limits(most_micros(sold_micros, group.minimum_margin_ppm, exchange_e10), forced_id)


def margin_of(route: Route, wish: Wish, ledger: Ledger) -> int | None:
    """What the reference call over `route` leaves of its price, in ppm; None: nobody can say."""
    if wish.sale is None:
        return None
    catalogue = ledger.catalogue
    exchange_e10 = catalogue.exchange_e10(wish.sale.currency, catalogue.admin_currency, wish.at)
    if exchange_e10 is None:
        return None
    sold_micros = wish.sale.price.terms.cost_micros(REFERENCE_CALL_SECONDS)
    return margin_ppm(sold_micros * exchange_e10, route.cost_micros * EXCHANGE_SCALE)


def consider(
    attachment: Attachment, group: RateGroup, wish: Wish, ledger: Ledger
) -> tuple[Route | None, str]:
    """The route over this resource group where it has a price, and why it is out ('' if not)."""
    if not attachment.group.active:
        return None, "suspended"
    route = _route(attachment, wish, ledger)
    if isinstance(route, str):
        return None, route
    candidate = _candidate(attachment.group, route, ledger)
    return route, _barred(candidate, limits_of(group, wish, ledger), wish, ledger) or ""


def busy(group: ResourceGroup, at: datetime, ledger: Ledger) -> bool:
    """Whether a channel or calls-per-second limit keeps another call out."""
    return _busy(group.resource_group_id, group.max_calls, group.calls_per_second, at, ledger)


def unix_second(at: datetime) -> int:
    """The whole second since 1970 that `at` lies in."""
    return int(at.timestamp())


def offer_over(group: ResourceGroup, wish: Wish, ledger: Ledger) -> Offer | None:
    """This group as a route whatever its limits: it carried the call. None: it has no rate."""
    if group.tariff is None:
        return None
    rate = group.tariff.rate_for(wish.called, wish.at)
    if rate is None or _provider_exchange(group, wish.at, ledger) is None:
        return None
    route = Route(group.resource_group_id, group.name, group.account_id, rate, 0)
    number = translate(_rules(group.resource_group_id, ledger), wish.called)
    dial = _dial(group, route, wish.at, ledger)
    return dial.offer(wish.called if isinstance(number, Blocked) else number)


# ------------------------------------------------------------------ one call


def _in_order(group: RateGroup, choice: Choice, wish: Wish) -> Iterable[Candidate]:
    if group.strategy not in BY_CALL:
        return choice.candidates
    by_id = choice.by_id
    order = STRATEGIES[group.strategy](choice.routes, wish.key)
    return (by_id[one.resource_group_id] for one in order)


def _offered(
    candidates: Iterable[Candidate], limits: Limits, wish: Wish, ledger: Ledger
) -> tuple[list[Offer], list[int]]:
    """The offers, and the resource groups left out for their margin alone."""
    offers: list[Offer] = []
    lossy: list[int] = []
    most = limits.most_micros
    for one in candidates:
        route = one.route
        if _busy(route.resource_group_id, one.max_calls, one.calls_per_second, wish.at, ledger):
            continue
        number = _number(one, wish)
        if number is None:
            continue
        if most is not None and route.cost_micros > most:
            lossy.append(route.resource_group_id)
            continue
        dial = one.dial
        if dial is None:
            group = ledger.catalogue.resource_groups[route.resource_group_id]
            dial = one.dial = _dial(group, route, wish.at, ledger)
        offers.append(dial.offer(number))
        if len(offers) == ROUTES_MAX:
            break
    return offers, lossy


def _barred(candidate: Candidate, limits: Limits, wish: Wish, ledger: Ledger) -> str | None:
    """What of this call keeps it off the route, or None."""
    route = candidate.route
    if wish.wanted and wish.wanted != route.name:
        return f"{wish.wanted} was asked for"
    if limits.forced_id and limits.forced_id != route.resource_group_id:
        forced = ledger.catalogue.resource_groups.get(limits.forced_id)
        return f"the rate row has {forced.name if forced else 'another route'} used alone"
    if _busy(
        route.resource_group_id,
        candidate.max_calls,
        candidate.calls_per_second,
        wish.at,
        ledger,
    ):
        return "its channels or calls per second are used up"
    if _number(candidate, wish) is None:
        return "a number rule keeps this number from it"
    if limits.most_micros is not None and route.cost_micros > limits.most_micros:
        return "less than the minimum margin would be left"
    return None


def _number(candidate: Candidate, wish: Wish) -> str | None:
    """The number as the rules of this way out make it; None: they block it."""
    if not candidate.rules:
        return wish.called
    number = translate(candidate.rules, wish.called)
    return None if isinstance(number, Blocked) else number


def _busy(
    group_id: int, max_calls: int, calls_per_second: int, at: datetime, ledger: Ledger
) -> bool:
    if not max_calls and not calls_per_second:
        return False
    use = ledger.group_uses[group_id]
    if max_calls and use.channels >= max_calls:
        return True
    return bool(
        calls_per_second
        and use.second_at == unix_second(at)
        and use.second_calls >= calls_per_second
    )


# ------------------------------------------------------------------ all calls of a prefix


def _choice(group: RateGroup, wish: Wish, ledger: Ledger, *, held_max: int) -> Choice:
    """The candidates for the number, from what was kept where that holds still.

    At least the first `held_max` of them are there.
    """
    catalogue = ledger.catalogue
    if catalogue.prefixes is None:
        return _find_out(group, group.routes, wish, ledger)
    prefix, changes = catalogue.prefixes.longest(wish.called)
    routing = catalogue.routing_of(group)
    choice = catalogue.choices.find(routing, prefix, changes, wish.at)
    if choice is None or (choice.more and len(choice.candidates) < held_max):
        choice = _find_out(group, group.routes, wish, ledger, held_max=held_max, changes=changes)
        catalogue.choices.keep(routing, prefix, choice)
    return choice


def _only(group: RateGroup, wish: Wish, limits: Limits) -> list[Attachment]:
    """What is left of the attachments when one is asked for, or forced."""
    return [
        attachment
        for attachment in group.routes
        if wish.wanted in ("", attachment.group.name)
        and limits.forced_id in (0, attachment.group.resource_group_id)
    ]


def _find_out(
    group: RateGroup,
    attachments: Sequence[Attachment],
    wish: Wish,
    ledger: Ledger,
    *,
    held_max: int = 0,
    changes: int = 0,
) -> Choice:
    """Ask every price list, and put the routes in order; `held_max` 0: hold all of them."""
    found = [_route(one, wish, ledger) for one in attachments if one.group.active]
    routes = [route for route in found if isinstance(route, Route)]
    held = routes
    # Where each call has an order of its own, all of them are needed to make it.
    if group.strategy not in BY_CALL:
        held = list(STRATEGIES[group.strategy](routes, wish.key))[: held_max or None]
    catalogue = ledger.catalogue
    begins, ends = _stays(attachments, wish, catalogue)
    groups = catalogue.resource_groups
    return Choice(
        tuple([_candidate(groups[one.resource_group_id], one, ledger) for one in held]),
        len(held) < len(routes),
        changes,
        begins,
        ends,
    )


def _route(attachment: Attachment, wish: Wish, ledger: Ledger) -> Route | str:
    """The route over this resource group by its price, or why it has none."""
    group = attachment.group
    assert group.tariff is not None
    rate = group.tariff.rate_for(wish.called, wish.at)
    if rate is None:
        return "no termination rate for this number"
    if rate.blocked:
        return f"prefix {rate.prefix} is blocked"
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
        catalogue.qualities.get(group.resource_group_id),
    )


def _candidate(group: ResourceGroup, route: Route, ledger: Ledger) -> Candidate:
    rules = _rules(group.resource_group_id, ledger)
    return Candidate(route, group.max_calls, group.calls_per_second, rules)


def _stays(
    attachments: Sequence[Attachment], wish: Wish, catalogue: Catalogue
) -> tuple[datetime | None, datetime | None]:
    """The span around the wish's instant in which no price of a route begins or ends."""
    begins: datetime | None = None
    ends: datetime | None = None
    pairs: set[tuple[str, str]] = set()
    spans = []
    for attachment in attachments:
        tariff = attachment.group.tariff
        if not attachment.group.active or tariff is None:
            continue
        spans.append(tariff.stays(wish.called, wish.at))
        pairs.add((tariff.currency, catalogue.admin_currency))
        pairs.add((tariff.currency, attachment.group.account_currency))
    spans += [catalogue.exchange_stays(*pair, wish.at) for pair in pairs if pair[0] != pair[1]]
    for since, until in spans:
        if since is not None and (begins is None or begins < since):
            begins = since
        if until is not None and (ends is None or until < ends):
            ends = until
    return begins, ends


def _rules(resource_group_id: int, ledger: Ledger) -> tuple[Rule, ...]:
    rules = ledger.catalogue.number_rules.called
    return rules.get(("resource-group", resource_group_id), ()) if rules else ()


def _provider_exchange(group: ResourceGroup, at: datetime, ledger: Ledger) -> int | None:
    assert group.tariff is not None
    return ledger.catalogue.exchange_e10(group.tariff.currency, group.account_currency, at)


def _dial(group: ResourceGroup, route: Route, at: datetime, ledger: Ledger) -> Dial:
    """How the group is dialled, and at which price of its provider's."""
    assert group.tariff is not None
    exchange_e10 = _provider_exchange(group, at, ledger)
    assert exchange_e10 is not None  # such routes were dropped before
    rate = route.rate
    price = apply_rate(rate, group.tariff.currency, markup_ppm=0, exchange_e10=exchange_e10)
    return dial_of(
        group.gateway,
        strip=group.strip + rate.strip,
        prepend=group.prepend + rate.prepend,
        route=route,
        price=price,
    )
