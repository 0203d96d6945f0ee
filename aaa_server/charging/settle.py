"""What ends a call, or keeps it known: Start, Update, Stop, Reboot, Expire.

A call is charged when it ends, once, at every level and for the provider, by the prices
frozen when it was authorised. A Stop that comes after the call was closed for silence
posts the difference only.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from aaa_server.charging.account_code import whose
from aaa_server.charging.authorize import called_number, metered_call
from aaa_server.charging.inbound_call import emergency_number, on_net_offer
from aaa_server.charging.ledger import Charge, Ledger, Posting, Transaction
from aaa_server.charging.metering import hold_shares, settle_shares
from aaa_server.charging.pricing import price_levels
from aaa_server.charging.requests import (
    Expire,
    Noted,
    Reboot,
    Refused,
    Settled,
    Start,
    Stop,
    Update,
    switch_time,
)
from aaa_server.charging.routing import Sale, Wish, offer_over, offers_for
from aaa_server.rating.bounds import TALK_SECONDS_MAX
from aaa_server.rating.money import div_ceil

if TYPE_CHECKING:
    from aaa_server.charging.call import Call, Level, Offer

PROVIDER = -1  # the provider's level on a charge

# Flags on a call record, in the words of the suspense report.
NO_AUTHORIZATION = "no-authorization"
UNRATED = "unrated"
LONGER_THAN_GRANTED = "longer-than-granted"
LONGER_THAN_ELAPSED = "longer-than-elapsed"
REFUSED_BUT_TALKED = "refused-but-talked"
SILENT = "silent"
NOTHING_KNOWN = "nothing-known"
LATE_STOP = "late-stop"
DURATION_UNKNOWN = "duration-unknown"
ROUTE_ASSUMED = "route-assumed"
ROUTE_NOT_OFFERED = "route-not-offered"
NO_ROUTE_COST = "no-route-cost"
EMERGENCY = "emergency"
RERATED = "rerated"

# Clocks of switch and server differ; a longer lead than this is a duration to look at.
CLOCK_SLACK_SECONDS = 2


def start(request: Start, ledger: Ledger) -> Noted:
    """Remember when the call began; a call nobody authorised is opened, if it is to be charged."""
    call = ledger.told_of(request, request.at)
    begun = switch_time(request)
    if call is None:
        if request.unauthorized:
            _open_unauthorized(request, request.at, ledger).started_at = begun
        return Noted()
    if not call.ended and call.started_at is None:
        call.started_at = begun
        ledger.touch(call)
    return Noted()


def update(request: Update, ledger: Ledger) -> Noted:
    """Remember how long the call has talked: that much is charged if no Stop ever comes."""
    begun = request.at - timedelta(seconds=request.seconds)
    call = ledger.told_of(request, begun)
    if call is None:
        if not request.unauthorized:
            return Noted()
        call = _open_unauthorized(request, begun, ledger)
    if call.ended:
        return Noted()
    if call.last_seconds is None or request.seconds > call.last_seconds:
        call.last_seconds = request.seconds
        if call.status == "started":
            call.expires_at = _silent_after(request.at, ledger)
        ledger.touch(call)
    return Noted()


def stop(request: Stop, ledger: Ledger) -> Settled | Noted:
    """Charge the call. The same Stop again changes nothing and gets the same answer."""
    begun = request.at - timedelta(milliseconds=request.duration_ms or 0)
    call = ledger.told_of(request, begun)
    if call is None:
        if not request.unauthorized:
            return Noted()
        call = _open_unauthorized(request, begun, ledger)
    if not call.ended:
        _end(call, request, ledger)
    elif (
        call.ended_by in ("expiry", "reboot", "operator")
        or _says_at_last(call, request)
        or _got_through(call, request)
    ):
        _correct(call, request, ledger)
    return _settled(call, ledger)


def _says_at_last(call: Call, request: Stop) -> bool:
    """Whether this Stop tells what the one that ended the call did not: how long it was."""
    return DURATION_UNKNOWN in call.flags and request.duration_ms is not None


def _got_through(call: Call, request: Stop) -> bool:
    """Whether the call, ended with an attempt that was not answered, was answered by another."""
    unanswered = call.refusal is None and not call.duration_ms
    return request.attempt and unanswered and bool(request.duration_ms)


def reboot(request: Reboot, ledger: Ledger) -> Noted:
    """Close what the switch had open before `at`, each call at its last known second."""
    # Event-Timestamp counts whole seconds: `at` may be as much as one earlier than it was.
    before = request.at + timedelta(seconds=1)
    lost = [
        call
        for call in ledger.calls.values()
        if call.client_id == request.client_id
        and not call.ended
        and call.authorized_at < before
        and request.nas_address in (None, call.nas_address)
    ]
    for call in lost:
        _close_silent(call, request.at, "reboot", ledger)
    return Noted(closed=len(lost))


def expire(request: Expire, ledger: Ledger) -> Noted:
    """Close the call if its time and the grace after it are over without a Stop."""
    call = ledger.calls.get((request.client_id, request.session_key))
    if call is None or call.ended or call.expires_at > request.at:
        return Noted()
    _close_silent(call, request.at, "expiry", ledger)
    return Noted(closed=1)


def _open_unauthorized(request: Start | Update | Stop, begun: datetime, ledger: Ledger) -> Call:
    call = ledger.open(request.client_id, request.session_key, begun)
    call.status = "started"
    call.started_at = begun
    call.expires_at = _silent_after(request.at, ledger)
    call.ani = request.origin.ani
    call.called = request.called
    call.nas_address = request.nas_address
    call.sip_call_id = request.sip_call_id
    found = whose(request.origin, request.called, ledger, begun)
    number = ""
    if ledger.catalogue.emergency:
        account_id = 0 if isinstance(found, Refused) else found.account_id
        number = emergency_number(
            request.client_id, request.origin, request.called, account_id, ledger.catalogue
        )
    if not isinstance(found, Refused):
        call.account_id, call.found_by = found.account_id, found.found_by
        inbound = ledger.catalogue.inbound(request.origin, request.called)
        called = called_number(request, inbound, found.account_id, ledger)
        if not isinstance(called, Refused):
            call.called = called
        elif inbound is not None:  # it was blocked, and has talked all the same
            call.called = inbound.without_prefix(call.called)
        chain = ledger.accounts[found.account_id].profile.chain or (found.account_id,)
        call.party = (*chain, *ledger.providers_of(chain[-1]))
    call.called = number or call.called
    ledger.write(call)
    return call


def _silent_after(at: datetime, ledger: Ledger) -> datetime:
    policy = ledger.policy
    return at + timedelta(seconds=policy.maximum_call_seconds + policy.grace_seconds)


def _duration_ms(call: Call, request: Stop) -> int | None:
    """What the Stop says, else Stop minus Start by the switch's clock; None: neither is known.

    A clock that was set between the two tells of days or years.
    """
    if request.duration_ms is not None:
        return request.duration_ms
    at = switch_time(request)
    if call.started_at is None or at <= call.started_at:
        return None
    duration_ms = (at - call.started_at) // timedelta(milliseconds=1)
    return duration_ms if duration_ms <= 1000 * TALK_SECONDS_MAX else None


def _end(call: Call, request: Stop, ledger: Ledger) -> None:
    duration_ms = _duration_ms(call, request)
    if duration_ms is None:
        duration_ms = 1000 * (call.last_seconds or 0)
        if call.status != "refused":
            call.flag(DURATION_UNKNOWN)
    call.duration_ms = duration_ms
    call.cause = request.cause
    _rate_unauthorized(call, request.route, ledger)
    seconds = _chargeable(call, switch_time(request), ledger)
    if call.status == "authorized":
        ledger.release(call)
    _close(call, request.at, request.ended_by, ledger)
    _charge(call, seconds, request.route, request.at, ledger)


def _chargeable(call: Call, at: datetime, ledger: Ledger) -> int:
    """The seconds to charge, and the flags that go with them."""
    seconds = div_ceil(call.duration_ms, 1000)
    if call.status == "refused":
        if seconds:
            call.flag(REFUSED_BUT_TALKED)
        return 0
    if seconds > (at - call.authorized_at) // timedelta(seconds=1) + CLOCK_SLACK_SECONDS:
        call.flag(LONGER_THAN_ELAPSED)
    if not call.granted_seconds or seconds <= call.granted_seconds:
        return seconds
    # Switches cut late; that much is not the caller's.
    if seconds <= call.granted_seconds + ledger.policy.overrun_seconds:
        return call.granted_seconds
    call.flag(LONGER_THAN_GRANTED)
    return seconds


def _rate_unauthorized(call: Call, route: str, ledger: Ledger) -> None:
    """Price a call that only accounting has told of, as of its beginning.

    One to a number of ours stayed with us, unless it is said to have gone out over a `route`.
    """
    if call.status != "started":
        return
    call.flag(NO_AUTHORIZATION)
    if call.called in ledger.catalogue.emergency:
        return
    levels: tuple[Level, ...] | Refused | None = None
    if call.account_id is not None and call.called:
        chain = ledger.chain_of(call.account_id)
        at = call.authorized_at
        within = None
        if chain and route not in ledger.catalogue.by_name:
            within = on_net_offer(chain, call.called, at, ledger)
        levels = price_levels(chain, call.called, at, ledger, on_net=within is not None)
        if within is not None:
            call.offers = (within,)
    if not levels or isinstance(levels, Refused):
        call.flag(UNRATED)
    else:
        call.levels = levels


def _close(call: Call, at: datetime, ended_by: str, ledger: Ledger) -> None:
    call.status = "ended"
    # By our clock, when a switch's is behind: nothing is posted before it was authorised.
    call.ended_at = max(at, call.authorized_at)
    if call.started_at is not None:
        call.started_at = min(call.started_at, call.ended_at)
    call.ended_by = ended_by
    ledger.touch(call)


def _close_silent(call: Call, at: datetime, ended_by: str, ledger: Ledger) -> None:
    seconds = 0
    if call.status == "refused":
        _close(call, at, ended_by, ledger)
        return
    call.flag(SILENT)
    if call.last_seconds is not None:
        seconds = call.last_seconds
    elif ledger.policy.assume_lost == "slice":
        seconds = call.granted_seconds
    else:
        call.flag(NOTHING_KNOWN)
    _rate_unauthorized(call, "", ledger)
    if call.status == "authorized":
        ledger.release(call)
        seconds = min(seconds, call.granted_seconds)
    call.duration_ms = seconds * 1000
    _close(call, at, ended_by, ledger)
    _charge(call, seconds, "", at, ledger)


def _correct(call: Call, request: Stop, ledger: Ledger) -> None:
    """A Stop for a call that was closed without one: the truth replaces the guess."""
    if LATE_STOP in call.flags:
        return
    duration_ms = _duration_ms(call, request)
    if duration_ms is None:  # it says nothing that could correct anything
        duration_ms = 1000 * call.seconds
    call.duration_ms = duration_ms
    call.cause = request.cause
    call.flag(LATE_STOP)
    ended_at = switch_time(request)
    seconds = _chargeable(call, ended_at, ledger) if call.refusal is None else 0
    ledger.touch(call)
    _charge(call, seconds, request.route, request.at, ledger, first=False)


def _charge(
    call: Call, seconds: int, route: str, at: datetime, ledger: Ledger, *, first: bool = True
) -> None:
    """Make what every party pays the price of `seconds`; post what that changes.

    `first`: the call ends, and gives up what it holds; else it had ended before.
    """
    call.seconds = seconds
    if (
        not call.levels
        and call.called in ledger.catalogue.emergency
        and EMERGENCY not in call.flags
    ):
        call.flag(EMERGENCY)
    used_before = [level.package_seconds if call.charges else 0 for level in call.levels]
    _settle_shares(call, seconds, ledger, first=first)
    if not call.levels or not (seconds or call.charged):
        _note_told(call, route)
        return
    number = call.charges + 1
    call.postings += 1
    reference = str(call.call_id) if call.postings == 1 else f"{call.call_id}/{call.postings}"
    posted, noted = len(ledger.postings), len(ledger.charges)
    for position, level in enumerate(call.levels):
        account = ledger.accounts[level.account_id]
        amount = level.cost_micros(seconds)
        change = amount - call.charged.get(position, 0)
        currency = account.profile.currency
        if change:
            seller_id = account.profile.parent_id
            assert seller_id is not None
            ledger.post(
                Posting(
                    reference, position, level.account_id, -change, currency, seller_id, "sales"
                )
            )
        package_seconds = level.package_seconds
        charge = Charge(
            call.call_id,
            position,
            number,
            level.account_id,
            currency,
            amount,
            level.price.terms.billed_seconds(seconds, package_seconds),
            level.price.rate_id,
            level.price.prefix,
            level.price.terms.exchange_e10,
            package_seconds,
        )
        _note(charge, call, used_before[position], ledger)
    _charge_provider(call, seconds, route, reference, number, ledger)
    if len(ledger.postings) == posted:
        call.postings -= 1
    else:
        ledger.transactions.append(Transaction(reference, max(at, call.authorized_at)))
    if len(ledger.charges) > noted:
        call.charges = number


def _settle_shares(call: Call, seconds: int, ledger: Ledger, *, first: bool) -> None:
    if ledger.meters is None:
        return
    if first and NO_AUTHORIZATION in call.flags:
        call.levels = hold_shares(call.levels, seconds, metered_call(call), ledger)
    call.levels = settle_shares(call.levels, seconds, ledger, first=first)


def _note(charge: Charge, call: Call, package_before: int, ledger: Ledger) -> None:
    """Add what `charge`, the party's charge in all, changes of what was noted before."""
    level = charge.level
    amount_before, billed_before = call.charged.get(level, 0), call.billed.get(level, 0)
    call.charged = {**call.charged, level: charge.amount_micros}
    call.billed = {**call.billed, level: charge.billed_seconds}
    if charge.number == 1:
        ledger.charges.append(charge)
        return
    change = charge._replace(
        amount_micros=charge.amount_micros - amount_before,
        billed_seconds=charge.billed_seconds - billed_before,
        package_seconds=charge.package_seconds - package_before,
    )
    if change.amount_micros or change.billed_seconds or change.package_seconds:
        ledger.charges.append(change)


