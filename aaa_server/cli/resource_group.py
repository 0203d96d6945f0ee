"""`sky-aaa resource-group`: the carrier connections of the switch."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli import bands
from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import output_option, show_record, show_rows
from aaa_server.cli.values import COUNT, CURRENCY, RESOURCE_GROUP, TIME_ZONE
from aaa_server.storage import accounts, resource_groups
from aaa_server.storage.resource_groups import Endpoint
from aaa_server.storage.viewer import require_operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from aaa_server.cli.output import Row
    from aaa_server.storage.resource_groups import ResourceGroup


@click.group("resource-group")
def resource_group() -> None:
    """Resource groups: RG_xx, one direction of a carrier's connection."""


def _endpoint(text: str) -> Endpoint:
    """Reads 192.0.2.0/24, 192.0.2.7:5060, [2001:db8::/32]:5060; no port: any."""
    address, port = text, ""
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        network = str(ipaddress.ip_network(address, strict=True))
        number = int(port or 0)
        if not 0 <= number <= 65535:
            raise ValueError(f"port {number} is above 65535")
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r}: {error}. 192.0.2.0/24, 192.0.2.7:5060 or [2001:db8::/32]:5060 are expected",
            param_hint="--endpoint",
        ) from error
    return Endpoint(network, number)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `add` and `set` share."""
    for option in reversed(
        (
            click.option(
                "--gateway",
                help="Outbound: the dial string without the number, sofia/gateway/acme.",
            ),
            click.option("--max-calls", type=COUNT, help="Calls at once; 0: no limit."),
            click.option("--calls-per-second", type=COUNT, help="0: no limit."),
            click.option("--precedence", type=click.IntRange(-(2**31), 2**31 - 1)),
            click.option("--strip", type=click.IntRange(0, 32), help="Digits off the front."),
            click.option("--prepend", help="Digits before the rest."),
            click.option("--time-zone", type=TIME_ZONE, help="Of its termination rates."),
            click.option(
                "--endpoint",
                "endpoints",
                multiple=True,
                metavar="CIDR[:PORT]",
                help="Inbound: where its calls come from; repeatable, all at once.",
            ),
            click.option(
                "--tech-prefix", help="Inbound: what the numbers of these endpoints begin with."
            ),
        )
    ):
        command = option(command)
    return command


def _endpoints(options: dict[str, Any]) -> list[Endpoint]:
    tech_prefix = options.pop("tech_prefix")
    found = [_endpoint(text) for text in options.pop("endpoints")]
    if tech_prefix is None:
        return found
    if not found:
        raise click.UsageError("--tech-prefix goes with --endpoint")
    return [endpoint._replace(tech_prefix=tech_prefix) for endpoint in found]


@resource_group.command()
@click.argument("name", metavar="XX", type=RESOURCE_GROUP)
@click.option("--direction", type=click.Choice(["in", "out"]), required=True)
@click.option(
    "--account",
    "code",
    metavar="CODE",
    required=True,
    help="Outbound: the provider. Inbound: the customer or reseller whose calls they are.",
)
@click.option(
    "--currency", type=CURRENCY, help="Outbound: of its rates.  [default: the provider's]"
)
@_options
@output_option
@pass_session
def add(
    session: Session, /, name: str, direction: str, code: str, currency: str | None, **options: Any
) -> None:
    """Make resource group RG_XX."""
    endpoints = _endpoints(options)
    if direction == "out" and endpoints:
        raise click.UsageError(
            "--endpoint is for inbound groups: calls do not arrive over this one"
        )
    if direction == "in" and options["gateway"]:
        raise click.UsageError("--gateway is for outbound groups: nothing is dialled over this one")
    if direction == "in" and options["time_zone"]:
        raise click.UsageError("--time-zone is for outbound groups: this one has no rates")
    given = {key: value for key, value in options.items() if value is not None}
    with session.transaction() as work:
        require_operator(work.viewer, "resource groups are added")
        owner = accounts.find(work.cursor, work.viewer, code)
        if (owner.kind == "provider") != (direction == "out") or owner.kind == "admin":
            wanted = "a provider" if direction == "out" else "a customer or reseller"
            raise BadData(
                f"direction {direction} needs {wanted}, and {code} is of kind {owner.kind}"
            )
        new = resource_groups.NewResourceGroup(
            name=name,
            direction=direction,
            account_id=owner.account_id,
            currency=currency or owner.currency,
            **given,
        )
        group_id = resource_groups.add(work.cursor, work.viewer, new)
        resource_groups.set_endpoints(work.cursor, work.viewer, group_id, name, endpoints)
        made = resource_groups.find(work.cursor, work.viewer, name)
        work.note("resource-group add", name, after=dict(_record(made)))
    show_record(session, _record(made))


@resource_group.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """The resource groups that you may see."""
    with session.transaction() as work:
        found = resource_groups.list_resource_groups(work.cursor, work.viewer)
        operator = work.viewer.is_operator
        rates = resource_groups.rates_in_force(work.cursor, work.viewer) if operator else {}
    columns = ["name", "direction", "account", "status", "calls", "max_calls", "endpoints"]
    if operator:
        columns += ["gateway", "currency", "rates"]
    rows = [{**_record(one), "rates": rates.get(one.resource_group_id, 0)} for one in found]
    show_rows(session, columns, rows)


@resource_group.command()
@click.argument("name", metavar="XX", type=RESOURCE_GROUP)
@output_option
@pass_session
def show(session: Session, name: str) -> None:
    """All about one resource group."""
    with session.transaction() as work:
        one = resource_groups.find(work.cursor, work.viewer, name)
    show_record(session, _record(one))


def _record(one: ResourceGroup) -> Row:
    record = {
        "name": one.name,
        "direction": one.direction,
        "account": one.account_code,
        "status": one.status,
        "calls": one.channels,
        "max_calls": one.max_calls,
        "calls_per_second": one.calls_per_second,
        "precedence": one.precedence,
        "strip": one.strip,
        "prepend": one.prepend,
        "endpoints": list(one.endpoints),
    }
    if one.tariff_id is not None or one.gateway or one.direction == "in":
        record |= {"gateway": one.gateway, "currency": one.currency}
    if one.tariff_id is not None:
        record["time_zone"] = one.time_zone
    return record


@resource_group.command("set")
@click.argument("name", metavar="XX", type=RESOURCE_GROUP)
@click.option("--active/--suspended", "active", default=None, help="Suspended: carries no call.")
@click.option("--no-endpoints", is_flag=True, help="Take all endpoints away.")
@_options
@output_option
@pass_session
def set_(
    session: Session, /, name: str, active: bool | None, no_endpoints: bool, **options: Any
) -> None:
    """Change resource group RG_XX; what is not named stays. --endpoint replaces them all."""
    endpoints = _endpoints(options)
    if no_endpoints and endpoints:
        raise click.UsageError("--no-endpoints and --endpoint: one of them")
    given = {key: value for key, value in options.items() if value is not None}
    if active is not None:
        given["status"] = "active" if active else "suspended"
    if not given and not endpoints and not no_endpoints:
        raise click.UsageError("nothing to change: name at least one option")
    with session.transaction() as work:
        before = resource_groups.find(work.cursor, work.viewer, name)
        require_operator(work.viewer, "resource groups are changed")
        if before.direction == "out" and endpoints:
            raise BadData(f"{name} is outbound: endpoints are where inbound calls come from")
        if before.direction == "in" and "time_zone" in given:
            raise BadData(f"{name} is inbound: only rates go by a time zone, and it has none")
        resource_groups.change(work.cursor, work.viewer, before._replace(**given))
        if endpoints or no_endpoints:
            resource_groups.set_endpoints(
                work.cursor, work.viewer, before.resource_group_id, name, endpoints
            )
        after = resource_groups.find(work.cursor, work.viewer, name)
        work.note(
            "resource-group set", name, before=dict(_record(before)), after=dict(_record(after))
        )
    show_record(session, _record(after))


bands.attach(resource_group, bands.of_resource_group)
