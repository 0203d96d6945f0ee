"""`sky-aaa cdr`: what calls were, and why they cost what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aaa_server.charging.call import Level, Offer, Price, read_levels, read_offers
from aaa_server.charging.requests import Refusal
from aaa_server.cli.context import BadData, Session, Work, pass_session
from aaa_server.cli.output import (
    Amount,
    Things,
    amount,
    output_option,
    percent,
    price,
    show_record,
    show_rows,
)
from aaa_server.cli.values import WHEN
from aaa_server.rating.money import EXCHANGE_SCALE, NANOS, PPM, format_exchange
from aaa_server.rating.prefix import number_of
from aaa_server.rating.steps import nano_seconds
from aaa_server.storage import accounts, cdrs, disputes

if TYPE_CHECKING:
    from datetime import datetime

    from aaa_server.cli.output import Row
    from aaa_server.storage.cdrs import Cdr, Charge
    from aaa_server.storage.viewer import Viewer

DISPUTES_SHOWN_MAX = 20
FOUND_BY = {
    "argument": "the account code that the switch gave",
    "extension": "the extension map",
    "ani": "the ANI map: the caller's number",
    "resource-group": "the inbound resource group that the call arrived over",
    "did": "the number that was called: its owner pays",
}
ENDED_BY = {
    "stop": "the switch's Stop",
    "end": "the script's end of the call; its channel went on",
    "expiry": "silence: no Stop came within the grace after its granted time",
    "reboot": "the switch's restart (Accounting-On or -Off)",
    "operator": "the operator",
}
REFUSED = {
    Refusal.INVALID_ACCOUNT: "no account was found, or the one that was named does not exist",
    Refusal.INVALID_PASSWORD: "the password or PIN was wrong",
    Refusal.IN_USE: "a limit of channels or of calls per second was reached",
    Refusal.NO_CREDIT: "prepaid, and nothing was available",
    Refusal.EXPIRED: "the account had expired",
    Refusal.CREDIT_LIMIT: "postpaid, and the credit limit was reached",
    Refusal.SUSPENDED: "the account, or one above it, was suspended or closed",
    Refusal.NO_ROUTE: "no resource group could carry the call",
    Refusal.BLOCKED: "the number is blocked, in a price list or by a number rule",
    Refusal.VELOCITY: "a limit of calls, minutes or money in a period was reached",
    Refusal.RETRIES: "too many wrong attempts",
    Refusal.INVALID_ARGUMENT: "the request did not make sense",
    Refusal.NOT_ENOUGH: "something was available, but not enough for one second of this call",
    Refusal.NO_RATE: "a price list has no row for the number",
}
FLAGS = {
    "no-authorization": "only accounting told of it: it was rated when it ended",
    "unrated": "it could not be rated: no account, or no price for the number",
    "longer-than-granted": "it lasted longer than was granted, and was charged as reported",
    "longer-than-elapsed": "the reported talk time is longer than the time since authorisation",
    "rerated": "it was charged anew by price lists that were entered later",
    "emergency": "an emergency number: it passes at price 0",
    "refused-but-talked": "it was refused, and the switch reports talk time: nothing was charged",
    "silent": "no Stop came: it was closed at its last known second",
    "nothing-known": "no Stop came, and no second of talk was known",
    "late-stop": "its Stop came after it was closed: the difference was posted",
    "duration-unknown": "its Stop did not say how long it was: its last known second was charged",
    "route-assumed": "the switch named no known route that answered: the first one was taken",
    "route-not-offered": "it went out over a route that it was not offered",
    "no-route-cost": "no route was known: the provider's cost is missing",
}
EXACT_DECIMALS = 12


@click.group()
def cdr() -> None:
    """Call records: one a call, with a charge for each level."""


@cdr.command("list")
@click.option("--account", "code", metavar="CODE", help="Its calls, and of all below it.")
@click.option("--from", "begin", type=WHEN, help="Ended at or after this.")
@click.option("--to", "end", type=WHEN, help="Ended before this.")
@click.option("--number", default="", help="Caller or called number, or how it begins.")
@click.option("--refused/--charged", "refused", default=None, help="Only refused, or none of them.")
@click.option("--before", type=int, metavar="CALL", help="Go on below this call.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@output_option
@pass_session
def list_(
    session: Session,
    code: str | None,
    begin: datetime | None,
    end: datetime | None,
    number: str,
    refused: bool | None,
    before: int | None,
    limit: int,
) -> None:
    """The latest calls first. Cost: what the one who looks pays for the call."""
    digits = number_of(number)
    if number and not digits:
        raise BadData(f"{number!r} is no number")
    with session.transaction() as work:
        account_id = None
        if code is not None:
            account_id = accounts.find(work.cursor, work.viewer, code).account_id
        wanted = cdrs.Filter(account_id, begin, end, digits, refused, before, limit)
        found = cdrs.list_cdrs(work.cursor, work.viewer, wanted)
        operator = work.viewer.is_operator
    columns = ["call", "ended_at", "account", "from", "to", "seconds", "charge", "currency"]
    columns += ["cost", "cost_currency"]
    columns += ["route", "cause", "refused"] if operator else ["cause", "refused"]
    show_rows(session, columns, [_row(one) for one in found])
    if len(found) == limit:
        click.echo(f"{limit} shown: go on with --before {found[-1].call_id}", err=True)


def _row(one: Cdr) -> Row:
    return {
        "call": one.call_id,
        "ended_at": one.ended_at,
        "account": one.account_code,
        "from": one.ani,
        "to": one.called,
        "seconds": one.seconds,
        "charge": amount(one.amount_micros),
        "currency": one.currency,
        "cost": amount(one.cost_micros),
        "cost_currency": one.cost_currency,
        "route": one.route,
        "cause": one.cause,
        "refused": one.refusal,
    }


@cdr.command()
@click.argument("call", metavar="ID")
@output_option
@pass_session
def show(session: Session, call: str) -> None:
    """One call: by its number, its session or its SIP Call-ID."""
    with session.transaction() as work:
        record = call_record(work, cdrs.find(work.cursor, work.viewer, call))
    show_record(session, record)


def call_record(work: Work, one: Cdr) -> Row:
    """All about an ended call that the viewer may know, with what each party pays."""
    flags = cdrs.details(work.cursor, work.viewer, one.call_id).flags
    charges = cdrs.charges(work.cursor, work.viewer, one.call_id)
    record: dict[str, Any] = {
        "call": one.call_id,
        "account": one.account_code,
        "found_by": one.found_by,
        "from": one.ani,
        "to": one.called,
        "authorized_at": one.authorized_at,
        "started_at": one.started_at,
        "ended_at": one.ended_at,
        "ended_by": one.ended_by,
        "granted_seconds": one.granted_seconds,
        "duration_ms": one.duration_ms,
        "seconds": one.seconds,
        "cause": one.cause,
        "refused": one.refusal,
        "flags": list(flags),
        "resource_group_in": one.resource_group_in,
        "session": one.session_key,
        "sip_call_id": one.sip_call_id,
    }
    if work.viewer.is_operator:
        record |= {"route": one.route, "client": one.client, "nas_address": one.nas_address}
    record["charges"] = Things(_charge_row(charge, work.viewer) for charge in charges)
    found = disputes.list_disputes(
        work.cursor, work.viewer, resolved=True, limit=DISPUTES_SHOWN_MAX, call_id=one.call_id
    )
    if found:
        record["disputes"] = Things(_dispute_row(dispute) for dispute in found)
    return record


@cdr.command()
@click.argument("call", metavar="ID")
@click.option("--reason", help="Open a dispute: what is wrong with the charge.")
@click.option("--resolve", "outcome", metavar="TEXT", help="Close it: what came of it.")
@output_option
@pass_session
def dispute(session: Session, call: str, reason: str | None, outcome: str | None) -> None:
    """Mark a call's charge as disputed, or close the dispute.

    It moves no money: `rerate` and `adjustment` do.
    """
    if (reason is None) == (outcome is None):
        raise click.UsageError("say --reason to open a dispute, or --resolve to close it")
    with session.transaction() as work:
        if reason is not None:
            written = disputes.open_dispute(work.cursor, work.viewer, call, reason)
        else:
            written = disputes.resolve(work.cursor, work.viewer, call, outcome or "")
        work.note("cdr dispute", str(written.call_id), after={"reason": reason, "outcome": outcome})
    show_record(session, _dispute_row(written))


@cdr.command("disputes")
@click.option("--all", "resolved", is_flag=True, help="Those that were resolved too.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@output_option
@pass_session
def disputes_(session: Session, resolved: bool, limit: int) -> None:
    """Disputed charges, the newest first."""
    with session.transaction() as work:
        found = disputes.list_disputes(work.cursor, work.viewer, resolved=resolved, limit=limit)
    rows = [_dispute_row(dispute) for dispute in found]
    show_rows(session, ("call", "account", "opened_at", "reason", "resolved_at", "outcome"), rows)


def _dispute_row(dispute: disputes.Dispute) -> Row:
    return {
        "call": dispute.call_id,
        "account": dispute.account_code,
        "opened_at": dispute.opened_at,
        "opened_by": dispute.opened_by,
        "reason": dispute.reason,
        "resolved_at": dispute.resolved_at,
        "outcome": dispute.outcome,
    }


def _charge_row(charge: Charge, viewer: Viewer) -> Row:
    row = {
        "level": "provider" if charge.level < 0 else charge.level,
        "account": charge.account_code,
        "amount": amount(charge.amount_micros),
        "currency": charge.currency,
        "billed_seconds": charge.billed_seconds,
        "prefix": charge.prefix,
        "destination": charge.destination,
        "rate_group": charge.rate_group,
    }
    if not viewer.is_operator:
        del row["level"]
    return row


# ------------------------------------------------------------------ explain


@cdr.command()
@click.argument("call", metavar="ID")
@output_option
@pass_session
def explain(session: Session, call: str) -> None:
    """Why call ID cost what it cost, or why it was refused: every step of every level."""
    with session.transaction() as work:
        one = cdrs.find(work.cursor, work.viewer, call)
        steps = _steps(work, one)
    show_steps(session, steps)


def show_steps(session: Session, steps: list[dict[str, str]]) -> None:
    """What was looked at, in order, and what came of it; made by `step`."""
    if session.output == "table":
        width = max(len(one["about"]) for one in steps)
        before = ""
        for one in steps:
            about = one["about"] if one["about"] != before else ""
            click.echo(f"{about.ljust(width)}  {one['what']}")
            before = one["about"]
        return
    show_rows(session, ("about", "what"), steps)


def _steps(work: Work, one: Cdr) -> list[dict[str, str]]:
    details = cdrs.details(work.cursor, work.viewer, one.call_id)
    charges = {
        charge.level: charge for charge in cdrs.charges(work.cursor, work.viewer, one.call_id)
    }
    steps = [step("call", f"{one.call_id}, {one.ani or 'no caller'} to {one.called or 'nowhere'}")]
    if one.account_code is None:
        steps.append(step("account", "none: no rule found whose call it is"))
    else:
        rule = FOUND_BY.get(one.found_by or "", one.found_by or "no rule")
        steps.append(step("account", f"{one.account_code}, found by {rule}"))
    if one.refusal is not None:
        meaning = {reason.value: text for reason, text in REFUSED.items()}.get(one.refusal, "")
        steps.append(step("refused", f"{one.refusal}: {meaning}"))
    steps.append(step("authorized", f"at {one.authorized_at.isoformat()}: prices of this instant"))
    if one.granted_seconds:
        steps.append(step("granted", f"{one.granted_seconds} s in total"))
    steps += _ending(one)
    steps += [step("flag", f"{flag}: {FLAGS.get(flag, '')}") for flag in details.flags]
    levels = read_levels(details.levels)
    codes = accounts.codes(work.cursor, [level.account_id for level in levels])
    for number, level in enumerate(levels):
        code = codes.get(level.account_id, f"account {level.account_id}")
        steps += _level(f"level {number} {code}", level, one.seconds, charges.get(number))
    if work.viewer.is_operator:
        steps += _provider(one, read_offers(details.routes), charges.get(-1))
    steps += margins(charges, work.viewer)
    if not levels and one.refusal is None:
        steps.append(step("charges", "none: the call has no prices"))
    return steps


def step(about: str, what: str) -> dict[str, str]:
    """One line of `show_steps`."""
    return {"about": about, "what": what}


def _ending(one: Cdr) -> list[dict[str, str]]:
    cause = f", cause {one.cause}" if one.cause else ""
    ended = f"at {one.ended_at.isoformat()} by {ENDED_BY.get(one.ended_by, one.ended_by)}{cause}"
    talk = f"{one.duration_ms} ms reported, a begun second counts: {-(-one.duration_ms // 1000)} s"
    if one.seconds != -(-one.duration_ms // 1000):
        talk += f"; charged as {one.seconds} s"
    return [step("ended", ended), step("talk", talk)]


def _level(about: str, level: Level, seconds: int, charge: Charge | None) -> list[dict[str, str]]:
    destination = f" ({charge.destination})" if charge is not None and charge.destination else ""
    of_group = (
        f" of rate group {charge.rate_group}" if charge is not None and charge.rate_group else ""
    )
    row = f"prefix {level.price.prefix}{destination}, row {level.price.rate_id}{of_group}"
    if not level.price.rate_id:
        row = f"the price of number {level.price.prefix}"
    terms = step(about, terms_text(level.price))
    used = arithmetic(about, level.price, seconds, charge, package_seconds=level.package_seconds)
    return [step(about, row), terms, *used]


def terms_text(price_: Price) -> str:
    """A price in words, in its price list's currency."""
    terms = price_.terms
    texts = [f"{price(terms.per_minute_nanos)} {price_.currency} a minute"]
    texts += [f"after {after} s billed {price(nanos)}" for after, nanos in terms.steps]
    if terms.markup_ppm:
        texts.append(f"markup {percent(terms.markup_ppm)} %")
    if terms.connect_fee_micros:
        texts.append(f"connect fee {amount(terms.connect_fee_micros)}")
    if terms.minimum_charge_micros:
        texts.append(f"minimum {amount(terms.minimum_charge_micros)}")
    if terms.included_seconds:
        texts.append(f"{terms.included_seconds} s included")
    texts.append(f"first block {terms.initial_seconds} s, then {terms.increment_seconds} s")
    return ", ".join(texts)