def _charge_provider(
    call: Call, seconds: int, route: str, reference: str, number: int, ledger: Ledger
) -> None:
    offer = _answered(call, route, ledger)
    if offer is None:
        return
    call.resource_group_out_id = offer.resource_group_id or None
    if not offer.provider_id:  # it never left us
        return
    amount = offer.price.terms.cost_micros(seconds)
    before = call.charged.get(PROVIDER, 0)
    position = len(call.levels)
    if call.provider_id is not None and call.provider_id != offer.provider_id:
        # The call was closed as if it had gone over another provider, who gets nothing.
        _pay_provider(call.provider_id, -before, reference, position, ledger)
        gone = _provider_charge(call, offer, number, 0, 0, call.provider_id, ledger)
        _note(gone, call, 0, ledger)
        before, position = 0, position + 1
    _pay_provider(offer.provider_id, amount - before, reference, position, ledger)
    call.provider_id = offer.provider_id
    billed = offer.price.terms.billed_seconds(seconds)
    charge = _provider_charge(call, offer, number, amount, billed, offer.provider_id, ledger)
    _note(charge, call, 0, ledger)


def _provider_charge(
    call: Call,
    offer: Offer,
    number: int,
    amount_micros: int,
    billed_seconds: int,
    provider_id: int,
    ledger: Ledger,
) -> Charge:
    currency = ledger.accounts[provider_id].profile.currency
    price = offer.price
    return Charge(
        call.call_id,
        PROVIDER,
        number,
        provider_id,
        currency,
        amount_micros,
        billed_seconds,
        price.rate_id,
        price.prefix,
        price.terms.exchange_e10,
        0,
    )


