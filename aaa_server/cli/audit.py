"""`sky-aaa audit`: the books, proved."""

from __future__ import annotations

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import output_option, show_rows
from aaa_server.storage import audit as proof


@click.command()
@output_option
@pass_session
@click.pass_context
def audit(ctx: click.Context, session: Session) -> None:
    """Prove balances, reservations, channels and charges from the rows that they are made of.

    0 differences, or a list of them and exit status 1. Amounts are micros. A server may run
    meanwhile: everything is read as of one instant.
    """
    session.operator_only("the audit")
    with session.connection() as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            outcome = proof.prove(cursor)
        connection.rollback()
    differences = [difference for proved in outcome for difference in proved.differences]
    if session.output == "table":
        for proved in outcome:
            mark = f"{len(proved.differences)} differences" if proved.differences else "ok"
            click.echo(f"{proved.check}: {mark}", err=True)
    if differences or session.output != "table":
        show_rows(
            session,
            ("check", "subject", "expected", "found"),
            [difference._asdict() for difference in differences],
        )
    click.echo(f"{len(differences)} differences", err=session.output != "table")
    if differences:
        ctx.exit(1)
