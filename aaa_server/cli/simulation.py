"""A simulated call told to a person, step by step, or to a program, as one record.

Who is not the operator is told of the levels that it may see, and of no way out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aaa_server.charging.requests import Granted, Refused
from aaa_server.charging.settle import PROVIDER
from aaa_server.cli.cdr import FLAGS, FOUND_BY, arithmetic, margins, step, terms_text
from aaa_server.cli.output import Things, amount, percent, price
from aaa_server.radius.dialects.reply import RETURN_CODES, SIP_STATUSES
from aaa_server.rating.lcr import REFERENCE_CALL_SECONDS
from aaa_server.rating.money import PPM, div_floor, format_exchange
from aaa_server.rating.steps import format_steps
from aaa_server.storage import cdrs
from aaa_server.storage.viewer import Deed, may

if TYPE_CHECKING:
    from aaa_server.charging.ledger import Ledger
    from aaa_server.charging.requests import Origin
    from aaa_server.charging.simulation import Payer, Simulation, WayOut
    from aaa_server.cli.output import Row
    from aaa_server.rating.lcr import Quality
    from aaa_server.rating.rate import Rate
    from aaa_server.storage.viewer import Viewer

Step = dict[str, str]

ROUTE_COLUMNS = (
    "place",
    "resource_group",
    "provider",
    "dial",
    "prefix",
    "destination",
    "per_minute",
    "currency",
    "reference_cost",
    "margin_percent",
    "priority",
    "share_percent",
    "attempts",
    "asr_percent",
    "acd_seconds",
    "why",
)


# ------------------------------------------------------------------ for a program


def simulation_record(simulation: Simulation, ledger: Ledger, viewer: Viewer) -> dict[str, Any]:
    """All of it as one thing; amounts are text."""
    answer = simulation.answer
    inbound = simulation.inbound
    found = simulation.found
    charges = _charges(simulation, ledger, viewer)
    record: dict[str, Any] = {
        "called": simulation.called,
        "at": simulation.request.at,
        "account": None if isinstance(found, Refused) else _code(found.account_id, ledger),
        "found_by": None if isinstance(found, Refused) else found.found_by,
        "resource_group_in": None if inbound is None else inbound.group.name,
        "levels": Things(
            _payer_row(number, payer, simulation)
            for number, payer in enumerate(_seen(simulation, viewer))
        ),
        "longest_seconds": simulation.longest_seconds,
    }
    if viewer.is_operator:
        record["routes"] = Things(route_rows(simulation, ledger))
    if isinstance(answer, Granted):
        record |= {
            "answer": "granted",
            "seconds": answer.seconds,
            "credit_seconds": answer.credit_seconds,
            "final": answer.final,
        }
    else:
        record |= {"answer": "refused", **_refusal_row(answer)}
    more = simulation.more
    if more is not None:
        record["more_seconds"] = more.seconds if isinstance(more, Granted) else 0
    record |= {
        "charged_seconds": simulation.call.seconds if simulation.call.ended else None,
        "flags": list(simulation.call.flags),
        "charges": Things(_charge_row(charge) for charge in charges.values()),
    }
    return record


def _refusal_row(refused: Refused) -> Row:
    return {
        "reason": refused.reason.value,
        "text": refused.text,
        "h323_return_code": RETURN_CODES[refused.reason],
        "sip_status": SIP_STATUSES[refused.reason],
    }


def _payer_row(number: int, payer: Payer, simulation: Simulation) -> Row:
    profile = payer.profile
    reserved = simulation.reserved[number] if simulation.reserved else 0
    refusals = (payer.standing, payer.limit, payer.level, payer.seconds)
    refused = next((one for one in refusals if isinstance(one, Refused)), None)
    row: dict[str, Any] = {
        "level": number,
        "account": profile.code,
        "kind": profile.kind,
        "status": profile.status,
        "expires_at": profile.expires_at,
        "channels": payer.channels,
        "max_channels": profile.max_channels,
        "rate_group": None if payer.group is None else payer.group.name,
        **_rate_row(payer.rate, payer),
        "currency": profile.currency,
        "balance": amount(payer.balance_micros),
        "reserved_before": amount(payer.reserved_micros),
        "credit_limit": amount(profile.credit_limit_micros),
        "available": amount(payer.available_micros),
        "affordable_seconds": payer.seconds if isinstance(payer.seconds, int) else 0,
        "reserves": amount(reserved),
        "refused": None if refused is None else refused.reason.value,
    }
    return row


def _rate_row(rate: Rate | None, payer: Payer) -> Row:
    """The row that applies; its prices are in its price list's currency."""
    if rate is None or payer.group is None:
        return dict.fromkeys(("prefix", "destination", "rate_id", "own_row", "band", "price"))
    terms = rate.terms
    exchange = None
    if not isinstance(payer.level, Refused):
        exchange = format_exchange(payer.level.price.terms.exchange_e10)
    return {
        "prefix": rate.prefix,
        "destination": rate.destination,
        "rate_id": rate.rate_id,
        "own_row": payer.own,
        "band": rate.band or None,
        "price": {
            "blocked": rate.blocked,
            "per_minute": price(terms.per_minute_nanos),
            "steps": format_steps(terms.steps),
            "currency": payer.group.tariff.currency,
            "connect_fee": amount(terms.connect_fee_micros),
            "minimum_charge": amount(terms.minimum_charge_micros),
            "included_seconds": terms.included_seconds,
            "initial_seconds": terms.initial_seconds,
            "increment_seconds": terms.increment_seconds,
            "markup_percent": percent(payer.group.markup_ppm),
            "exchange": exchange,
            "effective_from": rate.effective_from,
            "effective_to": rate.effective_to,
        },
    }


