"""`sky-aaa config`: what the configuration is, and where each value comes from."""

from __future__ import annotations

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import output_option, show_rows


@click.group()
def config() -> None:
    """The configuration: one TOML file, the environment over it."""


@config.command()
@output_option
@pass_session
def show(session: Session) -> None:
    """Every value and where it was set; secrets are masked."""
    rows = [
        {"key": key, "value": value, "set_in": origin}
        for key, value, origin in session.config.shown()
    ]
    show_rows(session, ("key", "value", "set_in"), rows)


@config.command()
@pass_session
def check(session: Session) -> None:
    """Say what is wrong with the configuration; exit status 2 when something is."""
    files = {origin for _, _, origin in session.config.shown() if origin.endswith(".toml")}
    where = ", ".join(sorted(files)) or "defaults and environment"
    click.echo(f"the configuration is good ({where})", err=True)
