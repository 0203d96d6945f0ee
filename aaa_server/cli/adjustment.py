"""`sky-aaa adjustment`: corrections by hand, each with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import amount, output_option, show_record, show_rows
from aaa_server.cli.values import AMOUNT, WHEN
from aaa_server.storage import accounts, adjustments

if TYPE_CHECKING:
    from datetime import datetime


@click.group()
def adjustment() -> None:
    """Corrections by hand, up or down, each with a reason."""


# A negative amount looks like an option: whatever is not one is an argument.
@adjustment.command(context_settings={"ignore_unknown_options": True})
@click.argument("code")
@click.argument("amount_", metavar="AMOUNT", type=AMOUNT)
@click.option("--reason", required=True, help="It stands in the account's statement.")
@click.option(
    "--reference", default="", help="Unique: the same one again changes nothing.  [default: none]"
)
@output_option
@pass_session
def add(session: Session, code: str, amount_: int, reason: str, reference: str) -> None:
    """Add AMOUNT, such as 2.50 or -2.50, to account CODE; never take what calls have reserved."""
    with session.transaction() as work:
        one = accounts.find(work.cursor, work.viewer, code)
        done = adjustments.adjust(
            work.cursor, work.viewer, one, amount_, reason=reason, reference=reference
        )
        record = {
            "code": code,
            "posted": not done.again,
            "amount": amount(amount_),
            "balance": amount(done.balance_micros),
            "currency": one.currency,
            "reason": reason,
            "ledger_reference": done.reference,
            "transaction_id": done.transaction_id,
        }
        if not done.again:
            work.note("adjustment add", code, after=record, acting_as_id=one.parent_id)
    if done.again:
        click.echo(f"reference {reference} was posted before: nothing was changed", err=True)
    show_record(session, record)


@adjustment.command("list")
@click.option("--account", "code", metavar="CODE", help="Only of this account.")
@click.option("--from", "begin", type=WHEN)
@click.option("--to", "end", type=WHEN, help="Up to, not including.")
@click.option(
    "--limit", type=click.IntRange(1, adjustments.LIST_MAX), default=1000, show_default=True
)
@output_option
@pass_session
def list_(
    session: Session,
    code: str | None,
    begin: datetime | None,
    end: datetime | None,
    limit: int,
) -> None:
    """Adjustments with their reasons, the oldest first."""
    with session.transaction() as work:
        account_id = accounts.find(work.cursor, work.viewer, code).account_id if code else None
        found = adjustments.list_adjustments(
            work.cursor, work.viewer, account_id=account_id, begin=begin, end=end, limit=limit
        )
    columns = ("at", "code", "amount", "currency", "reason", "reference", "author")
    show_rows(
        session,
        columns,
        [
            {
                "at": one.at,
                "code": one.account_code,
                "amount": amount(one.amount_micros),
                "currency": one.currency,
                "reason": one.reason,
                "reference": one.reference,
                "author": one.author_code,
            }
            for one in found
        ],
    )
