"""`sky-aaa transfer`: money from one account to another of the same seller."""

from __future__ import annotations

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import Amount, amount, output_option, show_record
from aaa_server.cli.values import AMOUNT
from aaa_server.rating.money import format_exchange
from aaa_server.storage import accounts, transfers


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.argument("amount_", metavar="AMOUNT", type=AMOUNT)
@click.option("--reference", required=True, help="Unique: the same one again changes nothing.")
@click.option("--note", default="", help="Both find it in their statements.")
@output_option
@pass_session
def transfer(
    session: Session, source: str, target: str, amount_: int, reference: str, note: str
) -> None:
    """Move AMOUNT, in the currency of account FROM, to account TO.

    Both are directly below the same seller. Another currency is converted at the exchange
    rate of now. What calls of FROM have reserved stays.
    """
    with session.transaction() as work:
        from_ = accounts.find(work.cursor, work.viewer, source)
        to = accounts.find(work.cursor, work.viewer, target)
        done = transfers.transfer(
            work.cursor, work.viewer, from_, to, amount_, reference=reference, note=note
        )
        record = {
            "from": source,
            "to": target,
            "posted": not done.again,
            "amount": amount(amount_),
            "currency": from_.currency,
            "received": amount(done.received_micros),
            "received_currency": to.currency,
            "exchange_rate": Amount(format_exchange(done.exchange_e10)),
            "from_balance": amount(done.from_balance_micros),
            "to_balance": amount(done.to_balance_micros),
            "ledger_reference": done.reference,
            "transaction_id": done.transaction_id,
        }
        if not done.again:
            work.note("transfer", source, after=record, acting_as_id=from_.parent_id)
    if done.again:
        click.echo(f"reference {reference} was posted before: nothing was changed", err=True)
    show_record(session, record)
