"""`sky-aaa rate`: single rows of a price list, and which of them applies to a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli import price_list
from aaa_server.cli.context import BadData, Failure, Session, pass_session
from aaa_server.cli.output import (
    Things,
    amount,
    output_option,
    percent,
    price,
    show_record,
    show_rows,
)
from aaa_server.cli.price_list import Choice, PriceList, instant, price_list_options
from aaa_server.cli.values import COUNT, FEE, PRICE, RESOURCE_GROUP, checked
from aaa_server.rating.bounds import checked_price
from aaa_server.rating.money import PPM, div_half_up
from aaa_server.rating.prefix import number_of
from aaa_server.rating.steps import format_steps, ordered, parse_step
from aaa_server.rating.tariff import Tariff
from aaa_server.storage import accounts, rate_bands, rates
from aaa_server.storage.viewer import require_operator

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from aaa_server.cli.context import Work
    from aaa_server.cli.output import Row
    from aaa_server.rating.band import Bands
    from aaa_server.rating.rate import Rate
    from aaa_server.storage.rates import Candidate

COLUMNS = (
    "prefix",
    "destination",
    "per_minute",
    "connect_fee",
    "interval",
    "included_seconds",
    "minimum_charge",
    "blocked",
    "band",
    "steps",
    "route",
    "of",
    "effective_from",
    "effective_to",
)


@click.group()
def rate() -> None:
    """Rates: rows of a rate group (what we charge) or resource group (what we pay)."""


def _row_options(command: Callable[..., None]) -> Callable[..., None]:
    """The columns of a row that `add` and `set` share."""
    for option in reversed(
        (
            click.option("--destination", help="A name for people."),
            click.option("--connect-fee", type=FEE),
            click.option("--included-seconds", type=COUNT, help="Free at the beginning."),
            click.option("--initial-seconds", type=COUNT, help="The first block's length."),
            click.option("--increment-seconds", type=click.IntRange(1), help="The next ones'."),
            click.option("--minimum-charge", type=FEE),
            click.option("--blocked/--not-blocked", default=None, help="Refuse such calls."),
            click.option("--strip", type=click.IntRange(0, 32), help="Digits off the front."),
            click.option("--prepend", help="Digits before it, after --strip."),
            click.option("--priority", type=int, help="The lower goes first."),
            click.option(
                "--step",
                "steps",
                multiple=True,
                type=checked("seconds:price", parse_step),
                help="300:0.02: the price after so many billed seconds; repeatable, all at once.",
            ),
            click.option(
                "--route",
                type=RESOURCE_GROUP,
                help="The one way out of such calls; the operator's.",
            ),
        )
    ):
        command = option(command)
    return command


_band_option = click.option(
    "--band", default="", metavar="NAME", help="The row for these times.  [default: all others]"
)
_FIELDS = {
    "per_minute": "per_minute_nanos",
    "connect_fee": "connect_fee_micros",
    "minimum_charge": "minimum_charge_micros",
}


def _given(options: dict[str, Any]) -> dict[str, Any]:
    steps = options.pop("steps")
    given = {_FIELDS.get(key, key): value for key, value in options.items() if value is not None}
    if steps:
        try:
            given["steps"] = ordered(list(steps))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--step") from error
    return given


def _check_prices(given: dict[str, Any], prices: PriceList) -> None:
    """Raises `BadData` for a price too large for the exchange rates of the list's currency."""
    named = [given["per_minute_nanos"]] if "per_minute_nanos" in given else []
    try:
        for nanos in (*named, *(nanos for _, nanos in given.get("steps", ()))):
            checked_price(nanos, prices.defaults.price_nanos_max)
    except ValueError as error:
        raise BadData(str(error)) from error