def _charge_row(charge: cdrs.Charge) -> Row:
    return {
        "level": "provider" if charge.level == PROVIDER else charge.level,
        "account": charge.account_code,
        "amount": amount(charge.amount_micros),
        "currency": charge.currency,
        "billed_seconds": charge.billed_seconds,
        "prefix": charge.prefix,
    }


def route_rows(simulation: Simulation, ledger: Ledger) -> list[Row]:
    """Every way out: in trial order those that are offered, then the others with the reason.

    To a number of our own there is one way, within.
    """
    within, answer = simulation.within, simulation.answer
    if within is not None:
        refused = answer.text if isinstance(answer, Refused) else ""
        return [
            {
                **dict.fromkeys((*ROUTE_COLUMNS, "band", "weight")),
                "place": None if refused else 1,
                "resource_group": within.name,
                "dial": within.dial,
                "why": refused or "a number of our own",
            }
        ]
    return [_route_row(way, ledger) for way in simulation.ways_out]


def _route_row(way: WayOut, ledger: Ledger) -> Row:
    group, route = way.attachment.group, way.route
    quality = ledger.catalogue.qualities.get(group.resource_group_id)
    return {
        "place": way.place,
        "resource_group": group.name,
        "provider": _code(group.account_id, ledger),
        "dial": None if way.offer is None else way.offer.dial,
        "prefix": None if route is None else route.rate.prefix,
        "destination": None if route is None else route.rate.destination,
        "band": None if route is None else route.rate.band or None,
        "per_minute": None if route is None else price(route.rate.terms.per_minute_nanos),
        "currency": None if route is None or group.tariff is None else group.tariff.currency,
        "reference_cost": None if route is None else amount(route.cost_micros),
        "margin_percent": None if way.margin_ppm is None else percent(way.margin_ppm),
        "priority": way.attachment.priority,
        "weight": way.attachment.weight,
        "share_percent": None if way.share_ppm is None else percent(way.share_ppm),
        **quality_row(quality),
        "why": way.out or ("offered" if way.place else "more routes than are offered"),
    }


def quality_row(quality: Quality | None) -> Row:
    """Attempts, answer-seizure ratio and average call duration; None: nobody tried."""
    if quality is None or not quality.attempts:
        return dict.fromkeys(("attempts", "asr_percent", "acd_seconds"))
    answered = quality.answered
    return {
        "attempts": quality.attempts,
        "asr_percent": percent(div_floor(answered * PPM, quality.attempts)),
        "acd_seconds": div_floor(quality.talk_seconds, answered) if answered else None,
    }


# ------------------------------------------------------------------ for a person


def simulation_steps(simulation: Simulation, ledger: Ledger, viewer: Viewer) -> list[Step]:
    """What was looked at, in the server's order, and what came of it."""
    instant = simulation.request.at.isoformat(timespec="seconds")
    steps = [step("call", f"to {simulation.called}, authorised at {instant}")]
    steps += _finding(simulation, ledger)
    for number, payer in enumerate(_seen(simulation, viewer)):
        steps += _payer_steps(f"level {number} {payer.profile.code}", payer, simulation)
    if viewer.is_operator:
        steps += _route_steps(simulation, ledger)
    steps += _answer_steps(simulation, viewer)
    if simulation.call.ended:
        steps += _talk_steps(simulation, ledger, viewer)
    return steps


