"""`sky-aaa rate-group`: price lists, and the routes that their calls may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli import bands
from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import Things, output_option, percent, price, show_record, show_rows
from aaa_server.cli.values import CURRENCY, MARKUP, RESOURCE_GROUP, TIME_ZONE, checked
from aaa_server.rating.bounds import checked_price
from aaa_server.rating.lcr import STRATEGIES
from aaa_server.rating.money import PPM, parse_nanos, parse_percent_ppm
from aaa_server.storage import accounts, rate_groups, resource_groups
from aaa_server.storage.viewer import Deed, Viewer, require, require_operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from aaa_server.cli.output import Row
    from aaa_server.storage.rate_groups import RateGroup, Route

NO_MARGIN = "none"
NO_PRICE = "none"
LOSS_PPM_MAX = 100 * PPM  # more is a slip of the finger


def _margin(text: str) -> int | str:
    """Parts per million, or `NO_MARGIN`."""
    if text.strip() == NO_MARGIN:
        return NO_MARGIN
    ppm = parse_percent_ppm(text)
    if not -LOSS_PPM_MAX <= ppm <= PPM:
        raise ValueError(f"{text!r} is no margin: -10000 to 100 % of the selling price are")
    return ppm


def _on_net(text: str) -> int | str:
    if text.strip() == NO_PRICE:
        return NO_PRICE
    nanos = parse_nanos(text)
    if nanos < 0:
        raise ValueError(f"{text!r} is no price: 0 and above are, or none")
    return checked_price(nanos)


MARGIN = checked("percent|none", _margin)
ON_NET = checked("price|none", _on_net)


@click.group("rate-group")
def rate_group() -> None:
    """Rate groups: price lists, and the routes that their calls may use."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `add` and `set` share."""
    for option in reversed(
        (
            click.option(
                "--strategy", type=click.Choice(list(STRATEGIES)), help="How routes are chosen."
            ),
            click.option(
                "--minimum-margin",
                type=MARGIN,
                help="Percent of the selling price that a route must leave; -5: a loss of 5 is "
                "accepted; none: nobody asks.",
            ),
            click.option("--markup", type=MARKUP, help="Percent on the price per minute."),
            click.option(
                "--on-net",
                type=ON_NET,
                help="A minute to a number of our own (did), which then does not go out; none: "
                "as the rates say.",
            ),
            click.option(
                "--initial-seconds", type=click.IntRange(0), help="Of rate rows that name none."
            ),
            click.option(
                "--increment-seconds", type=click.IntRange(1), help="Of rate rows that name none."
            ),
            click.option("--time-zone", type=TIME_ZONE),
        )
    ):
        command = option(command)
    return command


def _given(viewer: Viewer, options: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in options.items() if value is not None}
    if "markup" in given:
        given["markup_ppm"] = given.pop("markup")
    if "on_net" in given:
        nanos = given.pop("on_net")
        given["on_net_nanos"] = None if nanos == NO_PRICE else nanos
    if "strategy" in given:
        require_operator(viewer, "the strategy")
    if "minimum_margin" in given:
        require_operator(viewer, "the minimum margin")
        margin = given.pop("minimum_margin")
        given["minimum_margin_ppm"] = None if margin == NO_MARGIN else margin
    return given


@rate_group.command()
@click.argument("name")
@click.option("--owner", metavar="CODE", help="Who sells at it.  [default: who runs the command]")
@click.option("--currency", type=CURRENCY, help="[default: the owner's]")
@_options
@output_option
@pass_session
def add(
    session: Session, /, name: str, owner: str | None, currency: str | None, **options: Any
) -> None:
    """Make rate group NAME, with no rates in it yet."""
    with session.transaction() as work:
        seller = accounts.find(work.cursor, work.viewer, owner or work.viewer.code)
        require(work.viewer, Deed.SET_PRICES, seller.chain, seller.code)
        if seller.kind not in ("admin", "reseller"):
            raise BadData(f"{seller.code} is a {seller.kind}: only the operator and resellers sell")
        new = rate_groups.NewRateGroup(
            name=name,
            owner_id=seller.account_id,
            currency=currency or seller.currency,
            **_given(work.viewer, options),
        )
        rate_groups.add(work.cursor, work.viewer, new)
        made = rate_groups.find(work.cursor, work.viewer, name, owner=seller.code)
        record = _record(made, work.viewer)
        work.note("rate-group add", name, after=dict(record), acting_as_id=seller.account_id)
    show_record(session, record)


@rate_group.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """The rate groups that you may see; your own price list is among them."""
    with session.transaction() as work:
        found = rate_groups.list_rate_groups(work.cursor, work.viewer)
        uses = rate_groups.uses(work.cursor, [one.rate_group_id for one in found])
        rows = [{**_record(one, work.viewer), **uses[one.rate_group_id]._asdict()} for one in found]
        operator = work.viewer.is_operator
    columns = ["name", "owner", "currency", "markup_percent", "rates", "accounts"]
    if operator:
        columns[3:3] = ["strategy", "minimum_margin_percent"]
    show_rows(session, columns, rows)