def _with_route(given: dict[str, Any], prices: PriceList, work: Work) -> dict[str, Any]:
    """The values with the number of the resource group that --route names."""
    name = given.pop("route", None)
    if name is None:
        return given
    require_operator(work.viewer, "forced routes")
    if name not in prices.defaults.routes:
        raise BadData(
            f"{name}: the calls of {prices.name} can be forced over outbound resource groups, and "
            "there is no such one"
            if prices.defaults.routes
            else f"{prices.name} says what providers charge: calls are forced over a route by the "
            "rates that they are sold at"
        )
    return {**given, "resource_group_id": prices.defaults.routes[name]}


@rate.command()
@click.argument("prefix")
@click.option("--per-minute", type=PRICE, required=True)
@click.option("--from", "begins", metavar="WHEN", help="[default: now]")
@click.option("--to", "ends", metavar="WHEN", help="[default: until changed or closed]")
@_band_option
@_row_options
@price_list_options
@output_option
@pass_session
def add(
    session: Session,
    /,
    choice: Choice,
    prefix: str,
    begins: str | None,
    ends: str | None,
    band: str,
    **options: Any,
) -> None:
    """Add a row for PREFIX, which has none of that --band at that time."""
    given = _given(options)
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=True)
        _check_prices(given, prices)
        row = rates.RateRow(
            prefix=_prefix(prefix),
            band=band,
            effective_from=instant(begins, prices, "--from"),
            effective_to=None if ends is None else instant(ends, prices, "--to"),
            **{
                "initial_seconds": prices.defaults.initial_seconds,
                "increment_seconds": prices.defaults.increment_seconds,
                **_with_route(given, prices, work),
            },
        )
        rates.add_rate(work.cursor, prices.tariff_id, row, account_id=prices.account_id)
        assert row.effective_from is not None
        record = _now(work, prices, row.prefix, row.effective_from, band)
        work.note("rate add", _subject(prices, row.prefix, band), after=dict(record))
    show_record(session, record)


@rate.command("set")
@click.argument("prefix")
@click.option("--per-minute", type=PRICE)
@click.option("--from", "begins", metavar="WHEN", help="[default: now]")
@click.option("--no-steps", is_flag=True, help="One price from beginning to end.")
@click.option("--no-route", is_flag=True, help="Over any route again.")
@_band_option
@_row_options
@price_list_options
@output_option
@pass_session
def set_(
    session: Session,
    /,
    choice: Choice,
    prefix: str,
    begins: str | None,
    no_steps: bool,
    no_route: bool,
    band: str,
    **options: Any,
) -> None:
    """Change PREFIX from an instant on: its row ends there, a new one begins.

    What is not named stays as it is; so do rows that are planned for later, and rows of
    other bands.
    """
    values = _given(options)
    for flag, field in ((no_steps, "steps"), (no_route, "route")):
        if flag and field in values:
            raise click.UsageError(f"--no-{field} and --{field.removesuffix('s')}: one of them")
    if no_steps:
        values["steps"] = ()
    if no_route:
        values["resource_group_id"] = 0
    if not values:
        raise click.UsageError("nothing to change: name at least one option, such as --per-minute")
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=True)
        _check_prices(values, prices)
        prefix, at = _prefix(prefix), instant(begins, prices, "--from")
        before = _now(work, prices, prefix, at, band)
        done = rates.set_rate(
            work.cursor,
            prices.tariff_id,
            prefix,
            _with_route(values, prices, work),
            at=at,
            account_id=prices.account_id,
            band=band,
        )
        record = _now(work, prices, prefix, at, band)
        if not done.unchanged:
            subject = _subject(prices, prefix, band)
            work.note("rate set", subject, before=dict(before), after=dict(record))
    if done.unchanged:
        click.echo("it says so already: nothing was changed", err=True)
    show_record(session, record)


