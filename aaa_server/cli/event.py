"""`sky-aaa event`: what somebody should know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import output_option, show_rows
from aaa_server.cli.values import WHEN
from aaa_server.storage import accounts, events

if TYPE_CHECKING:
    from datetime import datetime


@click.group()
def event() -> None:
    """Events: low balances, limits reached, cards locked, jobs that failed."""


@event.command("list")
@click.option("--account", "code", metavar="CODE", help="About this account.")
@click.option("--kind", default="", metavar="KIND", help="low-balance, velocity-limit, …")
@click.option("--from", "begin", type=WHEN)
@click.option("--to", "end", type=WHEN, help="Up to, not including.")
@click.option("--limit", type=click.IntRange(1, events.LIST_MAX), default=1000, show_default=True)
@output_option
@pass_session
def list_(
    session: Session,
    code: str | None,
    kind: str,
    begin: datetime | None,
    end: datetime | None,
    limit: int,
) -> None:
    """The last events about accounts that you may see, the oldest first."""
    with session.transaction() as work:
        account_id = None
        if code is not None:
            account_id = accounts.find(work.cursor, work.viewer, code).account_id
        found = events.list_events(
            work.cursor,
            work.viewer,
            account_id=account_id,
            kind=kind,
            begin=begin,
            end=end,
            limit=limit,
        )
    show_rows(
        session,
        ("at", "kind", "account", "detail"),
        [
            {
                "at": one.at,
                "kind": one.kind,
                "account": one.account_code,
                "detail": dict(one.detail),
            }
            for one in found
        ],
    )
