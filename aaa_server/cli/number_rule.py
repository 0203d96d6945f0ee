"""`sky-aaa number-rule`: what is rewritten of numbers, and what is blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aaa_server.cli.context import BadData, Session, Work, pass_session
from aaa_server.cli.output import output_option, show_record, show_rows
from aaa_server.cli.values import RESOURCE_GROUP
from aaa_server.rating.prefix import number_of
from aaa_server.storage import accounts, clients, number_rules, resource_groups
from aaa_server.storage.number_rules import Scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from aaa_server.cli.output import Row
    from aaa_server.storage.number_rules import NumberRule

DIGITS = click.IntRange(1, 32)
LIST_COLUMNS = (
    "number_rule_id",
    "scope",
    "of",
    "field",
    "position",
    "prefix",
    "min_digits",
    "max_digits",
    "does",
    "note",
)


@click.group("number-rule")
def number_rule() -> None:
    """Rules that rewrite or block numbers: national to E.164, prefixes not sold.

    Asked in turn: everybody's rules, those of the client, of the inbound resource group, of
    the account; then, on the way out, of the outbound resource group. Of each the first
    that fits decides, in order of position.
    """


def _scope_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.option("--client", metavar="NAME", help="Of requests of this RADIUS client."),
            click.option("--account", metavar="CODE", help="Of calls of this account."),
            click.option("--resource-group", type=RESOURCE_GROUP, help="Of calls over it."),
        )
    ):
        command = option(command)
    return command


def _field_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--called/--caller",
        "called",
        default=True,
        help="Which number: the one called, or the caller's.  [default: called]",
    )(command)


def _scopes(
    work: Work, client: str | None, account: str | None, group: str | None
) -> dict[str, Scope]:
    """The scopes that are named."""
    found = {}
    if client is not None:
        found["client"] = Scope(client=clients.find(work.cursor, work.viewer, client))
    if group is not None:
        named = resource_groups.find(work.cursor, work.viewer, group)
        found["resource-group"] = Scope(group=named)
    if account is not None:
        found["account"] = Scope(account=accounts.find(work.cursor, work.viewer, account))
    return found


def _does(one: NumberRule) -> str:
    if one.rule.block:
        return "block"
    parts = []
    if one.rule.strip:
        parts.append(f"strip {one.rule.strip}")
    if one.rule.prepend:
        parts.append(f"prepend {one.rule.prepend}")
    return ", ".join(parts) or "keep"


def _record(one: NumberRule) -> Row:
    return {
        "number_rule_id": one.number_rule_id,
        "scope": one.scope,
        "of": one.of,
        "field": one.field,
        "position": one.position,
        "prefix": one.rule.prefix,
        "min_digits": one.rule.min_digits,
        "max_digits": one.rule.max_digits,
        "does": _does(one),
        "note": one.rule.note,
    }


@number_rule.command()
@_scope_options
@click.option("--everybody", is_flag=True, help="Of all calls.")
@_field_option
@click.option("--prefix", default="", help="What it begins with.  [default: any]")
@click.option("--min-digits", type=DIGITS, help="No shorter number.")
@click.option("--max-digits", type=DIGITS, help="No longer number.")
@click.option("--strip", type=click.IntRange(0, 32), default=0, help="Digits off the front.")
@click.option("--prepend", default="", help="Digits before the rest.")
@click.option("--block", is_flag=True, help="The call is refused.")
@click.option("--keep", is_flag=True, help="As it is: no later rule of the scope is asked.")
@click.option(
    "--position",
    type=click.IntRange(0, number_rules.POSITION_MAX),
    help="The lower is asked first.  [default: last]",
)
@click.option("--note", default="", help="For people.")
@output_option
@pass_session
def add(
    session: Session,
    client: str | None,
    account: str | None,
    resource_group: str | None,
    everybody: bool,
    called: bool,
    prefix: str,
    min_digits: int | None,
    max_digits: int | None,
    strip: int,
    prepend: str,
    block: bool,
    keep: bool,
    position: int | None,
    note: str,
) -> None:
    """Rewrite or block the numbers that fit."""
    named = sum(one is not None for one in (client, account, resource_group))
    if named + everybody != 1:
        raise click.UsageError(
            "whose numbers? --client, --account, --resource-group or --everybody: one of them"
        )
    if sum((bool(strip or prepend), block, keep)) != 1:
        raise click.UsageError("what is done? --strip and --prepend, or --block, or --keep")
    rule = number_rules.new_rule(
        prefix,
        min_digits=min_digits,
        max_digits=max_digits,
        block=block,
        strip=strip,
        prepend=prepend,
        note=note,
    )
    with session.transaction() as work:
        scope = next(iter(_scopes(work, client, account, resource_group).values()), Scope())
        number_rule_id = number_rules.add(
            work.cursor,
            work.viewer,
            scope,
            rule,
            field="called" if called else "caller",
            position=position,
        )
        made = _record(number_rules.find(work.cursor, work.viewer, number_rule_id))
        work.note("number-rule add", str(number_rule_id), after=made)
    show_record(session, made)


@number_rule.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """The rules that you may see, in the order in which they are asked."""
    with session.transaction() as work:
        found = number_rules.list_rules(work.cursor, work.viewer)
    show_rows(session, LIST_COLUMNS, [_record(one) for one in found])


@number_rule.command()
@click.argument("number_rule_id", metavar="ID", type=click.IntRange(min=1))
@pass_session
def remove(session: Session, number_rule_id: int) -> None:
    """Take rule ID away."""
    with session.transaction() as work:
        one = number_rules.find(work.cursor, work.viewer, number_rule_id)
        number_rules.remove(work.cursor, work.viewer, one)
        work.note("number-rule remove", str(number_rule_id), before=_record(one))
    click.echo(f"number rule {number_rule_id} is gone", err=True)


@number_rule.command("try")
@click.argument("number")
@_scope_options
@_field_option
@output_option
@pass_session
def try_(
    session: Session,
    number: str,
    client: str | None,
    account: str | None,
    resource_group: str | None,
    called: bool,
) -> None:
    """What becomes of NUMBER, scope by scope. Touches nothing.

    --resource-group may be the inbound or the outbound one.
    """
    digits = number_of(number)
    if not digits:
        raise BadData(f"{number!r} is no number: 1 to 32 digits, * and #")
    if not called and (account is not None or resource_group is not None):
        raise click.UsageError("--caller: the caller's number has rules of clients and everybody")
    with session.transaction() as work:
        named = _scopes(work, client, account, resource_group)
        steps = number_rules.attempt(
            number_rules.list_rules(work.cursor, work.viewer),
            _in_turn(named),
            digits,
            field="called" if called else "caller",
        )
        operator = work.viewer.is_operator
    if not operator:
        click.echo("the operator's own rules are not shown, and were not tried", err=True)
    rows = [
        {
            "scope": step.scope,
            "of": step.of,
            "rule": None if step.rule is None else step.rule.number_rule_id,
            "does": "no rule fits" if step.rule is None else _does(step.rule),
            "number": step.after,
        }
        for step in steps
    ]
    show_rows(session, ("scope", "of", "rule", "does", "number"), rows)


def _in_turn(named: dict[str, Scope]) -> list[Scope]:
    """Everybody's, then those named; an outbound resource group's come last."""
    group = named.get("resource-group")
    outbound = group is not None and group.group is not None and group.group.direction == "out"
    order = ("client", "account", "resource-group")
    if not outbound:
        order = ("client", "resource-group", "account")
    return [Scope(), *(named[kind] for kind in order if kind in named)]
