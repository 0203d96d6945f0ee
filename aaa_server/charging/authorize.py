"""Whether a call may be set up, for how long, over which route, and who pays.

Plan first (nothing changes), then reserve at every level: all or nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from aaa_server.charging.account_code import whose
from aaa_server.charging.card import check_credential, first_use, register
from aaa_server.charging.inbound_call import (
    did_levels,
    did_offer,
    emergency_number,
    emergency_offers,
    on_net_offer,
    out_of_service,
)
from aaa_server.charging.metering import Metered, hold_shares, payable_seconds, reached_limit
from aaa_server.charging.numbers import Blocked, translate_called, translate_caller
from aaa_server.charging.pricing import price_levels, with_surcharge
from aaa_server.charging.requests import (
    Authenticate,
    Authorize,
    Granted,
    Known,
    Reauthorize,
    Refusal,
    Refused,
)
from aaa_server.charging.routing import (
    Sale,
    Wish,
    busy,
    no_route_text,
    offers_for,
    unix_second,
)
from aaa_server.rating.prefix import NUMBER_DIGITS_MAX

if TYPE_CHECKING:
    from aaa_server.charging.call import Call, Level, Offer
    from aaa_server.charging.catalogue import Inbound
    from aaa_server.charging.ledger import Account, GroupUse, Ledger, Profile
    from aaa_server.charging.requests import Start, Stop, Update

# The caller is told the same whoever of the chain lacks the money.
_NO_CREDIT_TEXT = "not enough credit for this call"
_OTHER_CALL = Refused(
    Refusal.INVALID_ARGUMENT, "this session has a call already: of another account or number"
)


class Plan:
    """How a call would be carried and paid; nothing is reserved yet.

    `affordable_seconds` is all that every level can pay, within the longest call allowed.
    """

    def __init__(
        self,
        found_by: str,
        chain: list[Account],
        called: str,
        inbound: Inbound | None,
        levels: tuple[Level, ...],
        offers: tuple[Offer, ...],
        metered: Metered,
        affordable_seconds: int,
    ) -> None:
        self.found_by = found_by
        self.chain = chain
        self.called = called
        self.inbound = inbound
        self.levels = levels
        self.offers = offers
        self.metered = metered
        self.affordable_seconds = affordable_seconds


def authorize(request: Authorize, ledger: Ledger) -> Granted | Refused:
    """Reserve the call's first slice, or refuse it and remember why until its Stop.

    Asked again for a call that runs, gives its caller the same answer and reserves nothing more.
    """
    call = ledger.existing(request.client_id, request.session_key, request.at)
    number = _emergency_number(request, ledger) if ledger.catalogue.emergency else ""
    if call is not None and (call.status == "authorized" or (call.ended and not call.refusal)):
        return _asked_again(call, number, request, ledger)
    if number:
        return _let_pass(request, number, call, ledger)
    plan = plan_call(request, ledger)
    if call is None:
        call = ledger.open(request.client_id, request.session_key, request.at)
    _describe(call, request)
    if isinstance(plan, Refused):
        _refuse(call, plan, request, ledger)
        return plan
    return _reserve(call, plan, request, ledger)


def _asked_again(
    call: Call, emergency: str, request: Authorize, ledger: Ledger
) -> Granted | Refused:
    """The answer that a call has had, for who has had it; the call stays as it is.

    The key is the switch's or even a phone's to choose: under one that runs nobody else
    gets in, and nobody reaches another number. To an `emergency` number everybody does.
    """
    if emergency and (call.ended or call.called != emergency):
        offers = emergency_offers(emergency, ledger)
        return _granted_to_nobody(offers, request.maximum_seconds, ledger)
    if call.ended:
        return Refused(Refusal.INVALID_ARGUMENT, "this call has ended already")
    if not emergency:
        refused = _another_call(call, request, ledger)
        if refused is not None:
            return refused
    return _granted_before(call, ledger)


def _another_call(call: Call, request: Authorize, ledger: Ledger) -> Refused | None:
    """Why `request` is not the question that `call` was the answer to; None when it is."""
    found = whose(request.origin, request.called, ledger, request.at)
    if isinstance(found, Refused):
        return found
    if found.account_id != call.account_id:
        return _OTHER_CALL
    refused = check_credential(request, ledger.accounts[found.account_id], ledger)
    if refused is not None:
        return refused
    inbound = ledger.catalogue.inbound(request.origin, request.called)
    called = called_number(request, inbound, found.account_id, ledger)
    if isinstance(called, Refused):
        return called
    return None if called == call.called else _OTHER_CALL


def plan_call(request: Authorize, ledger: Ledger) -> Plan | Refused:
    """Find the payers, their prices, the routes and the time that the money lasts."""
    if not request.called and not request.origin.did:
        return Refused(Refusal.INVALID_ARGUMENT, "the called number is missing or is no number")
    found = whose(request.origin, request.called, ledger, request.at)
    if isinstance(found, Refused):
        return found
    chain = ledger.chain_of(found.account_id)
    refused = standing(chain, request.at)
    if refused is not None:
        return refused
    refused = check_credential(request, chain[0], ledger)
    if refused is not None:
        return refused
    inbound = ledger.catalogue.inbound(request.origin, request.called)
    called = called_number(request, inbound, found.account_id, ledger)
    if isinstance(called, Refused):
        return called
    refused = limits(chain, inbound, request.at, ledger)
    if refused is not None:
        return refused
    priced = _price(request, chain, called, ledger)
    if isinstance(priced, Refused):
        return priced
    levels, offers = priced
    metered = Metered(called, request.at, not request.origin.did)
    longest = longest_call(request, chain[0].profile)
    seconds = affordable(chain, levels, longest, metered, ledger)
    if isinstance(seconds, Refused):
        return seconds
    return Plan(found.found_by, chain, called, inbound, levels, offers, metered, seconds)


def called_number(
    request: Authorize | Start | Stop | Update,
    inbound: Inbound | None,
    account_id: int,
    ledger: Ledger,
) -> str | Refused:
    """The number that is meant: without tech prefix, as the rules of all concerned make it."""
    callers = ledger.catalogue.number_rules.caller
    if callers and isinstance(
        translate_caller(callers, request.client_id, request.origin.ani), Blocked
    ):
        return Refused(Refusal.BLOCKED, "calls from this number are blocked")
    if request.origin.did:
        return request.origin.did
    called = request.called
    if inbound is not None:
        called = inbound.without_prefix(called)
    rules = ledger.catalogue.number_rules.called
    if not rules:
        return called
    group_id = 0 if inbound is None else inbound.group.resource_group_id
    translated = translate_called(rules, request.client_id, group_id, account_id, called)
    if isinstance(translated, Blocked):
        return Refused(Refusal.BLOCKED, "this number is blocked")
    if not 0 < len(translated) <= NUMBER_DIGITS_MAX:
        return Refused(Refusal.INVALID_ARGUMENT, "the rules for this number leave no number")
    return translated


def _price(
    request: Authorize, chain: list[Account], called: str, ledger: Ledger
) -> tuple[tuple[Level, ...], tuple[Offer, ...]] | Refused:
    """What each payer pays and the ways to the number called: in, within, or out."""
    if request.origin.did:
        return did_levels(chain, called, ledger), (did_offer(called, request.at, ledger),)
    within = on_net_offer(chain, called, request.at, ledger)
    if within is not None:
        refused = out_of_service(called, request.at, ledger)
        if refused is not None:
            return refused
    levels = price_levels(chain, called, request.at, ledger, on_net=within is not None)
    if isinstance(levels, Refused):
        return levels
    if request.access_number:
        levels = with_surcharge(levels, chain[0].profile, request.access_number, ledger)
    if within is not None:
        return levels, (within,)
    offers = _offers(chain, levels, called, request, ledger)
    return offers if isinstance(offers, Refused) else (levels, offers)


def standing(chain: list[Account], at: datetime) -> Refused | None:
    """Whether the caller and all its resellers may do business at `at`."""
    if not chain or chain[0].profile.kind not in ("customer", "reseller"):
        return Refused(Refusal.INVALID_ACCOUNT, "this account does not make calls")
    for account in chain:
        profile = account.profile
        if profile.status == "suspended":
            return Refused(Refusal.SUSPENDED, "the account is suspended")
        if profile.status != "active":
            return Refused(Refusal.INVALID_ACCOUNT, "the account is closed")
        if profile.expires_at is not None and profile.expires_at <= at:
            return Refused(Refusal.EXPIRED, "the account has expired")
    return None


def limits(
    chain: list[Account], inbound: Inbound | None, at: datetime, ledger: Ledger
) -> Refused | None:
    """Whether one more call is within everybody's channels and calls per second."""
    for account in chain:
        profile = account.profile
        if profile.max_channels and account.channels >= profile.max_channels:
            return Refused(Refusal.IN_USE, "all channels of the account are in use")
        if (
            profile.calls_per_second
            and account.second_at == unix_second(at)
            and account.second_calls >= profile.calls_per_second
        ):
            return Refused(Refusal.IN_USE, "too many calls in one second")
    if inbound is not None and busy(inbound.group, at, ledger):
        return Refused(Refusal.IN_USE, "all channels of the resource group are in use")
    return None


