"""`sky-aaa billing`: how an account is invoiced: its address, and how it is taxed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import output_option, percent, show_record
from aaa_server.cli.values import PERCENT
from aaa_server.storage import accounts, issuers

if TYPE_CHECKING:
    from aaa_server.storage.issuers import Profile


@click.group()
def billing() -> None:
    """How accounts are invoiced: name, address, VAT id, tax, discount."""


@billing.command("set")
@click.argument("code")
@click.option("--name", help="[default: the account's]")
@click.option("--street")
@click.option("--postcode")
@click.option("--city")
@click.option("--country", help="Two letters: ES. It decides the tax.")
@click.option("--vat-id", help="Its form and check digit are looked at.")
@click.option("--tax-number")
@click.option("--email", help="Where invoices go.  [default: the account's]")
@click.option("--reference", help="The buyer's own: a cost centre, a Leitweg-ID.")
@click.option("--treatment", type=click.Choice(["standard", "exempt", "reverse-charge"]))
@click.option("--exempt-reason", help="Stands on the invoice.")
@click.option("--tax-name", help="Of the country's rates: VAT.")
@click.option("--prices-include-tax/--prices-without-tax", "prices_include_tax", default=None)
@click.option("--discount", "discount_ppm", type=PERCENT, help="Off all usage, in per cent.")
@click.option("--payment-days", type=click.IntRange(0, 366), help="[default: the issuer's]")
@click.option("--itemised/--not-itemised", "itemised", default=None, help="Every call as an annex.")
@output_option
@pass_session
def set_(session: Session, /, code: str, **options: Any) -> None:
    """Change how CODE is invoiced; what is not named stays."""
    given = {key: value for key, value in options.items() if value is not None}
    if not given:
        raise click.UsageError("nothing to change: name at least one option")
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code)
        before = issuers.profile(work.cursor, account.account_id)
        after = issuers.set_profile(work.cursor, work.viewer, account, given)
        work.note(
            "billing set",
            code,
            before=_record(before),
            after=_record(after),
            acting_as_id=account.parent_id,
        )
    show_record(session, {"code": code, **_record(after)})


@billing.command()
@click.argument("code")
@output_option
@pass_session
def show(session: Session, code: str) -> None:
    """How CODE is invoiced."""
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code)
        found = issuers.profile(work.cursor, account.account_id)
    show_record(session, {"code": code, **_record(found)})


def _record(one: Profile) -> dict[str, Any]:
    record = one._asdict()
    del record["account_id"]
    record["discount"] = percent(record.pop("discount_ppm"))
    return record
