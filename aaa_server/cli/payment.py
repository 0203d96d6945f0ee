"""`sky-aaa payment`: what accounts paid, what providers were paid, and what was paid back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import amount, output_option, show_record, show_rows
from aaa_server.cli.values import AMOUNT, WHEN
from aaa_server.storage import accounts, payments, refunds

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.cli.output import Row
    from aaa_server.storage.payments import Payment
    from aaa_server.storage.viewer import Viewer

COLUMNS = (
    "at",
    "code",
    "method",
    "reference",
    "amount",
    "refunded",
    "currency",
    "note",
)


@click.group()
def payment() -> None:
    """Payments of accounts to their sellers, of the operator to providers; refunds."""


@payment.command()
@click.argument("code")
@click.argument("amount_", metavar="AMOUNT", type=AMOUNT)
@click.option("--method", required=True, help="How it was paid: bank-transfer, card, cash …")
@click.option(
    "--reference", required=True, help="Unique by method: the same one again changes nothing."
)
@click.option("--at", type=WHEN, help="When it was paid.  [default: now]")
@click.option("--note", default="", help="For people.")
@output_option
@pass_session
def add(
    session: Session,
    code: str,
    amount_: int,
    method: str,
    reference: str,
    at: datetime | None,
    note: str,
) -> None:
    """Enter that account CODE paid AMOUNT; of a provider, that it was paid AMOUNT."""
    new = payments.NewPayment(amount_, method, reference, at, note)
    with session.transaction() as work:
        payer = accounts.find(work.cursor, work.viewer, code)
        paid = payments.pay(work.cursor, work.viewer, payer, new)
        record = {
            "code": code,
            "method": method,
            "reference": reference,
            "posted": not paid.again,
            "amount": amount(amount_),
            "balance": amount(paid.balance_micros),
            "currency": paid.currency,
            "ledger_reference": paid.reference,
            "transaction_id": paid.transaction_id,
        }
        if not paid.again:
            work.note("payment add", code, after=record, acting_as_id=payer.parent_id)
    if paid.again:
        click.echo(f"reference {reference} was posted before: nothing was changed", err=True)
    show_record(session, record)


@payment.command("list")
@click.option("--account", "code", metavar="CODE", help="Only of this account.")
@click.option("--method", default="")
@click.option("--reference", default="")
@click.option("--from", "begin", type=WHEN)
@click.option("--to", "end", type=WHEN, help="Up to, not including.")
@click.option("--limit", type=click.IntRange(1, payments.LIST_MAX), default=1000, show_default=True)
@output_option
@pass_session
def list_(
    session: Session,
    code: str | None,
    method: str,
    reference: str,
    begin: datetime | None,
    end: datetime | None,
    limit: int,
) -> None:
    """Payments and how much of each was refunded, the oldest first."""
    with session.transaction() as work:
        wanted = payments.Filter(
            account_id=_number(work.cursor, work.viewer, code) if code else None,
            method=method,
            reference=reference,
            begin=begin,
            end=end,
            limit=limit,
        )
        found = payments.list_payments(work.cursor, work.viewer, wanted)
    show_rows(session, COLUMNS, [_row(one) for one in found])


def _number(cursor: Cursor, viewer: Viewer, code: str) -> int:
    return accounts.find(cursor, viewer, code).account_id


def _row(one: Payment) -> Row:
    return {
        "at": one.at,
        "code": one.account_code,
        "method": one.method,
        "reference": one.reference,
        "amount": amount(one.amount_micros),
        "refunded": amount(one.refunded_micros),
        "currency": one.currency,
        "note": one.note,
    }


@payment.command()
@click.argument("reference")
@click.option("--amount", "amount_", type=AMOUNT, help="[default: all that is left of it]")
@click.option("--method", default="", help="Where payments of several methods share a reference.")
@click.option("--account", "code", metavar="CODE", help="Where payments of several accounts do.")
@click.option("--refund-reference", default="", help="Unique: the same one again changes nothing.")
@click.option("--note", default="", help="For people.")
@output_option
@pass_session
def refund(
    session: Session,
    reference: str,
    amount_: int | None,
    method: str,
    code: str | None,
    refund_reference: str,
    note: str,
) -> None:
    """Pay the payment REFERENCE back, or --amount of it: never what calls have reserved."""
    with session.transaction() as work:
        account_id = _number(work.cursor, work.viewer, code) if code else None
        paid = payments.find(
            work.cursor, work.viewer, reference, method=method, account_id=account_id
        )
        done = refunds.refund(
            work.cursor,
            work.viewer,
            paid,
            amount_micros=amount_,
            reference=refund_reference,
            note=note,
        )
        record = {
            "code": paid.account_code,
            "method": paid.method,
            "reference": paid.reference,
            "posted": not done.again,
            "amount": amount(done.amount_micros),
            "left": amount(done.left_micros),
            "balance": amount(done.balance_micros),
            "currency": paid.currency,
            "ledger_reference": done.reference,
            "transaction_id": done.transaction_id,
        }
        if not done.again:
            seller_id = paid.account_chain[1] if len(paid.account_chain) > 1 else None
            work.note("payment refund", paid.account_code, after=record, acting_as_id=seller_id)
    if done.again:
        click.echo(f"refund {refund_reference} was posted before: nothing was changed", err=True)
    show_record(session, record)
