"""`sky-aaa subscription`: what accounts pay again each period."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import amount, output_option, show_record, show_rows
from aaa_server.cli.values import AMOUNT, WHEN
from aaa_server.storage import accounts, packages, subscriptions

if TYPE_CHECKING:
    from aaa_server.cli.output import Row
    from aaa_server.storage.subscriptions import Listed

COLUMNS = (
    "code",
    "name",
    "package",
    "setup",
    "price",
    "currency",
    "period",
    "by",
    "prorated",
    "begins_at",
    "ends_at",
    "next_at",
    "status",
)


@click.group()
def subscription() -> None:
    """What accounts pay again each period: fees, and packages that renew themselves."""


@subscription.command()
@click.argument("code")
@click.option("--name", help="What for.  [default: the package's]")
@click.option("--setup", type=AMOUNT, default="0", help="Once, with the first period.")
@click.option("--monthly", type=AMOUNT, default="0", help="Each month, as it begins.")
@click.option("--package", "package_name", metavar="NAME", help="Instead: this package, renewed.")
@click.option("--from", "begin", type=WHEN, help="[default: now]")
@click.option("--until", "end", type=WHEN, help="Up to, not including.  [default: for ever]")
@click.option(
    "--anniversary/--calendar",
    "anniversary",
    default=True,
    help="Periods begin on its own day, or as the calendar's.  [default: anniversary]",
)
@click.option(
    "--prorate/--no-prorate",
    default=True,
    help="A part of a period costs its days, or all.  [default: its days]",
)
@output_option
@pass_session
def add(
    session: Session,
    /,
    code: str,
    name: str | None,
    setup: int,
    monthly: int,
    package_name: str | None,
    begin: datetime | None,
    end: datetime | None,
    anniversary: bool,
    prorate: bool,
) -> None:
    """Charge account CODE each period from now on; what is due by now is charged at once."""
    with session.transaction() as work:
        one = accounts.find(work.cursor, work.viewer, code)
        package = None
        if package_name is not None:
            package = packages.find_for_account(work.cursor, work.viewer, package_name, one)
        new = subscriptions.NewSubscription(
            name=(package_name or "") if name is None else name,
            setup_micros=setup,
            price_micros=monthly,
            calendar=not anniversary,
            prorate=prorate,
            begins_at=begin,
            ends_at=end,
            package=package,
        )
        number = subscriptions.add(work.cursor, work.viewer, one, new)
        [made] = [
            found
            for found in subscriptions.list_subscriptions(
                work.cursor, work.viewer, account_id=one.account_id, ended=True
            )
            if found.subscription_id == number
        ]
        after = accounts.find(work.cursor, work.viewer, code)
        record = {
            **_row(made, datetime.now(UTC)),
            "balance": amount(after.balance_micros),
            "charged": amount(one.balance_micros - after.balance_micros),
        }
        work.note("subscription add", code, after=record, acting_as_id=one.parent_id)
    show_record(session, record)


@subscription.command("list")
@click.option("--account", "code", metavar="CODE", help="Only of this account.")
@click.option("--all", "ended", is_flag=True, help="Those that have ended too.")
@output_option
@pass_session
def list_(session: Session, code: str | None, ended: bool) -> None:
    """What is charged again, and when next."""
    with session.transaction() as work:
        account_id = accounts.find(work.cursor, work.viewer, code).account_id if code else None
        found = subscriptions.list_subscriptions(
            work.cursor, work.viewer, account_id=account_id, ended=ended
        )
    now = datetime.now(UTC)
    show_rows(session, COLUMNS, [_row(one, now) for one in found])


def _row(one: Listed, now: datetime) -> Row:
    return {
        "code": one.account_code,
        "name": one.name,
        "package": one.package,
        "setup": amount(one.setup_micros),
        "price": amount(one.price_micros),
        "currency": one.currency,
        "period": one.unit,
        "by": "calendar" if one.calendar else "anniversary",
        "prorated": one.prorate,
        "begins_at": one.begins_at,
        "ends_at": one.ends_at,
        "next_at": one.next_at,
        "status": one.status(now),
    }


@subscription.command()
@click.argument("code")
@click.argument("name")
@click.option("--at", type=WHEN, help="[default: now]")
@output_option
@pass_session
def end(session: Session, code: str, name: str, at: datetime | None) -> None:
    """Charge subscription NAME of account CODE no more; prorated, unused days are given back."""
    with session.transaction() as work:
        one = accounts.find(work.cursor, work.viewer, code)
        done = subscriptions.end(work.cursor, work.viewer, one, name, at=at)
        record = {
            "code": code,
            "name": name,
            "ends_at": done.ends_at,
            "given_back": amount(done.credit_micros),
            "balance": amount(done.balance_micros),
            "currency": one.currency,
        }
        work.note("subscription end", code, after=record, acting_as_id=one.parent_id)
    show_record(session, record)