def _offers(
    chain: list[Account],
    levels: tuple[Level, ...],
    called: str,
    request: Authorize,
    ledger: Ledger,
) -> tuple[Offer, ...] | Refused:
    """The routes; none at all is right where the switch routes by itself: nothing attached."""
    group = ledger.catalogue.rate_groups[chain[-1].profile.rate_group_id or 0]
    if not group.routes:
        return ()
    sale = Sale(levels[-1].price, chain[-1].profile.currency)
    wish = Wish(called, request.at, request.session_key, request.wanted_route, sale)
    offers = offers_for(group, wish, ledger)
    if not offers:
        return Refused(Refusal.NO_ROUTE, no_route_text(group, wish, ledger))
    return offers


def longest_call(request: Authorize | Reauthorize, caller: Profile) -> int:
    """How many seconds a call may last, whatever the money: the client's or account's maximum."""
    if caller.maximum_call_seconds is None:
        return request.maximum_seconds
    return min(request.maximum_seconds, caller.maximum_call_seconds)


def affordable(
    chain: list[Account],
    levels: tuple[Level, ...],
    longest_seconds: int,
    metered: Metered,
    ledger: Ledger,
) -> int | Refused:
    """The seconds, up to `longest_seconds`, that every level can pay; at least 1."""
    seconds = longest_seconds
    assert len(chain) == len(levels)
    for place, level in enumerate(levels):
        account = chain[place]
        if account.profile.metered:
            if reached_limit(account, level, metered, ledger) is not None:
                return Refused(Refusal.VELOCITY, "a limit for calls of this kind is reached")
            seconds = payable_seconds(account, level, seconds, 0, metered, ledger)
        else:
            available = account.available_micros
            seconds = level.price.terms.affordable_seconds(available, seconds)
        if seconds < 1:
            return Refused(_lack_of(account), _NO_CREDIT_TEXT)
    return seconds


