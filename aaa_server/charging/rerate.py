"""A call that has ended is priced again, by the price lists as they stand now.

They are asked for the instant at which the call was authorised, so a row that was wrong
is mended by a row that begins in time. Nothing that was posted is changed: one
transaction takes all of it back, and another charges the call anew.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aaa_server.charging.inbound_call import ON_NET
from aaa_server.charging.ledger import Charge, Posting, Transaction
from aaa_server.charging.pricing import price_levels, with_fee_added
from aaa_server.charging.requests import Changed, Refused, Rerate, Rerated
from aaa_server.charging.routing import Wish, offer_over
from aaa_server.charging.settle import PROVIDER, RERATED, UNRATED
from aaa_server.rating.money import EXCHANGE_SCALE, div_half_up

if TYPE_CHECKING:
    from datetime import datetime

    from aaa_server.charging.call import Call, Level, Offer
    from aaa_server.charging.ledger import Ledger
    from aaa_server.rating.rate import Rate


def rerate(request: Rerate, ledger: Ledger) -> Rerated:
    """Charge the call anew where its price has changed; asked again, nothing changes any more.

    Calls to DIDs keep their price: a DID's prices have no history. So does the surcharge of a
    card: what the call was charged is added to today's price.
    """
    call = ledger.numbered.get(request.call_id)
    if call is None:
        return Rerated(request.call_id, "it has not ended, or has no record", ())
    reason = _stays(call, ledger)
    if reason:
        return Rerated(request.call_id, reason, ())
    levels = _levels_now(call, ledger)
    if isinstance(levels, Refused):
        return Rerated(request.call_id, levels.text, ())
    offer, offers = _offer_now(call, ledger)
    charges = _charges(call, levels, offer, ledger)
    changes = [
        Changed(
            charge.account_id,
            charge.level,
            call.charged.get(charge.level, 0),
            charge.amount_micros,
            charge.currency,
        )
        for charge in charges
    ]
    if all(change.before_micros == change.after_micros for change in changes):
        return Rerated(request.call_id, "", ())
    _reverse(call, request.at, ledger)
    call.levels, call.offers = levels, offers
    _post(call, charges, request.at, ledger)
    if RERATED not in call.flags:
        call.flag(RERATED)
    if UNRATED in call.flags:
        call.flags = tuple([flag for flag in call.flags if flag != UNRATED])
    ledger.touch(call)
    return Rerated(request.call_id, "", tuple(changes))


def _stays(call: Call, ledger: Ledger) -> str:
    """Why the call keeps its charges; '' when it may be rated anew."""
    if call.refusal is not None or call.account_id is None or not call.seconds:
        return "nothing was talked"
    if call.called in ledger.catalogue.emergency:
        return "an emergency call"
    if call.found_by == "did":
        return "a call to a DID"
    if _surcharge(call, ledger) is None:
        return "the row that it was priced by is not there"
    return ""


def _surcharge(call: Call, ledger: Ledger) -> int | None:
    """What of the caller's connect fee was its card's surcharge, in its price list's currency.

    A record has the two as one fee: what the row did not ask for was the card's. None where
    that row is not known.
    """
    if not call.levels:
        return 0
    terms = call.levels[0].price.terms
    if not terms.connect_fee_micros:
        return 0
    row = _row_of(call.levels[0], ledger)
    if row is None:
        return None
    of_row = row.terms
    by_the_row = of_row == replace(
        terms,
        connect_fee_micros=of_row.connect_fee_micros,
        markup_ppm=of_row.markup_ppm,
        exchange_e10=of_row.exchange_e10,
    )
    if not by_the_row:  # a price for numbers of our own, which has no fee
        return terms.connect_fee_micros
    return max(0, terms.connect_fee_micros - of_row.connect_fee_micros)


def _row_of(level: Level, ledger: Ledger) -> Rate | None:
    """The row that `level` was priced by, whichever price list the account has now."""
    rate_groups = ledger.catalogue.rate_groups
    profile = ledger.accounts[level.account_id].profile
    present = rate_groups.get(profile.rate_group_id or 0)
    price = level.price
    for group in [present, *rate_groups.values()] if present is not None else rate_groups.values():
        row = group.tariff.row(price.rate_id, price.prefix, level.account_id)
        if row is not None:
            return row
    return None


def _levels_now(call: Call, ledger: Ledger) -> tuple[Level, ...] | Refused:
    """The levels by today's rows; packages and limits stay as they were used."""
    assert call.account_id is not None
    chain = ledger.chain_of(call.account_id)
    on_net = bool(call.offers) and call.offers[0].name == ON_NET
    levels = price_levels(chain, call.called, call.authorized_at, ledger, on_net=on_net)
    if isinstance(levels, Refused):
        return levels
    surcharge = _surcharge(call, ledger)
    if surcharge:
        levels = (_with_surcharge(levels[0], surcharge, call.levels[0]), *levels[1:])
    if len(call.levels) != len(levels):
        return levels
    return tuple(
        [
            level.with_shares(before.shares)
            for level, before in zip(levels, call.levels, strict=True)
        ]
    )