@rate.command()
@click.argument("prefix")
@click.option("--at", metavar="WHEN", help="[default: now]")
@_band_option
@price_list_options
@output_option
@pass_session
def close(session: Session, /, choice: Choice, prefix: str, at: str | None, band: str) -> None:
    """End the row of PREFIX; calls then go by the next shorter prefix.

    Closed at its very beginning, a row that is planned for later is taken back.
    """
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=True)
        prefix, ends = _prefix(prefix), instant(at, prices, "--at")
        was = rates.close_rate(
            work.cursor, prices.tariff_id, prefix, at=ends, account_id=prices.account_id, band=band
        )
        record = _record(was, prices) | {"effective_to": ends}
        work.note(
            "rate close",
            _subject(prices, prefix, band),
            before={"effective_to": was.effective_to},
            after={"effective_to": ends},
        )
    show_record(session, record)


@rate.command("list")
@click.option("--prefix", default="", help="Those that begin with these digits.")
@click.option("--at", metavar="WHEN", help="In force then.  [default: now]")
@click.option("--all-times", is_flag=True, help="Also those that have ended or are planned.")
@price_list_options
@output_option
@pass_session
def list_(
    session: Session, /, choice: Choice, prefix: str, at: str | None, all_times: bool
) -> None:
    """The rows of a price list, everybody's and accounts' own."""
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=False)
        found = rates.list_rates(
            work.cursor,
            prices.tariff_id,
            at=None if all_times else instant(at, prices, "--at"),
            account_id=prices.account_id or None,
            prefix=_prefix(prefix) if prefix else "",
            limit=rates.LIST_MAX + 1,
        )
        names = _names(work, found)
    if len(found) > rates.LIST_MAX:
        click.echo(f"only the first {rates.LIST_MAX} are shown: --prefix narrows it down", err=True)
    show_rows(
        session,
        COLUMNS,
        [_record(one.rate, prices, names[one.account_id]) for one in found[: rates.LIST_MAX]],
    )


@rate.command()
@click.argument("number")
@click.option("--at", metavar="WHEN", help="[default: now]")
@price_list_options
@output_option
@pass_session
def lookup(session: Session, /, choice: Choice, number: str, at: str | None) -> None:
    """Which row applies to NUMBER, and why.

    --account CODE alone asks the price list that the account pays by, its own rows first.
    """
    called = number_of(number)
    if not called:
        raise BadData(f"{number!r} is no number: digits, * and # are, with or without a +")
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=False)
        when = instant(at, prices, "--at")
        found = rates.candidates(
            work.cursor, prices.tariff_id, called, account_id=prices.account_id
        )
        names = _names(work, found)
        bands = rate_bands.bands_of(work.cursor, prices.tariff_id, prices.defaults.time_zone)
    # The same code decides as in a call, over the rows that can matter.
    tariff = _tariff(prices, found, bands)
    chosen = tariff.rate_for(called, when, prices.account_id)
    band = tariff.band_at(when)
    show_record(
        session,
        {
            "number": called,
            "price_list": prices.name,
            "currency": prices.currency,
            "at": when,
            "band": band or None,
            **_outcome(chosen, prices),
            "rows": Things(
                {
                    "prefix": one.rate.prefix,
                    "destination": one.rate.destination,
                    "per_minute": price(one.rate.terms.per_minute_nanos),
                    "band": one.rate.band,
                    "of": names[one.account_id],
                    "effective_from": one.rate.effective_from,
                    "effective_to": one.rate.effective_to,
                    "verdict": _verdict(one, chosen, when, band),
                }
                for one in found
            ),
        },
    )
    if chosen is None:
        raise Failure(f"{prices.name} has no rate for {called} at that time")


def _tariff(prices: PriceList, found: list[Candidate], bands: Bands | None) -> Tariff:
    tariff = Tariff(prices.tariff_id, prices.currency)
    tariff.use_bands(bands)
    rows: dict[tuple[int, str], list[Rate]] = {}
    for one in found:
        rows.setdefault((one.account_id, one.rate.prefix), []).append(one.rate)
    for (account_id, prefix), mine in rows.items():
        tariff.replace(account_id, prefix, mine)
    return tariff