def _lack_of(account: Account) -> Refusal:
    if account.available_micros > 0:
        return Refusal.NOT_ENOUGH
    return Refusal.NO_CREDIT if account.profile.prepaid else Refusal.CREDIT_LIMIT


def _describe(call: Call, request: Authorize) -> None:
    if call.ended:  # a refused attempt that was closed: nothing of it goes on
        call.ended_at = call.started_at = call.last_seconds = None
        call.ended_by = call.cause = ""
        call.duration_ms = 0
    call.flags = ()
    call.ani = request.origin.ani
    call.called = request.called
    call.nas_address = request.nas_address
    call.sip_call_id = request.sip_call_id


def _refuse(call: Call, refused: Refused, request: Authorize, ledger: Ledger) -> None:
    """Keep the refusal until the switch's Stop, which then costs nothing."""
    found = whose(request.origin, request.called, ledger, request.at)
    if not isinstance(found, Refused):
        call.account_id, call.found_by = found.account_id, found.found_by
        # The operator's own chain is empty.
        call.party = ledger.accounts[found.account_id].profile.chain or (found.account_id,)
    call.status = "refused"
    call.refusal = refused.reason.value
    call.authorized_at = request.at
    call.expires_at = request.at + timedelta(seconds=ledger.policy.grace_seconds)
    ledger.write(call)


def _reserve(call: Call, plan: Plan, request: Authorize, ledger: Ledger) -> Granted:
    seconds = plan.affordable_seconds
    if request.slice_seconds:
        seconds = min(seconds, request.slice_seconds)
    call.status = "authorized"
    call.refusal = None
    call.account_id = plan.chain[0].profile.account_id
    call.found_by = plan.found_by
    call.called = plan.called
    call.levels = hold_shares(plan.levels, seconds, plan.metered, ledger)
    call.offers = plan.offers
    # One may have several routes; a number of our own has no provider to pay.
    providers = {offer.provider_id for offer in plan.offers if offer.provider_id}
    call.party = (*plan.chain[0].profile.chain, *sorted(providers))
    call.granted_seconds = seconds
    call.authorized_at = request.at
    call.expires_at = request.at + timedelta(0, seconds + ledger.policy.grace_seconds)
    ledger.hold(call, tuple([level.cost_micros(seconds) for level in call.levels]))
    first_use(plan.chain[0], request.at, ledger)
    _occupy(call, plan, request.at, ledger)
    ledger.write(call)
    return _granted(call, seconds, plan.affordable_seconds, ledger)


