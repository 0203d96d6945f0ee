"""`sky-aaa simulate-call` and `sky-aaa route`: what would happen, and why. Nothing is touched.

The server's own decision is taken on rows that were read and let go again; what is told of
the steps are the answers of the same functions to one account, price or route at a time.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

import click

from aaa_server.charging.requests import Authorize, Granted, Origin, Refused, Stop
from aaa_server.cli.cdr import show_steps
from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import output_option, show_record, show_rows
from aaa_server.cli.simulation import ROUTE_COLUMNS, route_rows, simulation_record, simulation_steps
from aaa_server.cli.values import RESOURCE_GROUP, WHEN
from aaa_server.rating.prefix import number_of
from aaa_server.storage import clients
from aaa_server.storage.problem import NotFound
from aaa_server.storage.viewer import Deed, Viewer, may, require_operator, unknown_account

if TYPE_CHECKING:
    from datetime import datetime

    from aaa_server.charging.ledger import Ledger
    from aaa_server.charging.simulation import Simulation
    from aaa_server.cli.output import Row
    from aaa_server.radius.call import AccessCall
    from aaa_server.radius.client import Client

SESSION_KEY = "simulated"
NOBODY = 0  # no client row has this number, so no call of it is on record


class Asked(NamedTuple):
    """What the command was given."""

    origin: Origin
    called: str
    at: datetime
    seconds: int | None
    client_name: str


def _number(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    number = number_of(value)
    if not number:
        raise click.BadParameter(f"{value!r} is no number")
    return number


@click.command("simulate-call")
@click.option("--account", "code", metavar="CODE", default="", help="As if the switch gave it.")
@click.option("--extension", metavar="E[@DOMAIN]", default="", help="Who is mapped to it.")
@click.option("--ani", metavar="NUMBER", default="", help="The caller's number.")
@click.option("--resource-group", metavar="RG_XX", type=RESOURCE_GROUP, help="Inbound.")
@click.option("--called", metavar="NUMBER", required=True, callback=_number)
@click.option(
    "--seconds", type=click.IntRange(0, 86_400), help="And what a talk of this length would cost."
)
@click.option("--at", type=WHEN, default="now", show_default=True, help="Prices of this instant.")
@click.option(
    "--client", metavar="NAME", default="", help="As this RADIUS client: its limits, its reply."
)
@output_option
@pass_session
def simulate_call(
    session: Session,
    code: str,
    extension: str,
    ani: str,
    resource_group: str | None,
    called: str,
    seconds: int | None,
    at: datetime,
    client: str,
) -> None:
    """What a call to NUMBER would do, step by step and why. Touches nothing.

    Prices and routes are those of --at; balances, limits and calls in progress are those of
    now. A password is not asked for.
    """
    if not (code or extension or ani or resource_group):
        raise click.UsageError(
            "whose call? Name --account, --extension, --ani or --resource-group, or several"
        )
    name, _, domain = extension.partition("@")
    origin = Origin(
        account_code=code,
        extension=name,
        domain=domain,
        ani=number_of(ani) or ani,
        resource_group=resource_group or "",
    )
    asked = Asked(origin, called, at, seconds, client)
    viewer, simulation, ledger, reply = _simulate(session, asked)
    if session.output == "json":
        record = simulation_record(simulation, ledger, viewer)
        show_record(session, record | {"reply": reply} if client else record)
        return
    steps = simulation_steps(simulation, ledger, viewer)
    steps += [{"about": "reply", "what": f"{one['attribute']} = {one['value']}"} for one in reply]
    show_steps(session, steps)


@click.command()
@click.argument("number", metavar="NUMBER", callback=_number)
@click.option("--account", "code", metavar="CODE", required=True, help="Whose call.")
@click.option("--at", type=WHEN, default="now", show_default=True, help="Rates of this instant.")
@output_option
@pass_session
def route(session: Session, number: str, code: str, at: datetime) -> None:
    """Who would carry a call of CODE to NUMBER, in which order, and why not the others.

    Costs are those of a call of 180 s in the operator's currency.
    """
    asked = Asked(Origin(account_code=code), number, at, None, "")
    viewer, simulation, ledger, _ = _simulate(session, asked, what="routes")
    if isinstance(simulation.found, Refused) or not simulation.payers:
        raise NotFound(unknown_account(viewer, code))
    rows = route_rows(simulation, ledger)
    if not rows:
        top = simulation.payers[-1]
        group = top.group.name if top.group is not None else "none"
        click.echo(
            f"nothing is attached to rate group {group} of {top.profile.code}: the switch routes "
            "by itself (`sky-aaa rate-group attach` changes that)",
            err=True,
        )
    show_rows(session, ROUTE_COLUMNS, rows)


def _simulate(
    session: Session, asked: Asked, *, what: str = ""
) -> tuple[Viewer, Simulation, Ledger, list[Row]]:
    """The simulation, what it was made on, and the reply to the client if one is named.

    `what`: the operator's own business, which is asked for.
    """
    # The modules of a server are imported by the commands that need them.
    from aaa_server.auth import Limits, charging_request
    from aaa_server.charging.simulation import simulate
    from aaa_server.online_charging import policy_of
    from aaa_server.radius.call import AccessCall
    from aaa_server.storage.plain import look

    charging = session.config.charging
    with session.connection() as connection:
        with session.transaction(connection) as work:
            viewer = work.viewer
            if what:
                require_operator(viewer, what)
            row = clients.new("none", "127.0.0.1/32", "freeswitch")
            if asked.client_name:
                row = clients.find(work.cursor, viewer, asked.client_name)
        client = _client(row)
        call = AccessCall("call", SESSION_KEY, asked.origin, asked.called, None, True, "")
        limits = Limits(charging.slice_seconds, charging.maximum_call_seconds)
        request = charging_request(call, client, asked.at, limits)
        assert isinstance(request, Authorize)
        request = request._replace(client_id=NOBODY)
        # The Stop has the providers read as well.
        end = Stop(NOBODY, SESSION_KEY, asked.at, 0, Origin(), asked.called, unauthorized=False)
        ledger = look(connection, [request, end], number=asked.called, policy=policy_of(charging))
    simulation = simulate(request, ledger, seconds=asked.seconds)
    _require_visible(simulation, ledger, viewer, asked.origin)
    reply = _reply(simulation.answer, call, client) if asked.client_name else []
    return viewer, simulation, ledger, reply


def _require_visible(
    simulation: Simulation, ledger: Ledger, viewer: Viewer, origin: Origin
) -> None:
    """A reseller learns nothing of who exists outside its tree."""
    if viewer.is_operator:
        return
    found = simulation.found
    if not isinstance(found, Refused):
        chain = ledger.accounts[found.account_id].profile.chain
        if chain and may(viewer, Deed.SEE, chain):
            return
    if origin.account_code:
        raise NotFound(unknown_account(viewer, origin.account_code))
    raise NotFound(f"no account that {viewer.code} may see is found by what was given")


def _client(row: clients.Client) -> Client:
    from aaa_server.radius.client import Client
    from aaa_server.radius.packet import Secret

    return Client(
        client_id=row.client_id,
        name=row.name,
        network=ipaddress.ip_network(row.network),
        secrets=(Secret(b"-"),),
        type=row.type,
        refuse_with=row.refuse_with,
        slice_seconds=row.slice_seconds,
        maximum_call_seconds=row.maximum_call_seconds,
        return_codes=row.return_codes,
    )


def _reply(answer: Granted | Refused, call: AccessCall, client: Client) -> list[Row]:
    """The attributes that the client would get, in words."""
    from aaa_server.radius.dialect import DIALECTS
    from aaa_server.radius.dictionary import Names, load
    from aaa_server.radius.packet import ACCESS_ACCEPT

    code, attributes = DIALECTS[client.type].access_reply(answer, call, client)
    kind = "Access-Accept" if code == ACCESS_ACCEPT else "Access-Reject"
    spelled = [("Packet-Type", kind), *Names(load()).spelled(attributes)]
    return [{"attribute": name, "value": value} for name, value in spelled]