def arithmetic(
    about: str,
    price_: Price,
    seconds: int,
    charge: Charge | None,
    *,
    package_seconds: int = 0,
) -> list[dict[str, str]]:
    """What a price makes of a call's seconds, in the order in which it is worked out."""
    if not seconds:
        return [step(about, "0 s cost nothing, not even a connect fee")]
    terms = price_.terms
    billed = terms.billed_seconds(seconds, package_seconds)
    talked = f"{seconds} s"
    if terms.included_seconds:
        left = max(0, seconds - terms.included_seconds)
        talked += f" less {terms.included_seconds} s included = {left} s"
    if package_seconds:
        left = max(0, seconds - terms.included_seconds - package_seconds)
        talked += f" less {package_seconds} s of packages = {left} s"
    steps = [step(about, f"{talked}: billed as {billed} s, whole blocks")]
    if package_seconds and not billed and not terms.included_seconds:
        steps.append(step(about, "all of it from packages: no connect fee, no minimum"))
    else:
        exact = f"{billed} s cost {_exact(price_, billed)} {price_.currency} exactly"
        steps.append(step(about, exact))
    if terms.exchange_e10 != EXCHANGE_SCALE:
        steps.append(
            step(about, f"exchanged at {format_exchange(terms.exchange_e10)}, as of authorisation")
        )
    if charge is not None:
        steps.append(
            step(
                about,
                f"rounded once, half up: {amount(charge.amount_micros)} {charge.currency}",
            )
        )
    return steps