@rate_group.command()
@click.argument("name")
@click.option("--owner", metavar="CODE", default="", help="Where several have one of this name.")
@output_option
@pass_session
def show(session: Session, name: str, owner: str) -> None:
    """One rate group, and the operator sees its routes."""
    with session.transaction() as work:
        one = rate_groups.find(work.cursor, work.viewer, name, owner=owner)
        uses = rate_groups.uses(work.cursor, [one.rate_group_id])
        record = {**_record(one, work.viewer), **uses[one.rate_group_id]._asdict()}
        if work.viewer.is_operator:
            found = rate_groups.routes(work.cursor, work.viewer, one.rate_group_id)
            record["routes"] = Things(_route(route) for route in found)
    show_record(session, record)


def _record(one: RateGroup, viewer: Viewer) -> Row:
    record = {
        "name": one.name,
        "owner": one.owner_code,
        "currency": one.currency,
        "markup_percent": percent(one.markup_ppm),
        "on_net": price(one.on_net_nanos),
        "initial_seconds": one.initial_seconds,
        "increment_seconds": one.increment_seconds,
        "time_zone": one.time_zone,
    }
    if viewer.is_operator:
        record["strategy"] = one.strategy
        margin = one.minimum_margin_ppm
        record["minimum_margin_percent"] = None if margin is None else percent(margin)
    return record


def _route(route: Route) -> Row:
    return {
        "resource_group": route.resource_group,
        "provider": route.provider,
        "gateway": route.gateway,
        "priority": route.priority,
        "weight": route.weight,
        "status": route.status,
        "rates": route.rates,
    }


@rate_group.command("set")
@click.argument("name")
@click.option("--owner", metavar="CODE", default="", help="Where several have one of this name.")
@_options
@output_option
@pass_session
def set_(session: Session, /, name: str, owner: str, **options: Any) -> None:
    """Change rate group NAME; what is not named stays."""
    with session.transaction() as work:
        given = _given(work.viewer, options)
        if not given:
            raise click.UsageError("nothing to change: name at least one option")
        before = rate_groups.find(work.cursor, work.viewer, name, owner=owner)
        rate_groups.require_change(work.viewer, before)
        rate_groups.change(work.cursor, work.viewer, before._replace(**given))
        after = rate_groups.find(work.cursor, work.viewer, name, owner=owner)
        record = _record(after, work.viewer)
        work.note(
            "rate-group set", name, before=dict(_record(before, work.viewer)), after=dict(record)
        )
    show_record(session, record)


@rate_group.command()
@click.argument("name")
@click.argument("resource_group", metavar="RG_XX", type=RESOURCE_GROUP)
@click.option("--priority", type=int, default=0, show_default=True, help="Smaller is tried first.")
@click.option("--weight", type=click.IntRange(0), default=1, show_default=True)
@click.option("--owner", metavar="CODE", default="", help="Where several have one of this name.")
@output_option
@pass_session
def attach(
    session: Session, name: str, resource_group: str, priority: int, weight: int, owner: str
) -> None:
    """Let the calls of rate group NAME go out over RG_XX."""
    with session.transaction() as work:
        require_operator(work.viewer, "routes")
        group = rate_groups.find(work.cursor, work.viewer, name, owner=owner)
        way_out = resource_groups.find(work.cursor, work.viewer, resource_group)
        if way_out.direction != "out":
            raise BadData(f"{resource_group} is inbound: calls go out over outbound groups")
        rate_groups.attach(
            work.cursor,
            work.viewer,
            group.rate_group_id,
            way_out.resource_group_id,
            priority=priority,
            weight=weight,
        )
        found = rate_groups.routes(work.cursor, work.viewer, group.rate_group_id)
        work.note(
            "rate-group attach",
            name,
            after={"resource_group": resource_group, "priority": priority, "weight": weight},
        )
    rows = [_route(route) for route in found]
    show_rows(session, tuple(rows[0]), rows)


@rate_group.command()
@click.argument("name")
@click.argument("resource_group", metavar="RG_XX", type=RESOURCE_GROUP)
@click.option("--owner", metavar="CODE", default="", help="Where several have one of this name.")
@pass_session
def detach(session: Session, name: str, resource_group: str, owner: str) -> None:
    """Take RG_XX away from rate group NAME."""
    with session.transaction() as work:
        require_operator(work.viewer, "routes")
        group = rate_groups.find(work.cursor, work.viewer, name, owner=owner)
        way_out = resource_groups.find(work.cursor, work.viewer, resource_group)
        if not rate_groups.detach(
            work.cursor, work.viewer, group.rate_group_id, way_out.resource_group_id
        ):
            raise BadData(f"{resource_group} is not attached to rate group {name}")
        work.note("rate-group detach", name, before={"resource_group": resource_group})
    click.echo(f"{resource_group} is detached from {name}", err=True)


bands.attach(rate_group, bands.of_rate_group)