def _finding(simulation: Simulation, ledger: Ledger) -> list[Step]:
    given = _given(simulation.request.origin)
    steps = [
        step("account", f"by {rule}: {given[rule]} is nobody's")
        for rule, outcome in simulation.tried
        if outcome is None and given[rule]
    ]
    found = simulation.found
    if isinstance(found, Refused):
        return [*steps, step("account", f"none: {found.text}")]
    rule = FOUND_BY[found.found_by]
    steps.append(step("account", f"{_code(found.account_id, ledger)}, found by {rule}"))
    inbound = simulation.inbound
    if inbound is not None:
        group = inbound.group
        most = f" of {group.max_calls}" if group.max_calls else ", no limit"
        used = simulation.inbound_channels
        busy = _or_refused(simulation.inbound_limit)
        steps.append(step("arrives over", f"{group.name}, {used} channels in use{most}{busy}"))
    return steps


def _given(origin: Origin) -> dict[str, str]:
    """What each rule had to go by."""
    extension = f"{origin.extension}@{origin.domain}" if origin.domain else origin.extension
    return {
        "argument": origin.account_code,
        "extension": extension,
        "ani": origin.ani,
        "resource-group": origin.resource_group,
    }


def _payer_steps(about: str, payer: Payer, simulation: Simulation) -> list[Step]:
    profile = payer.profile
    until = f" until {profile.expires_at.isoformat()}" if profile.expires_at else ""
    most = f" of {profile.max_channels}" if profile.max_channels else ", no limit"
    rate_limit = (
        f"; {profile.calls_per_second} calls a second at most" if profile.calls_per_second else ""
    )
    steps = [
        step(about, f"{profile.kind}, {profile.status}{until}{_or_refused(payer.standing)}"),
        step(
            about,
            f"{payer.channels} channels in use{most}{rate_limit}{_or_refused(payer.limit)}",
        ),
    ]
    if payer.rate is not None and payer.group is not None:
        steps.append(step(about, _row_text(payer.rate, payer)))
    if isinstance(payer.level, Refused):
        return [*steps, step(about, _or_refused(payer.level).removeprefix(": "))]
    terms = payer.level.price.terms
    exchange = ""
    if payer.group is not None and payer.group.tariff.currency != profile.currency:
        exchange = f", exchanged at {format_exchange(terms.exchange_e10)} to {profile.currency}"
    steps.append(step(about, terms_text(payer.level.price) + exchange))
    available = (
        f"{amount(payer.available_micros)} {profile.currency} available: "
        f"balance {amount(payer.balance_micros)} - reserved {amount(payer.reserved_micros)}"
        f" + credit limit {amount(profile.credit_limit_micros)}"
    )
    steps.append(step(about, available))
    if isinstance(payer.seconds, int):
        longest = simulation.longest_seconds
        whole = ", the longest call allowed" if payer.seconds == longest else ""
        steps.append(step(about, f"can pay {payer.seconds} s{whole}"))
    else:
        steps.append(step(about, f"can pay no second{_or_refused(payer.seconds)}"))
    return steps


def _row_text(rate: Rate, payer: Payer) -> str:
    assert payer.group is not None
    destination = f" ({rate.destination})" if rate.destination else ""
    whose = f"{payer.profile.code}'s own row" if payer.own else "row"
    end = f" to {rate.effective_to.isoformat()}" if rate.effective_to else ""
    return (
        f"prefix {rate.prefix}{destination}, {whose} {rate.rate_id} of rate group "
        f"{payer.group.name}{_band_text(rate)}, in force from "
        f"{rate.effective_from.isoformat()}{end}"
    )


def _band_text(rate: Rate) -> str:
    return f", for band {rate.band}" if rate.band else ""


def _or_refused(refused: Refused | None) -> str:
    if refused is None:
        return ""
    return f": refused, {refused.reason.value} ({refused.text})"


def _route_steps(simulation: Simulation, ledger: Ledger) -> list[Step]:
    if not simulation.payers:
        return []
    top = simulation.payers[-1]
    if top.group is None:
        return []
    within = simulation.within
    if within is not None:
        return [step("route", f"{within.name}: a number of our own, at {within.dial}")]
    about = f"rate group {top.group.name} of {top.profile.code}"
    if not simulation.ways_out:
        return [step("routes", f"nothing is attached to {about}: the switch routes by itself")]
    steps = [step("routes", f"of {about}, strategy {top.group.strategy}")]
    for way in simulation.ways_out:
        row = _route_row(way, ledger)
        name = f"{row['resource_group']} of {row['provider']}"
        if way.place is None:
            steps.append(step("not", f"{name}: {row['why']}"))
            continue
        steps.append(
            step(
                f"route {way.place}",
                f"{name}: dials {row['dial']}; prefix {row['prefix']} ({row['destination']})"
                f"{_band_text(way.route.rate) if way.route is not None else ''}, "
                f"{row['per_minute']} {row['currency']} a minute; {REFERENCE_CALL_SECONDS} s cost "
                f"{row['reference_cost']}; priority {row['priority']}{_more_text(row)}",
            )
        )
    return steps


