"""`sky-aaa period`: close a month that is over and invoiced."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.invoice import span_of
from aaa_server.cli.output import output_option, show_record, show_rows
from aaa_server.storage import accounts, closed_periods

if TYPE_CHECKING:
    from aaa_server.cli.output import Row
    from aaa_server.storage.closed_periods import Closed

COLUMNS = ("period", "begins", "ends", "closed_at", "totals")


@click.group()
def period() -> None:
    """Close periods, so that nothing is invoiced in them any more; see which are."""


@period.command()
@click.argument("name", metavar="PERIOD")
@output_option
@pass_session
def close(session: Session, name: str) -> None:
    """Close PERIOD (2026-11): all of it is invoiced; what comes late is the next one's."""
    with session.transaction() as work:
        issuer = accounts.find(work.cursor, work.viewer, work.viewer.code)
        span = span_of(work, name)
        closed = closed_periods.close(work.cursor, work.viewer, issuer, span, datetime.now(UTC))
        work.note("period close", name, after=dict(_row(closed)))
    show_record(session, _row(closed))


@period.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """The periods that are closed, with what was invoiced in them."""
    with session.transaction() as work:
        found = closed_periods.list_closed(work.cursor, work.viewer.account_id)
    show_rows(session, COLUMNS, [_row(one) for one in found])


def _row(one: Closed) -> Row:
    totals = [
        f"{currency}: {of['invoices']} invoices, {of['net']} + {of['tax']} tax = {of['total']}"
        for currency, of in one.totals.items()
    ]
    return {
        "period": one.name,
        "begins": one.begins,
        "ends": one.ends,
        "closed_at": one.closed_at,
        "totals": totals,
    }