def _occupy(call: Call, plan: Plan, at: datetime, ledger: Ledger) -> None:
    """Take one channel, and one call of this second, everywhere the call passes."""
    for account in plan.chain:
        account.channels += 1
        account.changed = True
        if account.profile.calls_per_second:
            _count(account, at)
    call.resource_group_in_id = call.resource_group_out_id = None
    groups = []
    if plan.inbound is not None:
        call.resource_group_in_id = plan.inbound.group.resource_group_id
        groups.append(plan.inbound.group)
    if plan.offers and plan.offers[0].resource_group_id:
        call.resource_group_out_id = plan.offers[0].resource_group_id
        groups.append(ledger.catalogue.resource_groups[call.resource_group_out_id])
    for group in groups:
        use = ledger.group_uses[group.resource_group_id]
        use.channels += 1
        use.changed = True
        if group.calls_per_second:
            _count(use, at)


def _count(use: Account | GroupUse, at: datetime) -> None:
    second = unix_second(at)
    if use.second_at != second:
        use.second_at, use.second_calls = second, 0
    use.second_calls += 1


def _emergency_number(request: Authorize, ledger: Ledger) -> str:
    account_id = 0
    if ledger.catalogue.number_rules.called:
        found = whose(request.origin, request.called, ledger, request.at)
        if not isinstance(found, Refused):
            account_id = found.account_id
    return emergency_number(
        request.client_id, request.origin, request.called, account_id, ledger.catalogue
    )


def _let_pass(request: Authorize, number: str, call: Call | None, ledger: Ledger) -> Granted:
    """An emergency call: whoever it is, at price 0, past every limit, and on record."""
    if call is None:
        call = ledger.open(request.client_id, request.session_key, request.at)
    _describe(call, request)
    call.called = number
    found = whose(request.origin, request.called, ledger, request.at)
    call.account_id = call.found_by = None
    call.party = ()
    if not isinstance(found, Refused):
        call.account_id, call.found_by = found.account_id, found.found_by
        call.party = ledger.accounts[found.account_id].profile.chain or (found.account_id,)
    call.status = "authorized"
    call.refusal = None
    call.levels, call.reserved = (), ()
    call.offers = emergency_offers(number, ledger)
    call.resource_group_in_id = call.resource_group_out_id = None
    call.granted_seconds = request.maximum_seconds
    call.authorized_at = request.at
    silence = request.maximum_seconds + ledger.policy.grace_seconds
    call.expires_at = request.at + timedelta(seconds=silence)
    ledger.write(call)
    return _granted(call, call.granted_seconds, call.granted_seconds, ledger)


def _let_go_on(call: Call, request: Reauthorize, elapsed: int, ledger: Ledger) -> Granted:
    call.granted_seconds = max(call.granted_seconds, elapsed + request.maximum_seconds)
    call.step, call.step_seconds = request.step, elapsed
    call.last_seconds = max(call.last_seconds or 0, elapsed)
    silence = call.granted_seconds - elapsed + ledger.policy.grace_seconds
    call.expires_at = request.at + timedelta(seconds=silence)
    ledger.touch(call)
    seconds = call.granted_seconds - elapsed
    return _granted(call, seconds, seconds, ledger)


def _granted_to_nobody(offers: tuple[Offer, ...], seconds: int, ledger: Ledger) -> Granted:
    currency = ledger.catalogue.admin_currency
    return Granted(seconds, seconds, True, 0, currency, "", "", False, "en", offers)


def _granted(call: Call, seconds: int, credit_seconds: int, ledger: Ledger) -> Granted:
    if call.account_id is None:
        return _granted_to_nobody(call.offers, seconds, ledger)
    account = ledger.accounts[call.account_id]
    profile = account.profile
    return Granted(
        seconds,
        credit_seconds,
        seconds >= credit_seconds,
        account.available_micros + (call.reserved[0] if call.reserved else 0),
        profile.currency,
        profile.code,
        call.found_by or "",
        profile.prepaid,
        profile.language,
        call.offers,
    )


