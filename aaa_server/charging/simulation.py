"""What a call would do, step by step, as told by the functions that decide it.

The answer is that of `authorize` itself, the charges are those of `stop` itself; the
steps ask the same functions about one account, price or route at a time. Works on a
ledger that is thrown away.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.charging.account_code import RESOLVERS, Found, whose
from aaa_server.charging.authorize import (
    affordable,
    authorize,
    called_number,
    limits,
    longest_call,
    reauthorize,
    standing,
)
from aaa_server.charging.call import Call, Level, Offer
from aaa_server.charging.catalogue import Attachment, Inbound, RateGroup
from aaa_server.charging.inbound_call import on_net_offer
from aaa_server.charging.ledger import Charge, Profile
from aaa_server.charging.metering import Metered
from aaa_server.charging.pricing import price_levels
from aaa_server.charging.requests import Authorize, Granted, Reauthorize, Refused, Stop
from aaa_server.charging.routing import Sale, Wish, consider, margin_of, offers_for
from aaa_server.charging.settle import stop
from aaa_server.rating.lcr import BY_CALL, Route
from aaa_server.rating.money import PPM, div_floor
from aaa_server.rating.rate import Rate

if TYPE_CHECKING:
    from aaa_server.charging.ledger import Account, Ledger


class Tried(NamedTuple):
    """A way to find the account, by its name on the call; None: it does not apply."""

    rule: str
    outcome: Found | Refused | None


class Payer(NamedTuple):
    """One level of the chain before the call: whether it may pay, at which price, how long.

    `own` is whether the row is the account's own. `seconds` and `level` are None where an
    earlier step has refused.
    """

    profile: Profile
    balance_micros: int
    reserved_micros: int
    available_micros: int
    channels: int
    standing: Refused | None
    limit: Refused | None
    group: RateGroup | None
    rate: Rate | None
    own: bool
    level: Level | Refused
    seconds: int | Refused | None


class WayOut(NamedTuple):
    """An attached resource group: the route where it has a price, and its place in trial order.

    `out` says why it cannot be used; without that and without place and offer it is one more
    than are offered. `margin_ppm` is what the reference call would leave of what it is sold
    at, None where nobody can say; `share_ppm` its part of all weights that can be used.
    """

    attachment: Attachment
    route: Route | None
    out: str
    place: int | None
    offer: Offer | None
    margin_ppm: int | None
    share_ppm: int | None


class Simulation(NamedTuple):
    """What was found, in the order in which it is looked at, and what came of it.

    `within` is the way to a number of our own, which is the only one then; there are
    `ways_out` else.

    `call` is the call as it would be on record: with `charges` (and `more`, the last answer
    to a switch that asks again slice by slice) when it was to last some seconds. `reserved`
    is what the first answer holds, one number a level.
    """

    request: Authorize
    tried: tuple[Tried, ...]
    found: Found | Refused
    called: str
    inbound: Inbound | None
    inbound_channels: int
    inbound_limit: Refused | None
    payers: tuple[Payer, ...]
    within: Offer | None
    ways_out: tuple[WayOut, ...]
    longest_seconds: int
    answer: Granted | Refused
    reserved: tuple[int, ...]
    more: Granted | Refused | None
    call: Call
    charges: tuple[Charge, ...]


def simulate(request: Authorize, ledger: Ledger, *, seconds: int | None = None) -> Simulation:
    """Authorise `request` and, where `seconds` are given, let it talk and stop.

    `ledger` is loaded for the request and for a Stop of it, and holds no such call.
    """
    tried = tuple(_try_rules(request, ledger))
    found = whose(request.origin, request.called, ledger, request.at)
    chain = [] if isinstance(found, Refused) else ledger.chain_of(found.account_id)
    inbound = ledger.catalogue.inbound(request.origin, request.called)
    called = _called(request, inbound, found, ledger)
    longest = longest_call(request, chain[0].profile) if chain else request.maximum_seconds
    inbound_channels = _channels(inbound, ledger)
    inbound_limit = limits([], inbound, request.at, ledger)
    within = on_net_offer(chain, called, request.at, ledger) if chain else None
    on_net = within is not None
    payers = tuple(
        [_payer(account, called, longest, request, ledger, on_net=on_net) for account in chain]
    )
    wish = Wish(called, request.at, request.session_key, request.wanted_route, _sale(payers))
    exits = () if on_net else ways_out(chain, wish, ledger)
    answer = authorize(request, ledger)
    call = ledger.calls[request.client_id, request.session_key]
    reserved = call.reserved
    more = None
    if seconds is not None and isinstance(answer, Granted):
        more = _talk(request, answer, seconds, ledger)
    return Simulation(
        request,
        tried,
        found,
        called,
        inbound,
        inbound_channels,
        inbound_limit,
        payers,
        within,
        exits,
        longest,
        answer,
        reserved,
        more,
        call,
        tuple(ledger.charges),
    )


def ways_out(chain: list[Account], wish: Wish, ledger: Ledger) -> tuple[WayOut, ...]:
    """All that is attached to the rate group of the chain's topmost account; offered ones first."""
    group = _group_of(chain[-1], ledger) if chain else None
    if group is None:
        return ()
    places = {
        offer.resource_group_id: (place, offer)
        for place, offer in enumerate(offers_for(group, wish, ledger), start=1)
    }
    considered = [consider(attachment, group, wish, ledger) for attachment in group.routes]
    weights = sum(route.weight for route, out in considered if route is not None and not out)
    exits = []
    for attachment, (route, out) in zip(group.routes, considered, strict=True):
        place, offer = places.get(attachment.group.resource_group_id, (None, None))
        margin = None if route is None else margin_of(route, wish, ledger)
        share = None
        if group.strategy in BY_CALL and weights and route is not None and not out:
            share = div_floor(route.weight * PPM, weights)
        exits.append(WayOut(attachment, route, out, place, offer, margin, share))
    return tuple(sorted(exits, key=lambda way: (way.place is None, way.place or 0)))


