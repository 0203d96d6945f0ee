"""`sky-aaa calls`: what runs now."""

from __future__ import annotations

import contextlib
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import amount, output_option, rich_table, show_rows
from aaa_server.storage import cdrs

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from aaa_server.cli.output import Row

COLUMNS = (
    "call",
    "account",
    "from",
    "to",
    "status",
    "since",
    "granted_seconds",
    "talk_seconds",
    "ends_by",
)
# What fits 80 columns.
WATCHED_COLUMNS = ("account", "from", "to", "status", "age", "talk_seconds", "granted_seconds")
OPERATOR_COLUMNS = ("client", "route", "reserved", "currency")


@click.command()
@click.option("--watch", is_flag=True, help="Show them anew until Ctrl-C.")
@click.option("--every", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True)
@click.option("--all", "refused", is_flag=True, help="Refused attempts too that have not ended.")
@output_option
@pass_session
def calls(session: Session, watch: bool, every: float, refused: bool) -> None:
    """Calls in progress, the newest last."""
    with session.connection() as connection:
        if not watch:
            columns, rows = _look(session, connection, refused)
            show_rows(session, columns, rows)
            return
        if not sys.stdout.isatty() or session.output != "table":
            raise click.UsageError("--watch is for a terminal, and prints a table")
        _watch(session, connection, every, refused)


def _look(
    session: Session, connection: Connection, refused: bool
) -> tuple[tuple[str, ...], list[Row]]:
    with session.transaction(connection) as work:
        found = cdrs.running(work.cursor, work.viewer, refused=refused)
        columns = COLUMNS + (OPERATOR_COLUMNS if work.viewer.is_operator else ())
    now = datetime.now(UTC)
    rows: list[Row] = [
        {
            "call": call.call_id,
            "account": call.account_code,
            "from": call.ani,
            "to": call.called,
            "status": call.refusal or call.status,
            "since": call.authorized_at,
            "age": int((now - call.authorized_at).total_seconds()),
            "granted_seconds": call.granted_seconds,
            "talk_seconds": call.last_seconds,
            "ends_by": call.expires_at,
            "client": call.client,
            "route": call.route,
            "reserved": amount(call.reserved_micros),
            "currency": call.currency,
        }
        for call in found
    ]
    return columns, rows


def _watch(session: Session, connection: Connection, every: float, refused: bool) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    # Ctrl-C is how watching ends, not how it fails.
    with contextlib.suppress(KeyboardInterrupt), Live(auto_refresh=False, screen=True) as live:
        while True:
            columns, rows = _look(session, connection, refused)
            columns = WATCHED_COLUMNS + (("route",) if "route" in columns else ())
            title = Text(f"{len(rows)} calls at {time.strftime('%H:%M:%S')}; Ctrl-C ends this")
            live.update(Group(title, rich_table(columns, rows)), refresh=True)
            time.sleep(every)
