"""`sky-aaa currency`: exchange rates."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import Amount, output_option, show_rows
from aaa_server.cli.values import CURRENCY, EXCHANGE, WHEN
from aaa_server.rating.money import format_exchange
from aaa_server.storage import currencies
from aaa_server.storage.currencies import ExchangeRate


@click.group()
def currency() -> None:
    """Exchange rates; a call keeps the one of its authorisation."""


@currency.command()
@click.argument("source", metavar="FROM", type=CURRENCY)
@click.argument("target", metavar="TO", type=CURRENCY)
@click.argument("value", metavar="RATE", type=EXCHANGE)
@click.option("--from", "begin", type=WHEN, help="In force from this instant on.  [default: now]")
@output_option
@pass_session
def rate(session: Session, source: str, target: str, value: int, begin: datetime | None) -> None:
    """One FROM is RATE of TO: `rate USD EUR 0.92`. The opposite direction follows from it."""
    entered = ExchangeRate(source, target, begin or datetime.now(UTC), value)
    with session.transaction() as work:
        currencies.set_rate(work.cursor, work.viewer, entered)
        work.note(
            "currency rate",
            f"{source} {target}",
            after={"rate": format_exchange(value), "from": entered.effective_from},
        )
    _show(session, [entered])


@currency.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """All exchange rates, the newest of each pair first."""
    with session.transaction() as work:
        found = currencies.list_rates(work.cursor)
    _show(session, found)


def _show(session: Session, rates: list[ExchangeRate]) -> None:
    show_rows(
        session,
        ("from", "to", "rate", "effective_from"),
        [
            {
                "from": one.from_currency,
                "to": one.to_currency,
                "rate": Amount(format_exchange(one.rate_e10)),
                "effective_from": one.effective_from,
            }
            for one in rates
        ],
    )
