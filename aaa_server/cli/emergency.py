"""`sky-aaa emergency`: numbers that always pass."""

from __future__ import annotations

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import output_option, show_record, show_rows
from aaa_server.cli.values import RESOURCE_GROUP
from aaa_server.storage import number_rules, resource_groups
from aaa_server.storage.viewer import require_operator


@click.group()
def emergency() -> None:
    """Emergency numbers: they always pass, free of charge, whoever calls, and are on record."""


@emergency.command()
@click.argument("number")
@click.option(
    "--resource-group", "group", type=RESOURCE_GROUP, help="The way out.  [default: the switch's]"
)
@click.option("--note", default="", help="For people.")
@output_option
@pass_session
def add(session: Session, number: str, group: str | None, note: str) -> None:
    """NUMBER, just as the switch sends it, is an emergency number."""
    with session.transaction() as work:
        require_operator(work.viewer, "emergency numbers")
        out = None
        if group is not None:
            out = resource_groups.find(work.cursor, work.viewer, group)
        number_rules.add_emergency(work.cursor, work.viewer, number, out, note)
        made = {"number": number, "resource_group": group or "", "note": note}
        work.note("emergency add", number, after=made)
    show_record(session, made)


@emergency.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """All emergency numbers."""
    with session.transaction() as work:
        found = number_rules.list_emergency(work.cursor, work.viewer)
    columns = number_rules.EmergencyNumber._fields
    show_rows(session, columns, [one._asdict() for one in found])


@emergency.command()
@click.argument("number")
@pass_session
def remove(session: Session, number: str) -> None:
    """NUMBER is like any other."""
    with session.transaction() as work:
        number_rules.remove_emergency(work.cursor, work.viewer, number)
        work.note("emergency remove", number)
    click.echo(f"{number} is no emergency number any more", err=True)