def _granted_before(call: Call, ledger: Ledger) -> Granted:
    """The answer that this step of the call has had."""
    seconds = call.granted_seconds - (call.step_seconds or 0)
    credit_seconds = _payable(call, ledger.policy.maximum_call_seconds, ledger)
    return _granted(call, seconds, max(seconds, credit_seconds - (call.step_seconds or 0)), ledger)


def _payable(call: Call, longest_seconds: int, ledger: Ledger) -> int:
    """The longest talk that every level can pay, what it has reserved for this call included."""
    seconds = longest_seconds
    for level, held in zip(call.levels, call.reserved, strict=True):
        account = ledger.accounts[level.account_id]
        if account.profile.metered:
            metered = metered_call(call)
            payable = payable_seconds(account, level, seconds, held, metered, ledger)
        else:
            available = account.available_micros + held
            payable = level.price.terms.affordable_seconds(available, seconds)
        seconds = min(seconds, payable)
    return seconds


def metered_call(call: Call) -> Metered:
    """What packages and limits need to know of a call that runs or has ended."""
    return Metered(call.called, call.authorized_at, call.found_by != "did")


def reauthorize(request: Reauthorize, ledger: Ledger) -> Granted | Refused:
    """More time for a running call, counted from now; what is left when nothing can be added.

    The same step asked twice gets the same answer. A reservation never shrinks.
    """
    call = ledger.existing(request.client_id, request.session_key, request.at)
    if call is None or call.status != "authorized":
        return Refused(Refusal.INVALID_ARGUMENT, "no call of this session is running")
    if request.step is not None and request.step == call.step:
        return _granted_before(call, ledger)
    elapsed = request.elapsed_seconds
    if elapsed is None:
        elapsed = max(0, (request.at - call.authorized_at) // timedelta(seconds=1))
    elapsed = max(elapsed, call.step_seconds or 0)  # no talk is given back
    if call.account_id is None or not call.levels:  # an emergency call
        return _let_go_on(call, request, elapsed, ledger)
    chain = ledger.chain_of(call.account_id)
    refused = standing(chain, request.at)
    if refused is not None:
        return refused
    longest = longest_call(request, chain[0].profile)
    if elapsed >= longest:
        return Refused(Refusal.NOT_ENOUGH, "the call has reached the longest time allowed")
    payable = max(_payable(call, longest, ledger), call.granted_seconds)
    total = min(payable, elapsed + request.slice_seconds) if request.slice_seconds else payable
    total = max(total, call.granted_seconds)
    if total <= elapsed:
        return Refused(_lack_in(chain), _NO_CREDIT_TEXT)
    call.levels = hold_shares(call.levels, total, metered_call(call), ledger)
    amounts = tuple([level.cost_micros(total) for level in call.levels])
    ledger.hold(call, tuple(map(max, amounts, call.reserved)))
    call.granted_seconds = total
    call.step, call.step_seconds = request.step, elapsed
    call.last_seconds = max(call.last_seconds or 0, elapsed)
    call.expires_at = request.at + timedelta(seconds=total - elapsed + ledger.policy.grace_seconds)
    ledger.touch(call)
    return _granted(call, total - elapsed, payable - elapsed, ledger)


def _lack_in(chain: list[Account]) -> Refusal:
    poorest = min(chain, key=lambda account: account.available_micros)
    return _lack_of(poorest)


def authenticate(request: Authenticate, ledger: Ledger) -> Known | Refused:
    """Who this is and what may be spent, when the credential fits."""
    found = whose(request.origin, "", ledger, request.at)
    if isinstance(found, Refused):
        return found
    chain = ledger.chain_of(found.account_id)
    refused = standing(chain, request.at)
    if refused is not None:
        return refused
    profile = chain[0].profile
    if request.credential is None and not request.trusted:
        return Refused(Refusal.INVALID_PASSWORD, "a password or PIN is needed")
    refused = check_credential(request, chain[0], ledger)
    if refused is None and request.register:
        refused = register(request, chain[0], ledger)
    if refused is not None:
        return refused
    available = chain[0].available_micros
    return Known(
        available,
        profile.currency,
        profile.code,
        found.found_by,
        profile.prepaid,
        profile.language,
    )