def _exact(price_: Price, billed: int) -> Amount:
    """The price before exchange and rounding: connect fee, markup and minimum charge included."""
    terms = price_.terms
    scale = 10**EXACT_DECIMALS
    unit = NANOS * PPM * 60
    exact = nano_seconds(terms, billed) * (PPM + terms.markup_ppm) * scale
    fee = terms.connect_fee_micros * unit * (scale // PPM)
    minimum = terms.minimum_charge_micros * unit * (scale // PPM)
    whole, rest = divmod(max(minimum, fee + exact), unit)
    digits = f"{whole:0{EXACT_DECIMALS + 1}d}"
    text = f"{digits[:-EXACT_DECIMALS]}.{digits[-EXACT_DECIMALS:]}"
    if rest:
        return Amount(text + "…")
    cents = text.rstrip("0")
    return Amount(cents + "00"[: max(0, 2 - len(cents.partition(".")[2]))])


def _provider(one: Cdr, offers: tuple[Offer, ...], charge: Charge | None) -> list[dict[str, str]]:
    steps = [
        step(
            "route",
            f"offered {place}: {offer.name} ({offer.dial}), "
            f"{price(offer.price.terms.per_minute_nanos)} {offer.price.currency} a minute",
        )
        for place, offer in enumerate(offers, start=1)
    ]
    if charge is None:
        if one.refusal is None:
            steps.append(
                step("route", "no provider's cost: the call did not talk, or had no route")
            )
        return steps
    steps.append(step("route", f"{one.route or 'unknown'} answered"))
    about = f"provider {charge.account_code}"
    used = [offer for offer in offers if offer.name == one.route]
    steps.append(
        step(about, f"prefix {charge.prefix} ({charge.destination}), row {charge.rate_id}")
    )
    if used:
        steps.append(step(about, terms_text(used[0].price)))
        steps += arithmetic(about, used[0].price, one.seconds, charge)
    else:
        steps.append(step(about, f"gets {amount(charge.amount_micros)} {charge.currency}"))
    return steps


def margins(charges: dict[int, Charge], viewer: Viewer) -> list[dict[str, str]]:
    """What each seller keeps: what the level below it pays, less what it pays itself.

    Left out where the two are in different currencies.
    """
    levels = [charges[number] for number in sorted(charges) if number >= 0]
    sellers = [(charge.account_code, charge) for charge in levels[1:]]
    if -1 in charges:
        sellers.append((viewer.code, charges[-1]))
    return [
        step(
            "margin",
            f"{seller} {amount(sold.amount_micros - bought.amount_micros)} {bought.currency}",
        )
        for sold, (seller, bought) in zip(levels, sellers, strict=False)
        if sold.currency == bought.currency
    ]
