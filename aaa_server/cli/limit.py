"""`sky-aaa limit`: how much an account may call in an hour, day, week or month."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli.context import BadData, Failure, Session, Work, pass_session
from aaa_server.cli.output import amount, output_option, show_record, show_rows
from aaa_server.cli.values import AMOUNT
from aaa_server.storage import accounts, velocity_limits
from aaa_server.storage.viewer import Deed, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from aaa_server.cli.output import Row
    from aaa_server.storage.velocity_limits import Limit

COLUMNS = (
    "account",
    "name",
    "period",
    "measure",
    "maximum",
    "used",
    "currency",
    "prefixes",
    "action",
    "active",
    "period_from",
)
COUNT = click.IntRange(1, 2**31 - 1)


@click.group()
def limit() -> None:
    """Limits against fraud: calls, minutes or money a period, to some prefixes or to all.

    Calls of accounts below it count too. Those above an account set its limits.
    """


def _maximum_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.option("--calls", type=COUNT, help="At most so many calls that are granted."),
            click.option("--minutes", type=COUNT, help="At most so much talk time."),
            click.option("--money", type=AMOUNT, help="At most this, in its own currency."),
            click.option(
                "--prefix", "prefixes", multiple=True, help="Only these count; repeatable."
            ),
        )
    ):
        command = option(command)
    return command


def _maximum(calls: int | None, minutes: int | None, money: int | None) -> tuple[str, int] | None:
    """Measure and maximum; None when none is named."""
    named = [
        (measure, value)
        for measure, value in (
            ("calls", calls),
            ("seconds", None if minutes is None else minutes * 60),
            ("money", money),
        )
        if value is not None
    ]
    if len(named) > 1:
        raise click.UsageError("--calls, --minutes, --money: one of them; a limit has one measure")
    return named[0] if named else None


def _record(one: Limit) -> Row:
    def shown(value: int) -> Any:
        return amount(value) if one.measure == "money" else value

    return {
        "account": one.account_code,
        "name": one.name,
        "period": one.period,
        "measure": one.measure,
        "maximum": shown(one.maximum),
        "used": shown(one.used),
        "currency": one.currency if one.measure == "money" else "",
        "prefixes": list(one.prefixes),
        "action": one.action,
        "active": one.active,
        "period_from": one.period_from,
    }


def _audited(one: Limit) -> dict[str, Any]:
    return {key: value for key, value in _record(one).items() if key not in ("used", "period_from")}


@limit.command()
@click.argument("code")
@click.option("--name", required=True, help="What alerts and refusals call it.")
@click.option("--period", type=click.Choice(velocity_limits.PERIODS), required=True)
@_maximum_options
@click.option("--alert", is_flag=True, help="Tell, but do not block.")
@output_option
@pass_session
def add(
    session: Session,
    code: str,
    name: str,
    period: str,
    calls: int | None,
    minutes: int | None,
    money: int | None,
    prefixes: tuple[str, ...],
    alert: bool,
) -> None:
    """Limit account CODE. Periods begin by the clocks of its time zone, weeks on Monday."""
    maximum = _maximum(calls, minutes, money)
    if maximum is None:
        raise click.UsageError("how much? --calls, --minutes or --money")
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code)
        new = velocity_limits.NewLimit(
            name, prefixes, period, *maximum, action="alert" if alert else "block"
        )
        velocity_limits.add(work.cursor, work.viewer, account, new)
        made = velocity_limits.find(work.cursor, work.viewer, account, name)
        work.note("limit add", f"{code} {name}", after=_audited(made))
    show_record(session, _record(made))


@limit.command("list")
@click.argument("code", required=False)
@output_option
@pass_session
def list_(session: Session, code: str | None) -> None:
    """The limits of account CODE, or of all that you may see, and what is used of them now."""
    with session.transaction() as work:
        account_id = None
        if code is not None:
            account_id = accounts.find(work.cursor, work.viewer, code).account_id
        found = velocity_limits.list_limits(work.cursor, work.viewer, account_id)
    show_rows(session, COLUMNS, [_record(one) for one in found])


@limit.command("set")
@click.argument("code")
@click.argument("name")
@click.option("--period", type=click.Choice(velocity_limits.PERIODS))
@_maximum_options
@click.option("--all-numbers", is_flag=True, help="No prefixes any more: every call counts.")
@click.option("--alert/--block", "alert", default=None, help="Tell only, or block as well.")
@click.option("--active/--inactive", "active", default=None)
@output_option
@pass_session
def set_(
    session: Session,
    /,
    code: str,
    name: str,
    calls: int | None,
    minutes: int | None,
    money: int | None,
    **options: Any,
) -> None:
    """Change limit NAME of account CODE; what is not named stays. --prefix replaces them all."""
    maximum = _maximum(calls, minutes, money)
    values = {key: value for key, value in options.items() if value not in (None, (), False)}
    for switch in ("alert", "active"):
        if options[switch] is not None:
            values[switch] = options[switch]
    if maximum is None and not values:
        raise click.UsageError("nothing to change: name at least one option")
    if values.pop("all_numbers", False):
        if "prefixes" in values:
            raise click.UsageError("--all-numbers and --prefix: one of them")
        values["prefixes"] = ()
    if "alert" in values:
        values["action"] = "alert" if values.pop("alert") else "block"
    with session.transaction() as work:
        before = _find_to_change(work, code, name)
        if maximum is not None:
            if maximum[0] != before.measure:
                raise BadData(
                    f"limit {name!r} of {code} counts {before.measure}, not {maximum[0]}: "
                    "add another limit"
                )
            values["maximum"] = maximum[1]
        after = _change(work, "limit set", before, before._replace(**values))
    show_record(session, _record(after))


def _find_to_change(work: Work, code: str, name: str) -> Limit:
    account = accounts.find(work.cursor, work.viewer, code)
    require(work.viewer, Deed.CHANGE, account.chain, code)
    return velocity_limits.find(work.cursor, work.viewer, account, name)


def _change(work: Work, action: str, before: Limit, wanted: Limit) -> Limit:
    velocity_limits.change(work.cursor, work.viewer, wanted)
    account = accounts.find(work.cursor, work.viewer, before.account_code)
    after = velocity_limits.find(work.cursor, work.viewer, account, before.name)
    subject = f"{before.account_code} {before.name}"
    work.note(action, subject, before=_audited(before), after=_audited(after))
    return after


@limit.command()
@click.argument("code")
@click.argument("name")
@pass_session
def remove(session: Session, code: str, name: str) -> None:
    """Limit NAME of account CODE ends; `limit set … --active` brings it back."""
    with session.transaction() as work:
        before = _find_to_change(work, code, name)
        if not before.active:
            raise Failure(f"limit {name!r} of {code} has ended already")
        _change(work, "limit remove", before, before._replace(active=False))
    click.echo(f"limit {name!r} of {code} has ended", err=True)
