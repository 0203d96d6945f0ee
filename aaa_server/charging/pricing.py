"""What each payer of a call pays: the row of its price list, and what is added to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aaa_server.charging.call import Level, Price, apply_rate
from aaa_server.charging.choice import KeptPrice
from aaa_server.charging.requests import Refusal, Refused
from aaa_server.rating.money import EXCHANGE_SCALE, div_half_up

if TYPE_CHECKING:
    from datetime import datetime

    from aaa_server.charging.catalogue import Catalogue, RateGroup
    from aaa_server.charging.ledger import Account, Ledger, Profile
    from aaa_server.rating.rate import Terms


def price_levels(
    chain: list[Account], called: str, at: datetime, ledger: Ledger, *, on_net: bool = False
) -> tuple[Level, ...] | Refused:
    """What each payer pays for `called` when it is authorised at `at`.

    `on_net`: the number is our own, which price lists may have another price for.
    """
    catalogue = ledger.catalogue
    levels = []
    for account in chain:
        profile = account.profile
        group = catalogue.rate_groups.get(profile.rate_group_id or 0)
        if group is None:
            return Refused(Refusal.NO_RATE, "no rate group, so no rate for this number")
        if on_net and group.on_net is not None:
            price = _price_of_row(group, profile, called, at, catalogue, group.on_net)
        else:
            price = _usual_price(group, profile, called, at, catalogue)
        if isinstance(price, Refused):
            return price
        levels.append(Level(profile.account_id, price))
    return tuple(levels)


def _usual_price(
    group: RateGroup, profile: Profile, called: str, at: datetime, catalogue: Catalogue
) -> Price | Refused:
    """The price from what was kept of the number's prefix, if it is the same for all payers."""
    tariff = group.tariff
    prefixes = catalogue.prefixes
    # What is converted changes with the exchange rate; an account's own rows are its own.
    if prefixes is None or tariff.currency != profile.currency or tariff.owns(profile.account_id):
        return _price_of_row(group, profile, called, at, catalogue)
    prefix, changes = prefixes.longest(called)
    kept = catalogue.prices.find(group.rate_group_id, prefix, changes, at)
    if kept is not None:
        return kept.price
    price = _price_of_row(group, profile, called, at, catalogue)
    if isinstance(price, Price):
        begins, ends = tariff.stays(called, at)
        one = KeptPrice(price, changes, begins, ends)
        catalogue.prices.keep(group.rate_group_id, prefix, one)
    return price


def _price_of_row(
    group: RateGroup,
    profile: Profile,
    called: str,
    at: datetime,
    catalogue: Catalogue,
    terms: Terms | None = None,
) -> Price | Refused:
    """The price by the row in force, with these `terms` instead of its own where they are given."""
    rate = group.tariff.rate_for(called, at, profile.account_id)
    if rate is None:
        return Refused(Refusal.NO_RATE, "no rate for this number")
    if rate.blocked:
        return Refused(Refusal.BLOCKED, "this number is blocked")
    if terms is not None:
        rate = replace(rate, terms=terms)
    currency = group.tariff.currency
    exchange_e10 = catalogue.exchange_e10(currency, profile.currency, at)
    if exchange_e10 is None:
        return Refused(Refusal.NO_RATE, f"no exchange rate from {currency} to {profile.currency}")
    return apply_rate(rate, currency, markup_ppm=group.markup_ppm, exchange_e10=exchange_e10)


def with_surcharge(
    levels: tuple[Level, ...], caller: Profile, access_number: str, ledger: Ledger
) -> tuple[Level, ...]:
    """The card's surcharge on top of its connect fee, when it is used over an access number."""
    did = ledger.catalogue.dids.get(access_number)
    if not caller.surcharge_micros or did is None or not did.access:
        return levels
    # The card's surcharge is in its own currency, the fee it is added to in the price list's.
    exchange_e10 = levels[0].price.terms.exchange_e10
    surcharge = div_half_up(caller.surcharge_micros * EXCHANGE_SCALE, exchange_e10)
    return (with_fee_added(levels[0], surcharge), *levels[1:])


def with_fee_added(level: Level, micros: int) -> Level:
    """`level` with a connect fee higher by `micros`, which are of its price list's currency."""
    price = level.price
    terms = replace(price.terms, connect_fee_micros=price.terms.connect_fee_micros + micros)
    dearer = Price(price.rate_id, price.prefix, price.currency, terms)
    return Level(level.account_id, dearer, level.shares)
