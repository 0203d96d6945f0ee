"""`sky-aaa secrets`: the key that passwords and shared secrets are sealed with."""

from __future__ import annotations

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import output_option, show_record, show_rows


@click.group()
def secrets() -> None:
    """The key file, and what is sealed with it in the database."""


@secrets.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """How many values each key seals. A key that seals none is for old backups alone."""
    from aaa_server.storage import sealed

    session.operator_only("the key file")
    with session.transaction() as work:
        found = sealed.uses(work.cursor)
    columns = ("table", "column", "key_id", "values")
    show_rows(session, columns, [use._asdict() for use in found])


@secrets.command()
@output_option
@pass_session
def rotate(session: Session) -> None:
    """Add a new key to the key file and seal everything with it.

    The old keys stay in the file: backups of the database need them. Servers go on working
    and read the file again. Broken off, `sky-aaa secrets reseal` goes on with it.
    """
    from aaa_server.storage.secrets import add_key

    session.operator_only("key rotation")
    assert session.keyring  # makes the file where there is none and nothing is sealed
    key_id = add_key(session.config.secrets.key_file)
    _reseal(session, "secrets rotate", key_id)


@secrets.command()
@output_option
@pass_session
def reseal(session: Session) -> None:
    """Seal with the newest key what another one sealed: the second half of a rotation."""
    session.operator_only("key rotation")
    _reseal(session, "secrets reseal", session.keyring.sealing_id)


def _reseal(session: Session, action: str, key_id: int) -> None:
    from aaa_server.storage import sealed

    session.keyring.refresh()
    with session.connection() as connection:
        with session.transaction(connection) as work:
            columns = sealed.columns(work.cursor)
            work.note(action, f"key {key_id}", after={"columns": len(columns)})
        count = sum(sealed.reseal(connection, session.keyring, column) for column in columns)
    show_record(session, {"key_id": key_id, "resealed": count})
    click.echo(
        f"everything is sealed with key {key_id} of {session.config.secrets.key_file}: keep a copy",
        err=True,
    )
