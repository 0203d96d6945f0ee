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
from aaa_server.cli.values import AMOUNT, COUNT, PRICE
from aaa_server.rating.money import PPM, div_half_up
from aaa_server.rating.prefix import number_of
from aaa_server.rating.tariff import Tariff
from aaa_server.storage import accounts, rates

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from aaa_server.cli.context import Work
    from aaa_server.cli.output import Row
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
            click.option("--connect-fee", type=AMOUNT),
            click.option("--included-seconds", type=COUNT, help="Free at the beginning."),
            click.option("--initial-seconds", type=COUNT, help="The first block's length."),
            click.option("--increment-seconds", type=click.IntRange(1), help="The next ones'."),
            click.option("--minimum-charge", type=AMOUNT),
            click.option("--blocked/--not-blocked", default=None, help="Refuse such calls."),
            click.option("--strip", type=click.IntRange(0, 32), help="Digits off the front."),
            click.option("--prepend", help="Digits before it, after --strip."),
            click.option("--priority", type=int, help="The lower goes first."),
        )
    ):
        command = option(command)
    return command


_FIELDS = {
    "per_minute": "per_minute_nanos",
    "connect_fee": "connect_fee_micros",
    "minimum_charge": "minimum_charge_micros",
}


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {_FIELDS.get(key, key): value for key, value in options.items() if value is not None}


@rate.command()
@click.argument("prefix")
@click.option("--per-minute", type=PRICE, required=True)
@click.option("--from", "begins", metavar="WHEN", help="[default: now]")
@click.option("--to", "ends", metavar="WHEN", help="[default: until changed or closed]")
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
    **options: Any,
) -> None:
    """Add a row for PREFIX, which has none at that time."""
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=True)
        row = rates.RateRow(
            prefix=_prefix(prefix),
            effective_from=instant(begins, prices, "--from"),
            effective_to=None if ends is None else instant(ends, prices, "--to"),
            **{
                "initial_seconds": prices.defaults.initial_seconds,
                "increment_seconds": prices.defaults.increment_seconds,
                **_given(options),
            },
        )
        rates.add_rate(work.cursor, prices.tariff_id, row, account_id=prices.account_id)
        assert row.effective_from is not None
        record = _now(work, prices, row.prefix, row.effective_from)
        work.note("rate add", _subject(prices, row.prefix), after=dict(record))
    show_record(session, record)


@rate.command("set")
@click.argument("prefix")
@click.option("--per-minute", type=PRICE)
@click.option("--from", "begins", metavar="WHEN", help="[default: now]")
@_row_options
@price_list_options
@output_option
@pass_session
def set_(
    session: Session, /, choice: Choice, prefix: str, begins: str | None, **options: Any
) -> None:
    """Change PREFIX from an instant on: its row ends there, a new one begins.

    What is not named stays as it is; so do rows that are planned for later.
    """
    values = _given(options)
    if not values:
        raise click.UsageError("nothing to change: name at least one option, such as --per-minute")
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=True)
        prefix, at = _prefix(prefix), instant(begins, prices, "--from")
        before = _now(work, prices, prefix, at)
        done = rates.set_rate(
            work.cursor, prices.tariff_id, prefix, values, at=at, account_id=prices.account_id
        )
        record = _now(work, prices, prefix, at)
        if not done.unchanged:
            work.note("rate set", _subject(prices, prefix), before=dict(before), after=dict(record))
    if done.unchanged:
        click.echo("it says so already: nothing was changed", err=True)
    show_record(session, record)


@rate.command()
@click.argument("prefix")
@click.option("--at", metavar="WHEN", help="[default: now]")
@price_list_options
@output_option
@pass_session
def close(session: Session, /, choice: Choice, prefix: str, at: str | None) -> None:
    """End the row of PREFIX; calls then go by the next shorter prefix.

    Closed at its very beginning, a row that is planned for later is taken back.
    """
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=True)
        prefix, ends = _prefix(prefix), instant(at, prices, "--at")
        was = rates.close_rate(
            work.cursor, prices.tariff_id, prefix, at=ends, account_id=prices.account_id
        )
        record = _record(was, prices.account_code) | {"effective_to": ends}
        work.note(
            "rate close",
            _subject(prices, prefix),
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
        [_record(one.rate, names[one.account_id]) for one in found[: rates.LIST_MAX]],
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
    # The same code decides as in a call, over the rows that can matter.
    chosen = _tariff(prices, found).rate_for(called, when, prices.account_id)
    show_record(
        session,
        {
            "number": called,
            "price_list": prices.name,
            "currency": prices.currency,
            "at": when,
            **_outcome(chosen, prices),
            "rows": Things(
                {
                    "prefix": one.rate.prefix,
                    "destination": one.rate.destination,
                    "per_minute": price(one.rate.terms.per_minute_nanos),
                    "of": names[one.account_id],
                    "effective_from": one.rate.effective_from,
                    "effective_to": one.rate.effective_to,
                    "verdict": _verdict(one, chosen, when),
                }
                for one in found
            ),
        },
    )
    if chosen is None:
        raise Failure(f"{prices.name} has no rate for {called} at that time")


def _tariff(prices: PriceList, found: list[Candidate]) -> Tariff:
    tariff = Tariff(prices.tariff_id, prices.currency)
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
        "per_minute": price(terms.per_minute_nanos),
        "markup_percent": percent(prices.markup_ppm),
        "per_minute_with_markup": price(marked_up),
        "connect_fee": amount(terms.connect_fee_micros),
        "included_seconds": terms.included_seconds,
        "interval": f"{terms.initial_seconds}/{terms.increment_seconds}",
        "minimum_charge": amount(terms.minimum_charge_micros),
        "strip": chosen.strip,
        "prepend": chosen.prepend,
    }


def _verdict(one: Candidate, chosen: Rate | None, when: datetime) -> str:
    mine = one.rate
    if mine is chosen:
        return "applies" if not mine.blocked else "applies: such calls are refused"
    if when < mine.effective_from:
        return "not in force yet"
    if mine.effective_to is not None and when >= mine.effective_to:
        return "ended"
    assert chosen is not None
    if len(mine.prefix) < len(chosen.prefix):
        return "a longer prefix goes first"
    return "the account's own row goes first"


def _prefix(text: str) -> str:
    prefix = text.removeprefix("+")
    if not prefix or number_of(prefix) != prefix:
        raise BadData(f"{text!r} is no prefix: 1 to 32 digits, * and # are")
    return prefix


def _subject(prices: PriceList, prefix: str) -> str:
    return " ".join(part for part in (prices.name, prices.account_code, prefix) if part)


def _now(work: Work, prices: PriceList, prefix: str, at: datetime) -> Row:
    """The prefix's row at that instant, as it is shown; empty when there is none."""
    for one in rates.list_rates(
        work.cursor, prices.tariff_id, at=at, account_id=prices.account_id, prefix=prefix, limit=1
    ):
        if one.rate.prefix == prefix:
            return _record(one.rate, prices.account_code)
    return {}


def _names(work: Work, found: list[Candidate]) -> dict[int, str]:
    own = sorted({one.account_id for one in found} - {0})
    return {0: "", **accounts.codes(work.cursor, own)}


def _record(row: Rate, of: str) -> dict[str, Any]:
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
        "of": of,
        "effective_from": row.effective_from,
        "effective_to": row.effective_to,
    }
