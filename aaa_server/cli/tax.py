"""`sky-aaa tax`: the rates that an issuer takes in a country, from a day on."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import output_option, percent, show_record, show_rows
from aaa_server.cli.values import PERCENT, checked
from aaa_server.storage import accounts, invoice_taxes, issuers
from aaa_server.storage.invoice_taxes import TaxRule
from aaa_server.storage.issuers import TaxRate
from aaa_server.storage.problem import NotFound

if TYPE_CHECKING:
    from aaa_server.cli.output import Row


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no day: 2026-11-22 is") from error


DAY = checked("day", _day)
COLUMNS = ("country", "name", "rate", "from", "to", "note")
RULE_COLUMNS = ("product", "item", "rate", "exempt")


@click.group()
def tax() -> None:
    """Tax rates by country and name: add, list, close; what is taxed otherwise: rule, rules."""


@tax.command()
@click.argument("country")
@click.argument("name")
@click.argument("rate", type=PERCENT)
@click.option("--from", "begin", type=DAY, default="2000-01-01", show_default=True)
@click.option("--to", "end", type=DAY, help="Up to, not including.")
@click.option("--note", default="", help="The law's words for the invoice.")
@click.option("--issuer", "code", default="", metavar="CODE", help="[default: who runs it]")
@output_option
@pass_session
def add(
    session: Session,
    country: str,
    name: str,
    rate: int,
    begin: date,
    end: date | None,
    note: str,
    code: str,
) -> None:
    """A RATE in per cent, in COUNTRY, from a day on; one of that NAME that runs ends there."""
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code or work.viewer.code)
        new = TaxRate(0, country.upper(), name, rate, note, begin, end)
        added = issuers.add_tax_rate(work.cursor, work.viewer, account, new)
        work.note("tax add", account.code, after=dict(_row(added)))
    show_record(session, _row(added))


@tax.command("list")
@click.option("--issuer", "code", default="", metavar="CODE", help="[default: who runs it]")
@output_option
@pass_session
def list_(session: Session, code: str) -> None:
    """All rates, also those that are over."""
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code or work.viewer.code)
        found = issuers.tax_rates(work.cursor, account.account_id)
    show_rows(session, COLUMNS, [_row(one) for one in found])


@tax.command()
@click.argument("country")
@click.argument("name")
@click.option("--on", "day", type=DAY, required=True, help="The first day without it.")
@click.option("--issuer", "code", default="", metavar="CODE", help="[default: who runs it]")
@pass_session
def close(session: Session, country: str, name: str, day: date, code: str) -> None:
    """End the running rate NAME of COUNTRY."""
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code or work.viewer.code)
        country = country.upper()
        closed = issuers.close_tax_rate(work.cursor, work.viewer, account, country, name, day)
        if not closed:
            raise NotFound(
                f"{account.code} has no running rate {name} of {country} on {day}: "
                "`sky-aaa tax list` shows them"
            )
        after = {"country": country, "name": name, "to": day.isoformat()}
        work.note("tax close", account.code, after=after)


@tax.command()
@click.argument("product", type=click.Choice(invoice_taxes.PRODUCTS))
@click.option("--item", default="", metavar="NAME", help="Only this subscription, package, number.")
@click.option("--rate", "name", default="", metavar="NAME", help="By this rate of the country.")
@click.option("--exempt", "reason", default="", metavar="REASON", help="No tax; why not.")
@click.option("--as-buyer", is_flag=True, help="Like its buyer again: no rule.")
@click.option("--issuer", "code", default="", metavar="CODE", help="[default: who runs it]")
@pass_session
def rule(
    session: Session, product: str, item: str, name: str, reason: str, as_buyer: bool, code: str
) -> None:
    """How PRODUCT, or one ITEM of it, is taxed when it is not as its buyer is."""
    if as_buyer and (name or reason):
        raise click.UsageError("--as-buyer takes the rule away: without --rate and --exempt")
    new = TaxRule(product, item.strip(), name.strip(), reason.strip())
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code or work.viewer.code)
        if as_buyer:
            invoice_taxes.remove_tax_rule(work.cursor, work.viewer, account, new.product, new.item)
            work.note("tax rule", account.code, before={"product": product, "item": new.item})
        else:
            invoice_taxes.set_tax_rule(work.cursor, work.viewer, account, new)
            work.note("tax rule", account.code, after=_rule(new))


@tax.command()
@click.option("--issuer", "code", default="", metavar="CODE", help="[default: who runs it]")
@output_option
@pass_session
def rules(session: Session, code: str) -> None:
    """What is taxed otherwise than its buyer is."""
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code or work.viewer.code)
        found = invoice_taxes.tax_rules(work.cursor, account.account_id)
    show_rows(session, RULE_COLUMNS, [_rule(one) for one in found])


def _rule(one: TaxRule) -> Row:
    return {
        "product": one.product,
        "item": one.item,
        "rate": one.tax_name,
        "exempt": one.exempt_reason,
    }


def _row(one: TaxRate) -> Row:
    return {
        "country": one.country,
        "name": one.name,
        "rate": percent(one.rate_ppm),
        "from": one.valid_from.isoformat(),
        "to": None if one.valid_to is None else one.valid_to.isoformat(),
        "note": one.legal_note,
    }
