"""`sky-aaa invoice schedule`: what the worker does about invoices by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import output_option, show_record, show_rows
from aaa_server.storage import accounts, invoice_schedules, job_problems
from aaa_server.storage.invoice_schedules import UNITS, InvoiceSchedule

if TYPE_CHECKING:
    from datetime import date

    from aaa_server.cli.output import Row
    from aaa_server.storage.accounts import Account

COLUMNS = ("issuer", "unit", "next_period", "runs_at", "documents", "mail", "remind", "problem")
JOBS = ("invoice-run", "invoice-documents", "invoice-mail", "reminders")


@click.group()
def schedule() -> None:
    """Periods that are invoiced, written, mailed and reminded of by the worker."""


@schedule.command("set")
@click.argument("code")
@click.option("--every", "unit", type=click.Choice(UNITS), help="[default: month]")
@click.option(
    "--from", "first", metavar="PERIOD", help="The first one: 2026-11.  [default: the present one]"
)
@click.option(
    "--grace-hours", type=click.IntRange(0, 720), help="After a period's end.  [default: 6]"
)
@click.option("--mail/--no-mail", default=None, help="Mail what is issued from now on.")
@click.option("--remind/--no-remind", default=None, help="Take dunning steps, and mail them.")
@click.option("--documents/--no-documents", default=None, help="Write PDFs: the operator's choice.")
@output_option
@pass_session
def set_(
    session: Session,
    code: str,
    unit: str | None,
    first: str | None,
    grace_hours: int | None,
    mail: bool | None,
    remind: bool | None,
    documents: bool | None,
) -> None:
    """Invoice CODE's accounts by itself from now on; what is not named stays."""
    now = datetime.now(UTC)
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code)
        before = invoice_schedules.find(work.cursor, account.account_id)
        plain = before or _new(account)
        wanted = plain._replace(
            unit=unit or plain.unit,
            grace_hours=plain.grace_hours if grace_hours is None else grace_hours,
            documents_since=_since(documents, plain.documents_since, now),
            mail_since=_since(mail, plain.mail_since, now),
            remind_since=_since(remind, plain.remind_since, now),
        )
        if first or before is None or wanted.unit != before.unit:
            wanted = wanted._replace(next_from=_first(wanted, first, now))
        invoice_schedules.keep(work.cursor, work.viewer, account, wanted)
        work.note(
            "invoice schedule set",
            code,
            before=None if before is None else _told(before),
            after=_told(wanted),
        )
        row = _row(wanted, "")
    show_record(session, row)


def _new(account: Account) -> InvoiceSchedule:
    return InvoiceSchedule(
        issuer_id=account.account_id,
        issuer_code=account.code,
        issuer_chain=account.chain,
        time_zone=account.time_zone,
        unit="month",
        next_from=datetime.now(ZoneInfo(account.time_zone)).date(),
        grace_hours=6,
        documents_since=None,
        mail_since=None,
        remind_since=None,
    )


def _since(wanted: bool | None, before: datetime | None, now: datetime) -> datetime | None:
    if wanted is None:
        return before
    return (before or now) if wanted else None


def _first(wanted: InvoiceSchedule, first: str | None, now: datetime) -> date:
    """The first day of the period that is named, or of the one that runs now."""
    from web_reports.period import named

    zone = ZoneInfo(wanted.time_zone)
    name = first or f"this-{wanted.unit}"
    period = named(name, zone, now)
    day = period.begin.astimezone(zone).date()
    whole = _named(wanted, day)
    if first and whole != first:
        raise BadData(f"--from: {first} is no {wanted.unit}: {whole} is")
    return day


def _named(wanted: InvoiceSchedule, day: date) -> str:
    from aaa_server.worker.invoices import span_of

    return span_of(wanted, day).name


@schedule.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """Who is invoiced by itself, what comes next, and what stands in the way."""
    with session.transaction() as work:
        found = invoice_schedules.list_schedules(work.cursor, work.viewer)
        problems = job_problems.list_problems(work.cursor, work.viewer)
    rows = [
        _row(
            one,
            "; ".join(
                f"{each.job}: {each.problem}"
                for each in problems
                if each.account_id == one.issuer_id and each.job in JOBS
            ),
        )
        for one in found
    ]
    show_rows(session, COLUMNS, rows)


@schedule.command()
@click.argument("code")
@pass_session
def remove(session: Session, code: str) -> None:
    """Nothing about CODE's invoices is done by itself any more."""
    with session.transaction() as work:
        account = accounts.find(work.cursor, work.viewer, code)
        before = invoice_schedules.find(work.cursor, account.account_id)
        if invoice_schedules.remove(work.cursor, work.viewer, account) and before is not None:
            work.note("invoice schedule remove", code, before=_told(before))
            return
    click.echo(f"{code}: there was nothing to remove", err=True)


def _told(one: InvoiceSchedule) -> dict[str, object]:
    record = one._asdict()
    for name in ("issuer_id", "issuer_code", "issuer_chain", "time_zone"):
        del record[name]
    return record


def _row(one: InvoiceSchedule, problem: str) -> Row:
    from datetime import timedelta

    from aaa_server.worker.invoices import span_of

    span = span_of(one, one.next_from)
    return {
        "issuer": one.issuer_code,
        "unit": one.unit,
        "next_period": span.name,
        "runs_at": span.end + timedelta(hours=one.grace_hours),
        "grace_hours": one.grace_hours,
        "documents": one.documents_since is not None,
        "mail": one.mail_since is not None,
        "remind": one.remind_since is not None,
        "problem": problem,
    }
