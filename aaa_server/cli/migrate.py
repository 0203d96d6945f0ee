"""`sky-aaa migrate`: the database's schema, up to date."""

from __future__ import annotations

import click

from aaa_server.cli.context import Failure, Session, pass_session
from aaa_server.cli.output import output_option, show_rows


@click.command()
@click.option("--dry-run", is_flag=True, help="Only list what would be applied.")
@output_option
@pass_session
def migrate(session: Session, dry_run: bool) -> None:
    """Apply the schema files that the database lacks: each once, all or none."""
    from aaa_server.storage import migrate as schema

    session.operator_only("migrating")
    with session.connection() as connection:
        try:
            names = schema.pending(connection) if dry_run else schema.migrate(connection)
        except schema.MigrationError as error:
            raise Failure(str(error)) from error
    if names or session.output != "table":
        show_rows(session, ("migration",), [{"migration": name} for name in names])
    if not names:
        click.echo("the schema is up to date", err=True)
    elif dry_run:
        click.echo(f"{len(names)} to apply: run `sky-aaa migrate`", err=True)
    else:
        click.echo(f"{len(names)} applied", err=True)
