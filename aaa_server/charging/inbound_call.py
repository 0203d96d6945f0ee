"""Calls to numbers of our own inventory: from outside, and from customers of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.charging.call import Level, Offer, Price, make_offer
from aaa_server.charging.did import ring, rings
from aaa_server.charging.numbers import translate_called
from aaa_server.charging.requests import Refusal, Refused
from aaa_server.rating.rate import Terms

if TYPE_CHECKING:
    from datetime import datetime

    from aaa_server.charging.catalogue import Catalogue, Inbound
    from aaa_server.charging.ledger import Account, Ledger
    from aaa_server.charging.requests import Origin

NO_ROW = 0  # the rate of a price that is no row of a price list
ON_NET = "ON-NET"  # the route of a call that stays inside

_FREE = Terms(0)


def did_levels(chain: list[Account], number: str, ledger: Ledger) -> tuple[Level, ...]:
    """What the owner of `number` and each of its resellers pays for a call to it.

    Nobody gets a number without a price at every level, so one that lacks is free.
    """
    did = ledger.catalogue.dids[number]
    return tuple(
        [
            Level(
                account.profile.account_id,
                Price(
                    NO_ROW,
                    number,
                    account.profile.currency,
                    did.prices.get(account.profile.account_id, _FREE),
                ),
            )
            for account in chain
        ]
    )


def did_offer(number: str, at: datetime, ledger: Ledger) -> Offer:
    """Where the call rings, and what the number's provider takes for it."""
    did = ledger.catalogue.dids[number]
    assignment = did.assigned(at)
    assert assignment is not None  # `whose` has found its owner
    name, dial = ring(assignment)
    return make_offer(
        0, name, dial, did.provider_id, Price(NO_ROW, number, did.provider_currency, did.terms)
    )


def on_net_offer(chain: list[Account], called: str, at: datetime, ledger: Ledger) -> Offer | None:
    """The way to a number of our own that stays with us; None: the call goes out.

    Only where the price list of the chain's topmost account has a price for such calls.
    Whether it may ring at present, `out_of_service` tells.
    """
    dids = ledger.catalogue.dids
    if not dids:
        return None
    group = ledger.catalogue.rate_groups.get(chain[-1].profile.rate_group_id or 0)
    did = dids.get(called)
    if did is None or group is None or group.on_net is None:
        return None
    assignment = did.held(at)
    if assignment is None or assignment.kind == "pstn":
        return None
    currency = ledger.catalogue.admin_currency
    return make_offer(0, ON_NET, ring(assignment)[1], 0, Price(NO_ROW, called, currency, _FREE))


def out_of_service(called: str, at: datetime, ledger: Ledger) -> Refused | None:
    """Why the number of our own `called`, which somebody has, does not ring at `at`.

    The caller is not told what its owner owes.
    """
    did = ledger.catalogue.dids[called]
    assignment = did.held(at)
    if assignment is None or rings(did, assignment, at):
        return None
    return Refused(Refusal.NO_ROUTE, "the number called is out of service")


def emergency_number(
    client_id: int, origin: Origin, called: str, account_id: int, catalogue: Catalogue
) -> str:
    """The emergency number that is called; '' when it is none.

    It is one as it came, without the tech prefix of where it comes from, suspended or not, or
    as the rules of all concerned make it; no rule that blocks keeps it from being one.
    `account_id` 0: not known, so the account's own rules are left out.
    """
    emergency = catalogue.emergency
    if called in emergency:
        return called
    rules = catalogue.number_rules.called
    if not emergency or not (rules or called.endswith(tuple(emergency))):
        return ""
    arrival = catalogue.inbound(origin, called)
    number = _meant(client_id, arrival, called, account_id, catalogue)
    # What arrives over a suspended group is nobody's call, but its prefix is one all the same.
    suspended = catalogue.inbound(origin, called, suspended=True)
    if number or suspended is None or suspended == arrival:
        return number
    return _meant(client_id, suspended, called, account_id, catalogue)


def _meant(
    client_id: int, arrival: Inbound | None, called: str, account_id: int, catalogue: Catalogue
) -> str:
    """The emergency number that `called` is where it arrives; '' when it is none."""
    emergency = catalogue.emergency
    group_id = 0
    if arrival is not None:
        called = arrival.without_prefix(called)
        if called in emergency:
            return called
        group_id = arrival.group.resource_group_id
    rules = catalogue.number_rules.called
    made = translate_called(rules, client_id, group_id, account_id, called)
    return made if isinstance(made, str) and made in emergency else ""


def emergency_offers(number: str, ledger: Ledger) -> tuple[Offer, ...]:
    """The way out that an emergency number is given, free; none where the switch knows it."""
    group_id = ledger.catalogue.emergency[number]
    group = ledger.catalogue.resource_groups.get(group_id or 0)
    if group is None:
        return ()
    gateway = group.gateway
    dial = (
        f"{gateway}/{number}"
        if gateway and "{number}" not in gateway
        else (gateway.replace("{number}", number) or number)
    )
    price = Price(NO_ROW, number, group.account_currency, _FREE)
    return (make_offer(group.resource_group_id, group.name, dial, group.account_id, price),)
