"""`sky-aaa issuer`: what stands on the invoices of the operator and of resellers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import Amount, output_option, show_record, show_rows
from aaa_server.cli.values import LANGUAGE
from aaa_server.rating import money
from aaa_server.storage import accounts, issuers
from aaa_server.storage.issuers import DunningStep
from aaa_server.storage.movements import AMOUNT_MICROS_MAX

if TYPE_CHECKING:
    from aaa_server.cli.output import Row
    from aaa_server.storage.issuers import Issuer


@click.group()
def issuer() -> None:
    """Who issues invoices: name, address, tax numbers, bank, logo, number series."""


@issuer.command("set")
@click.argument("code")
@click.option("--name", help="The firm, as the law wants it.")
@click.option("--street")
@click.option("--postcode")
@click.option("--city")
@click.option("--country", help="Two letters: DE.")
@click.option("--tax-number")
@click.option("--vat-id", help="Its form and check digit are looked at.")
@click.option("--register", help="Register court and number, or the like.")
@click.option("--iban")
@click.option("--bic")
@click.option("--email")
@click.option("--phone")
@click.option("--website")
@click.option("--logo", "logo_file", metavar="FILE", help="PNG, JPEG or SVG; '' takes it away.")
@click.option("--colour", help="Of headings: #0f4c81.")
@click.option("--series", help="Of invoices: INV-{year}- and then the number.")
@click.option("--credit-series", help="Of credit notes.")
@click.option("--language", type=LANGUAGE, help="Where the buyer's is not en, de, es or fr.")
@click.option("--payment-days", type=click.IntRange(0, 366))
@click.option("--note", help="Below the totals.")
@output_option
@pass_session
def set_(session: Session, /, code: str, logo_file: str | None, **options: Any) -> None:
    """Change what stands on the invoices of CODE; what is not named stays."""
    given = {key: value for key, value in options.items() if value is not None}
    if not given and logo_file is None:
        raise click.UsageError("nothing to change: name at least one option")
    logo = None if logo_file is None else _read(logo_file)
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code)
        before = issuers.issuer(work.cursor, account.account_id)
        after = issuers.set_issuer(work.cursor, work.viewer, account, given, logo)
        work.note("issuer set", code, before=_record(before), after=_record(after))
    show_record(session, {"code": code, **_record(after)})


def _read(path: str) -> bytes:
    if not path:
        return b""
    with click.open_file(path, "rb") as file:
        content: bytes = file.read(issuers.LOGO_OCTETS_MAX + 1)
    return content


@issuer.command()
@click.argument("code")
@output_option
@pass_session
def show(session: Session, code: str) -> None:
    """What stands on the invoices of CODE, and what is missing."""
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code)
        found = issuers.issuer(work.cursor, account.account_id)
    show_record(session, {"code": code, **_record(found), "missing": found.missing})


def _record(one: Issuer) -> dict[str, Any]:
    record = one._asdict()
    del record["account_id"]
    digest = record.pop("logo_sha256")
    record["logo_sha256"] = digest.hex() if digest else None
    return record


@issuer.command("dunning")
@click.argument("code")
@click.argument("steps", nargs=-1, metavar="[DAYS[:FEE][:suspend]]…")
@click.option("--none", is_flag=True, help="No reminders at all.")
@output_option
@pass_session
def dunning(session: Session, code: str, steps: tuple[str, ...], none: bool) -> None:
    """Reminders of CODE's invoices, in days after the due date: 7 21:5.00 35:5.00:suspend."""
    wanted = [_step(place, text) for place, text in enumerate(steps, start=1)]
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code)
        if wanted or none:
            before = issuers.dunning_steps(work.cursor, account.account_id)
            issuers.set_dunning_steps(work.cursor, work.viewer, account, wanted)
            work.note(
                "issuer dunning",
                code,
                before={"steps": [list(one) for one in before]},
                after={"steps": [list(one) for one in wanted]},
            )
        found = issuers.dunning_steps(work.cursor, account.account_id)
    show_rows(session, ("step", "days", "fee", "suspend"), [_step_row(one) for one in found])


def _step_row(one: DunningStep) -> Row:
    fee = Amount(money.format_micros(one.fee_micros))
    return {"step": one.step, "days": one.days, "fee": fee, "suspend": one.suspend}


def _step(place: int, text: str) -> DunningStep:
    days, *rest = text.split(":")
    suspend = "suspend" in rest
    fees = [part for part in rest if part != "suspend"]
    if not days.isdecimal() or len(fees) > 1 or place > 9:
        raise BadData(f"{text!r} is no dunning step: 21, 21:5.00 or 35:5.00:suspend are, at most 9")
    try:
        fee = money.parse_micros(fees[0]) if fees else 0
    except ValueError as error:
        raise BadData(f"{text!r}: {error}") from error
    if not 0 <= fee <= AMOUNT_MICROS_MAX:
        raise BadData(f"{text!r}: a fee is not below 0 and at most {AMOUNT_MICROS_MAX // 10**6}")
    return DunningStep(place, int(days), fee, suspend)
