"""`sky-aaa map`: whose call it is when the switch gives no account code."""

from __future__ import annotations

import click

from aaa_server.cli.context import BadData, Failure, Session, Work, pass_session
from aaa_server.cli.output import output_option, show_rows
from aaa_server.rating.prefix import number_of
from aaa_server.storage import accounts, maps
from aaa_server.storage.viewer import Deed, require


@click.group("map")
def map_() -> None:
    """Extension and ANI maps: whose call it is when no account code is given."""


def _account_to_map(work: Work, code: str) -> int:
    account = accounts.find(work.cursor, work.viewer, code)
    require(work.viewer, Deed.MAP, account.chain, code)
    if account.kind not in ("customer", "reseller"):
        raise BadData(f"{code} is a {account.kind}: calls belong to customers and resellers")
    return account.account_id


def _number(text: str) -> str:
    number = number_of(text)
    if not number:
        raise click.BadParameter(f"{text!r} is no number", param_hint="NUMBER")
    return number


def _split(text: str) -> tuple[str, str]:
    extension, _, domain = text.partition("@")
    if not extension:
        raise click.BadParameter(f"{text!r}: EXT or EXT@DOMAIN is expected", param_hint="EXT")
    return extension, domain.lower()


def _tell(what: str, code: str, before: str) -> None:
    instead = f", and not {before} any more" if before not in ("", code) else ""
    click.echo(f"{what} is {code}{instead}", err=True)


@map_.command()
@click.argument("extension", metavar="EXT[@DOMAIN]")
@click.argument("code")
@pass_session
def extension(session: Session, extension: str, code: str) -> None:
    """Calls of this extension are account CODE's; without DOMAIN, in every domain."""
    name, domain = _split(extension)
    with session.transaction() as work:
        before = maps.map_extension(work.cursor, name, domain, _account_to_map(work, code))
        work.note(
            "map extension", extension, before={"account": before or None}, after={"account": code}
        )
    _tell(f"extension {extension}", code, before)


@map_.command()
@click.argument("number")
@click.argument("code")
@pass_session
def ani(session: Session, number: str, code: str) -> None:
    """Calls from this number are account CODE's."""
    digits = _number(number)
    with session.transaction() as work:
        before = maps.map_ani(work.cursor, digits, _account_to_map(work, code))
        work.note("map ani", digits, before={"account": before or None}, after={"account": code})
    _tell(f"number {digits}", code, before)


@map_.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """The maps to accounts that you may see."""
    with session.transaction() as work:
        found = maps.list_maps(work.cursor, work.viewer)
    show_rows(
        session,
        ("map", "number", "domain", "account"),
        [
            {
                "map": one.kind,
                "number": one.number,
                "domain": one.domain,
                "account": one.account_code,
            }
            for one in found
        ],
    )


@map_.command()
@click.argument("kind", type=click.Choice(["extension", "ani"]))
@click.argument("number", metavar="EXT[@DOMAIN]|NUMBER")
@pass_session
def remove(session: Session, kind: str, number: str) -> None:
    """Take a mapping away."""
    with session.transaction() as work:
        if kind == "ani":
            gone = maps.unmap_ani(work.cursor, _number(number))
        else:
            gone = maps.unmap_extension(work.cursor, *_split(number))
        if not gone:
            raise Failure(f"{kind} {number} is not mapped: `sky-aaa map list` shows what is")
        work.note("map remove", f"{kind} {number}")
    click.echo(f"{kind} {number} is not mapped any more", err=True)