def _called(
    request: Authorize, inbound: Inbound | None, found: Found | Refused, ledger: Ledger
) -> str:
    """The number that is priced; as it came where a rule blocks it, or nobody is known."""
    account_id = 0 if isinstance(found, Refused) else found.account_id
    called = called_number(request, inbound, account_id, ledger)
    if not isinstance(called, Refused):
        return called
    return request.called if inbound is None else inbound.without_prefix(request.called)


def _sale(payers: tuple[Payer, ...]) -> Sale | None:
    """What the topmost payer pays, where it has a price."""
    if not payers or isinstance(payers[-1].level, Refused):
        return None
    return Sale(payers[-1].level.price, payers[-1].profile.currency)


def _try_rules(request: Authorize, ledger: Ledger) -> list[Tried]:
    tried = []
    for resolve in RESOLVERS:
        outcome = resolve(request.origin, request.called, ledger)
        rule = resolve.__name__.removeprefix("by_").replace("_", "-")
        tried.append(Tried(rule, outcome))
        if outcome is not None:
            break
    return tried


def _channels(inbound: Inbound | None, ledger: Ledger) -> int:
    return 0 if inbound is None else ledger.group_uses[inbound.group.resource_group_id].channels


def _payer(
    account: Account,
    called: str,
    longest: int,
    request: Authorize,
    ledger: Ledger,
    *,
    on_net: bool,
) -> Payer:
    profile = account.profile
    group = _group_of(account, ledger)
    rate = None
    own = False
    if group is not None:
        rate = group.tariff.rate_for(called, request.at, profile.account_id)
        own = any(row is rate for row in group.tariff.rates(profile.account_id))
    metered = Metered(called, request.at)
    priced = price_levels([account], called, request.at, ledger, on_net=on_net)
    level = priced if isinstance(priced, Refused) else priced[0]
    return Payer(
        profile,
        account.balance_micros,
        account.reserved_micros,
        account.available_micros,
        account.channels,
        standing([account], request.at),
        limits([account], None, request.at, ledger),
        group,
        rate,
        own,
        level,
        None
        if isinstance(level, Refused)
        else affordable([account], (level,), longest, metered, ledger),
    )


def _group_of(account: Account, ledger: Ledger) -> RateGroup | None:
    return ledger.catalogue.rate_groups.get(account.profile.rate_group_id or 0)


def _talk(
    request: Authorize, granted: Granted, seconds: int, ledger: Ledger
) -> Granted | Refused | None:
    """Ask for more where the first slice does not last, then stop over the first route."""
    more = None
    if seconds > granted.seconds and not granted.final:
        more = reauthorize(
            Reauthorize(
                request.client_id,
                request.session_key,
                request.at + timedelta(seconds=granted.seconds),
                granted.seconds,
                step=1,
                slice_seconds=seconds - granted.seconds,
                maximum_seconds=request.maximum_seconds,
            ),
            ledger,
        )
    stop(
        Stop(
            request.client_id,
            request.session_key,
            request.at + timedelta(seconds=seconds),
            1000 * seconds,
            request.origin,
            request.called,
            unauthorized=False,
            route=granted.routes[0].name if granted.routes else "",
        ),
        ledger,
    )
    return more
