"""`sky-aaa calls`: what runs now."""

from __future__ import annotations

import contextlib
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from aaa_server.charging.requests import Settled
from aaa_server.cli.cdr import call_record
from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import amount, output_option, rich_table, show_record, show_rows
from aaa_server.rating.bounds import TALK_SECONDS_MAX
from aaa_server.storage import accounts, cdrs, correction, disconnects
from aaa_server.storage.viewer import Deed, require

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from aaa_server.cli.context import Work
    from aaa_server.cli.output import Row
    from aaa_server.storage.disconnects import Order

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
ORDER_COLUMNS = ("call", "account", "reason", "state", "ordered", "answered")
OPERATOR_ORDER_COLUMNS = ("client", "packets", "error_cause", "detail")


@click.group(invoke_without_command=True)
@click.option("--watch", is_flag=True, help="Show them anew until Ctrl-C.")
@click.option("--every", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True)
@click.option("--all", "refused", is_flag=True, help="Refused attempts too that have not ended.")
@output_option
@pass_session
@click.pass_context
def calls(ctx: click.Context, session: Session, watch: bool, every: float, refused: bool) -> None:
    """Calls in progress, the newest last."""
    if ctx.invoked_subcommand is not None:
        return
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


@calls.command()
@click.argument("call_id", type=click.IntRange(1, 2**63 - 1), required=False)
@click.option("--account", "code", metavar="CODE", help="All calls of it and of those below it.")
@output_option
@pass_session
def disconnect(session: Session, call_id: int | None, code: str | None) -> None:
    """Have the switch end call CALL_ID, or all calls of an account.

    The worker sends the order (RFC 5176); `calls orders` shows what the switch has said.
    """
    if (call_id is None) == (code is None):
        raise click.UsageError("name a call, as `sky-aaa calls` numbers it, or --account CODE")
    now = datetime.now(UTC)
    with session.transaction() as work:
        if call_id is not None:
            subject = str(call_id)
            ordered = disconnects.order_call(work.cursor, work.viewer, call_id, now)
        else:
            assert code is not None
            subject = code
            ordered = _order_account(work, code, now)
        called = [order.call_id for order in ordered]
        work.note("calls disconnect", subject, after={"calls": called})
    _show_orders(session, work, ordered)
    if not ordered:
        click.echo(f"{subject} has no call in progress", err=True)


def _order_account(work: Work, code: str, now: datetime) -> list[Order]:
    account = accounts.find(work.cursor, work.viewer, code)
    require(work.viewer, Deed.CHANGE, account.chain, code)
    if not account.chain:
        raise BadData(f"{code} is the operator's own account: it has no calls")
    return disconnects.order_account(work.cursor, work.viewer, account.chain, now)


@calls.command()
@click.argument("call_id", type=click.IntRange(1, 2**63 - 1))
@click.option(
    "--seconds",
    type=click.IntRange(0, TALK_SECONDS_MAX),
    help="Its talk; else what was last heard of.",
)
@output_option
@pass_session
def close(session: Session, call_id: int, seconds: int | None) -> None:
    """Close a call that is stuck, and charge it; a Stop that still comes corrects the charge."""
    from aaa_server.online_charging import policy_of
    from aaa_server.storage.plain import prepare

    session.operator_only("calls close")
    with session.connection() as connection:
        with session.transaction(connection) as work:
            stop = correction.stop_of(work.cursor, call_id, datetime.now(UTC), seconds=seconds)
        prepare(connection)
        connection.commit()
        policy = policy_of(session.config.charging)
        [answer] = correction.decide(connection, [stop], numbers=[stop.called], policy=policy)
        with session.transaction(connection) as work:
            record = call_record(work, cdrs.find(work.cursor, work.viewer, str(call_id)))
            cost = answer.cost_micros if isinstance(answer, Settled) else 0
            after = {"seconds": (stop.duration_ms or 0) // 1000, "cost": amount(cost)}
            work.note("calls close", str(call_id), after=after)
    show_record(session, record)


@calls.command()
@click.option("--limit", type=click.IntRange(1, disconnects.LIST_MAX), default=100)
@output_option
@pass_session
def orders(session: Session, limit: int) -> None:
    """Calls that switches were told to end, by whom and why, and what they said."""
    with session.transaction() as work:
        found = disconnects.list_orders(work.cursor, work.viewer, limit=limit)
    _show_orders(session, work, found)


def _show_orders(session: Session, work: Work, found: list[Order]) -> None:
    columns = ORDER_COLUMNS + (OPERATOR_ORDER_COLUMNS if work.viewer.is_operator else ())
    rows: list[Row] = [
        {
            "call": order.call_id,
            "account": order.account_code,
            "reason": order.reason,
            "state": order.state,
            "ordered": order.ordered_at,
            "answered": order.answered_at,
            "client": order.client,
            "packets": order.attempts,
            "error_cause": order.error_cause,
            "detail": order.detail,
        }
        for order in found
    ]
    show_rows(session, columns, rows)