def _with_surcharge(level: Level, micros: int, before: Level) -> Level:
    """`level` with the surcharge of `before`, which was `micros` of the list of those days."""
    exchange_e10, then_e10 = level.price.terms.exchange_e10, before.price.terms.exchange_e10
    if exchange_e10 != then_e10:  # the card's own currency is where it stays the same
        of_card = div_half_up(micros * then_e10, EXCHANGE_SCALE)
        micros = div_half_up(of_card * EXCHANGE_SCALE, exchange_e10)
    return with_fee_added(level, micros)


def _offer_now(call: Call, ledger: Ledger) -> tuple[Offer | None, tuple[Offer, ...]]:
    """The route that answered at its price now, and the call's offers with it in its place."""
    group = ledger.catalogue.resource_groups.get(call.resource_group_out_id or 0)
    if group is None or call.provider_id != group.account_id:
        return None, call.offers
    wish = Wish(call.called, call.authorized_at, call.session_key)
    now = offer_over(group, wish, ledger)
    if now is None:
        return None, call.offers
    offers = tuple(
        [
            now if offer.resource_group_id == now.resource_group_id else offer
            for offer in call.offers
        ]
    )
    return now, offers


def _charges(
    call: Call, levels: tuple[Level, ...], offer: Offer | None, ledger: Ledger
) -> list[Charge]:
    """What each party would be charged, numbered as it comes after the reversal."""
    number = call.charges + (2 if call.charges else 1)
    charges = []
    for place, level in enumerate(levels):
        used = level.package_seconds
        price = level.price
        charges.append(
            Charge(
                call.call_id,
                place,
                number,
                level.account_id,
                ledger.accounts[level.account_id].profile.currency,
                level.cost_micros(call.seconds),
                price.terms.billed_seconds(call.seconds, used),
                price.rate_id,
                price.prefix,
                price.terms.exchange_e10,
                used,
            )
        )
    if offer is not None:
        price = offer.price
        charges.append(
            Charge(
                call.call_id,
                PROVIDER,
                number,
                offer.provider_id,
                ledger.accounts[offer.provider_id].profile.currency,
                price.terms.cost_micros(call.seconds),
                price.terms.billed_seconds(call.seconds),
                price.rate_id,
                price.prefix,
                price.terms.exchange_e10,
                0,
            )
        )
    elif call.provider_id is not None:
        charges.append(_as_it_was(call, call.provider_id, number, ledger))
    return charges


def _as_it_was(call: Call, provider_id: int, number: int, ledger: Ledger) -> Charge:
    """The provider's part where there is no row to price it by any more."""
    offers = [offer for offer in call.offers if offer.provider_id == provider_id]
    price = offers[0].price if offers else None
    return Charge(
        call.call_id,
        PROVIDER,
        number,
        provider_id,
        ledger.accounts[provider_id].profile.currency,
        call.charged.get(PROVIDER, 0),
        call.billed.get(PROVIDER, 0),
        price.rate_id if price is not None else 0,
        price.prefix if price is not None else "",
        price.terms.exchange_e10 if price is not None else 10**10,
        0,
    )


def _reverse(call: Call, at: datetime, ledger: Ledger) -> None:
    """Take back all that the call was charged, in a transaction of its own."""
    if not call.charges:
        return
    before = _charges(call, call.levels, None, ledger)
    number = call.charges + 1
    rows = [
        charge._replace(
            number=number,
            amount_micros=-call.charged[charge.level],
            billed_seconds=-call.billed.get(charge.level, 0),
            package_seconds=-charge.package_seconds,
        )
        for charge in before
        if charge.level in call.charged
    ]
    _write(call, rows, at, ledger)


def _post(call: Call, charges: list[Charge], at: datetime, ledger: Ledger) -> None:
    _write(call, charges, at, ledger)
    call.charged = {charge.level: charge.amount_micros for charge in charges}
    call.billed = {charge.level: charge.billed_seconds for charge in charges}


def _write(call: Call, charges: list[Charge], at: datetime, ledger: Ledger) -> None:
    """Rows of one number, and the one transaction that posts what is not 0 of them."""
    call.charges = charges[0].number
    ledger.charges.extend(charges)
    moving = [charge for charge in charges if charge.amount_micros]
    if not moving:
        return
    call.postings += 1
    reference = str(call.call_id) if call.postings == 1 else f"{call.call_id}/{call.postings}"
    for position, charge in enumerate(moving):
        buys = charge.level != PROVIDER
        account = ledger.accounts[charge.account_id]
        contra_id = account.profile.parent_id
        assert contra_id is not None
        ledger.post(
            Posting(
                reference,
                position,
                charge.account_id,
                -charge.amount_micros if buys else charge.amount_micros,
                charge.currency,
                contra_id,
                "sales" if buys else "purchases",
            )
        )
    ledger.transactions.append(Transaction(reference, at))
