"""`sky-aaa coupon`: codes that are worth money once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import amount, output_option, show_record, show_rows
from aaa_server.cli.values import AMOUNT, CURRENCY
from aaa_server.storage import accounts, coupons

# Beyond a century "never" is meant.
VALID_DAYS = click.IntRange(1, 36_500)


@click.group()
def coupon() -> None:
    """Coupons: codes that are worth money once, to an account of who issued them."""


@coupon.command()
@click.option("--count", type=click.IntRange(1, coupons.COUNT_MAX), default=1, show_default=True)
@click.option("--amount", "amount_", type=AMOUNT, required=True, help="What each is worth.")
@click.option("--currency", type=CURRENCY, help="[default: the owner's]")
@click.option("--owner", metavar="CODE", help="Whose customers'.  [default: who runs the command]")
@click.option("--valid-days", type=VALID_DAYS, help="From now on.  [default: for ever]")
@click.option("--note", default="", help="For people.")
@output_option
@pass_session
def create(
    session: Session,
    count: int,
    amount_: int,
    currency: str | None,
    owner: str | None,
    valid_days: int | None,
    note: str,
) -> None:
    """Make coupons and show their codes, now and never again: `-o csv` into a file keeps them."""
    expires_at = datetime.now(UTC) + timedelta(days=valid_days) if valid_days else None
    with session.transaction() as work:
        seller = accounts.find(work.cursor, work.viewer, owner or work.viewer.code)
        new = coupons.NewCoupons(amount_, currency or seller.currency, expires_at, note)
        made = coupons.create(work.cursor, work.viewer, session.keyring, seller, new, count)
        work.note(
            "coupon create",
            seller.code,
            after={
                "count": count,
                "first": made[0].coupon_id,
                "last": made[-1].coupon_id,
                "amount": amount(amount_),
                "currency": new.currency,
                "expires_at": expires_at,
            },
            acting_as_id=seller.account_id,
        )
    show_rows(
        session,
        ("coupon", "code", "amount", "currency", "expires_at"),
        [
            {
                "coupon": one.coupon_id,
                "code": one.code,
                "amount": amount(amount_),
                "currency": new.currency,
                "expires_at": expires_at,
            }
            for one in made
        ],
    )


@coupon.command()
@click.argument("code")
@click.option("--account", "account_code", metavar="CODE", help="[default: who runs the command]")
@output_option
@pass_session
def redeem(session: Session, code: str, account_code: str | None) -> None:
    """Credit the coupon with this CODE to an account, once."""
    with session.transaction() as work:
        one = accounts.find(work.cursor, work.viewer, account_code or work.viewer.code)
        done = coupons.redeem(work.cursor, work.viewer, session.keyring, one, code)
        record = {
            "code": one.code,
            "coupon": done.coupon_id,
            "amount": amount(done.amount_micros),
            "balance": amount(done.balance_micros),
            "currency": one.currency,
            "transaction_id": done.transaction_id,
        }
        work.note("coupon redeem", one.code, after=record)
    show_record(session, record)


@coupon.command("list")
@click.option("--owner", metavar="CODE", help="Only those that this account issued.")
@click.option("--account", "account_code", metavar="CODE", help="Only those it redeemed.")
@click.option("--status", type=click.Choice(coupons.STATUSES), default=None)
@click.option("--limit", type=click.IntRange(1, coupons.LIST_MAX), default=1000, show_default=True)
@output_option
@pass_session
def list_(
    session: Session,
    owner: str | None,
    account_code: str | None,
    status: str | None,
    limit: int,
) -> None:
    """Coupons by their numbers; their codes are not kept."""
    with session.transaction() as work:
        numbers = [
            accounts.find(work.cursor, work.viewer, code).account_id if code else None
            for code in (owner, account_code)
        ]
        found = coupons.list_coupons(
            work.cursor,
            work.viewer,
            owner_id=numbers[0],
            account_id=numbers[1],
            status=status or "",
            limit=limit,
        )
    columns = (
        "coupon",
        "owner",
        "amount",
        "currency",
        "status",
        "expires_at",
        "account",
        "redeemed_at",
        "note",
    )
    show_rows(
        session,
        columns,
        [
            {
                "coupon": one.coupon_id,
                "owner": one.owner_code,
                "amount": amount(one.amount_micros),
                "currency": one.currency,
                "status": one.status,
                "expires_at": one.expires_at,
                "account": one.account_code,
                "redeemed_at": one.redeemed_at,
                "note": one.note,
            }
            for one in found
        ],
    )


@coupon.command()
@click.argument("first", metavar="NUMBER", type=click.IntRange(min=1))
@click.option("--to", "last", metavar="NUMBER", type=click.IntRange(min=1), help="A range of them.")
@output_option
@pass_session
def void(session: Session, first: int, last: int | None) -> None:
    """Take back coupon NUMBER, or all of a range: its code is worth nothing from now on."""
    last = last or first
    if not 0 <= last - first < coupons.COUNT_MAX:
        raise BadData(f"--to is from {first} up, and {coupons.COUNT_MAX} coupons at most")
    with session.transaction() as work:
        numbers = range(first, last + 1)
        count = coupons.void(work.cursor, work.viewer, numbers)
        record = {"first": first, "last": last, "voided": count}
        work.note("coupon void", str(first), after=record)
    show_record(session, record)