def _pay_provider(
    provider_id: int, micros: int, reference: str, position: int, ledger: Ledger
) -> None:
    if micros:
        currency = ledger.accounts[provider_id].profile.currency
        admin_id = ledger.catalogue.admin_id
        ledger.post(
            Posting(reference, position, provider_id, micros, currency, admin_id, "purchases")
        )


def _note_told(call: Call, route: str) -> None:
    """Remember the last route that was tried for a call that nobody answered."""
    for offer in call.offers:
        if route and route in (offer.name, offer.dial):
            call.resource_group_out_id = offer.resource_group_id or None


def _answered(call: Call, route: str, ledger: Ledger) -> Offer | None:
    """The route that carried the call: the one told, by name or dial string, else the first."""
    if call.offers and not call.offers[0].resource_group_id:
        return call.offers[0]  # it came in to a number of ours: there was no other
    for offer in call.offers:
        if route and route in (offer.name, offer.dial):
            return offer
    group = ledger.catalogue.by_name.get(route)
    if group is not None and group.account_id in ledger.accounts:
        told = offer_over(group, _wish(call), ledger)
        if told is not None:
            if call.offers:
                call.flag(ROUTE_NOT_OFFERED)
            return told
    return _assumed(call, route, ledger)


def _assumed(call: Call, route: str, ledger: Ledger) -> Offer | None:
    """The route that would have been tried first, flagged; None where there is none at all.

    Without routes of ours (the switch routes by itself) there is no cost to miss.
    """
    assert call.account_id is not None
    topmost = ledger.chain_of(call.account_id)[-1].profile
    group = ledger.catalogue.rate_groups.get(topmost.rate_group_id or 0)
    if not call.offers and group is not None and group.routes:
        offers: tuple[Offer, ...] = ()
        if call.levels:
            sale = Sale(call.levels[-1].price, topmost.currency)
            offers = offers_for(group, _wish(call, sale), ledger)
        # It has been carried, be it over none of those that it would have been offered.
        call.offers = (offers or offers_for(group, _wish(call), ledger))[:1]
    if call.offers:
        flag = ROUTE_ASSUMED
    elif route or (group is not None and group.routes):
        flag = NO_ROUTE_COST
    else:
        return None
    if flag not in call.flags:
        call.flag(flag)
    return call.offers[0] if call.offers else None


def _wish(call: Call, sale: Sale | None = None) -> Wish:
    return Wish(call.called, call.authorized_at, call.session_key, sale=sale)


def _settled(call: Call, ledger: Ledger) -> Settled | Noted:
    if call.account_id is None:
        return Noted()
    currency = ledger.accounts[call.account_id].profile.currency
    return Settled(call.charged.get(0, 0), currency)