def _outcome(chosen: Rate | None, prices: PriceList) -> Row:
    if chosen is None:
        return {"prefix": None, "blocked": None, "per_minute": None}
    terms = chosen.terms
    marked_up = div_half_up(terms.per_minute_nanos * (PPM + prices.markup_ppm), PPM)
    return {
        "prefix": chosen.prefix,
        "destination": chosen.destination,
        "blocked": chosen.blocked,
        "row_of_band": chosen.band or None,
        "per_minute": price(terms.per_minute_nanos),
        "steps": format_steps(terms.steps),
        "markup_percent": percent(prices.markup_ppm),
        "per_minute_with_markup": price(marked_up),
        "connect_fee": amount(terms.connect_fee_micros),
        "included_seconds": terms.included_seconds,
        "interval": f"{terms.initial_seconds}/{terms.increment_seconds}",
        "minimum_charge": amount(terms.minimum_charge_micros),
        "strip": chosen.strip,
        "prepend": chosen.prepend,
        "route": _route(chosen, prices),
    }


def _verdict(one: Candidate, chosen: Rate | None, when: datetime, band: str) -> str:
    mine = one.rate
    if mine is chosen:
        return "applies" if not mine.blocked else "applies: such calls are refused"
    if when < mine.effective_from:
        return "not in force yet"
    if mine.effective_to is not None and when >= mine.effective_to:
        return "ended"
    if mine.band not in ("", band):
        return f"the band is {band} then" if band else "no band is in force then"
    assert chosen is not None
    if len(mine.prefix) < len(chosen.prefix):
        return "a longer prefix goes first"
    if mine.band != chosen.band and not mine.band:
        return f"the row of band {chosen.band} goes first"
    return "the account's own row goes first"


def _prefix(text: str) -> str:
    prefix = text.removeprefix("+")
    if not prefix or number_of(prefix) != prefix:
        raise BadData(f"{text!r} is no prefix: 1 to 32 digits, * and # are")
    return prefix


def _subject(prices: PriceList, prefix: str, band: str) -> str:
    return " ".join(part for part in (prices.name, prices.account_code, prefix, band) if part)


def _now(work: Work, prices: PriceList, prefix: str, at: datetime, band: str) -> Row:
    """The prefix's row of that band and instant, as it is shown; empty when there is none."""
    for one in rates.candidates(
        work.cursor, prices.tariff_id, prefix, account_id=prices.account_id
    ):
        row = one.rate
        if (
            (one.account_id, row.prefix, row.band) == (prices.account_id, prefix, band)
            and row.effective_from <= at
            and (row.effective_to is None or at < row.effective_to)
        ):
            return _record(row, prices)
    return {}


def _route(row: Rate, prices: PriceList) -> str:
    """The resource group that the row forces; '' for everybody whom routes do not concern."""
    names = {number: name for name, number in prices.defaults.routes.items()}
    return names.get(row.resource_group_id, "")


def _names(work: Work, found: list[Candidate]) -> dict[int, str]:
    own = sorted({one.account_id for one in found} - {0})
    return {0: "", **accounts.codes(work.cursor, own)}


def _record(row: Rate, prices: PriceList, of: str | None = None) -> dict[str, Any]:
    terms = row.terms
    return {
        "prefix": row.prefix,
        "destination": row.destination,
        "per_minute": price(terms.per_minute_nanos),
        "connect_fee": amount(terms.connect_fee_micros),
        "interval": f"{terms.initial_seconds}/{terms.increment_seconds}",
        "included_seconds": terms.included_seconds,
        "minimum_charge": amount(terms.minimum_charge_micros),
        "blocked": row.blocked,
        "strip": row.strip,
        "prepend": row.prepend,
        "priority": row.priority,
        "band": row.band,
        "steps": format_steps(terms.steps),
        "route": _route(row, prices),
        "of": prices.account_code if of is None else of,
        "effective_from": row.effective_from,
        "effective_to": row.effective_to,
    }