def _more_text(row: Row) -> str:
    """What else is known of a route."""
    text = ""
    if row["margin_percent"] is not None:
        text += f"; {row['margin_percent']} % of the price are left"
    if row["share_percent"] is not None:
        text += f"; {row['share_percent']} % of the calls"
    if row["attempts"] is not None:
        text += f"; {row['asr_percent']} % of {row['attempts']} attempts answered"
    return text


def _answer_steps(simulation: Simulation, viewer: Viewer) -> list[Step]:
    answer = simulation.answer
    if isinstance(answer, Refused):
        row = _refusal_row(answer)
        return [
            step(
                "answer",
                f"refused, {row['reason']}: {row['text']}; h323-return-code "
                f"{row['h323_return_code']}, SIP {row['sip_status']}",
            )
        ]
    steps = [
        step(
            "reserves",
            f"{amount(held)} {payer.profile.currency} of {payer.profile.code}, "
            f"the price of {answer.seconds} s",
        )
        for payer, held in zip(_seen(simulation, viewer), simulation.reserved, strict=False)
    ]
    text = f"granted {answer.seconds} s"
    if not answer.final:
        text += f", a slice of {answer.credit_seconds} s"
    return [*steps, step("answer", text + _bound(simulation, answer, viewer))]


def _bound(simulation: Simulation, answer: Granted, viewer: Viewer) -> str:
    """What ends the time that was granted in all; nothing of levels that are not shown."""
    if answer.credit_seconds == simulation.longest_seconds:
        return ": the longest call allowed"
    poorest = [
        payer.profile.code
        for payer in _seen(simulation, viewer)
        if payer.seconds == answer.credit_seconds
    ]
    return f": as long as the money of {' and '.join(poorest)} lasts" if poorest else ""


def _talk_steps(simulation: Simulation, ledger: Ledger, viewer: Viewer) -> list[Step]:
    steps = []
    call, more = simulation.call, simulation.more
    if isinstance(more, Granted):
        steps.append(step("more", f"asked again when the slice is over: granted {more.seconds} s"))
    elif more is not None:
        steps.append(step("more", f"asked again when the slice is over{_or_refused(more)}"))
    charged = f", charged as {call.seconds} s" if call.seconds * 1000 != call.duration_ms else ""
    steps.append(step("talk", f"{call.duration_ms} ms{charged}"))
    steps += [step("flag", f"{flag}: {FLAGS.get(flag, '')}") for flag in call.flags]
    charges = _charges(simulation, ledger, viewer)
    for number, charge in charges.items():
        if number == PROVIDER:
            about = f"provider {charge.account_code}"
            used, free = call.offers[0].price, 0
        else:
            about = f"level {number} {charge.account_code}"
            used, free = call.levels[number].price, call.levels[number].package_seconds
        steps += arithmetic(about, used, call.seconds, charge, package_seconds=free)
    return steps + margins(charges, viewer)


# ------------------------------------------------------------------ both


def _seen(simulation: Simulation, viewer: Viewer) -> list[Payer]:
    """The levels that `viewer` may know of: from the caller up to itself."""
    return [payer for payer in simulation.payers if may(viewer, Deed.SEE, payer.profile.chain)]


def _charges(simulation: Simulation, ledger: Ledger, viewer: Viewer) -> dict[int, cdrs.Charge]:
    """By level, the provider last: what each party that `viewer` may know of would pay."""
    levels = range(len(_seen(simulation, viewer)))
    shown = [*levels, PROVIDER] if viewer.is_operator else levels
    by_level = {charge.level: charge for charge in simulation.charges}
    return {
        level: cdrs.Charge(
            level,
            _code(charge.account_id, ledger),
            charge.amount_micros,
            charge.currency,
            charge.billed_seconds,
            charge.rate_id,
            charge.prefix,
            "",
            "",
        )
        for level in shown
        if (charge := by_level.get(level)) is not None
    }


def _code(account_id: int, ledger: Ledger) -> str:
    account = ledger.accounts.get(account_id)
    return f"account {account_id}" if account is None else account.profile.code
