"""`sky-aaa invoice`: run a period, look, write documents, credit, pay."""

from __future__ import annotations

import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from aaa_server.cli.context import BadData, Failure, Session, Work, pass_session
from aaa_server.cli.invoice_schedule import schedule
from aaa_server.cli.output import Things, amount, output_option, percent, show_record, show_rows
from aaa_server.cli.values import AMOUNT, PERCENT, WHEN
from aaa_server.storage import accounts, invoice_mails, invoices, payments
from aaa_server.storage.invoice_draft import Span
from aaa_server.storage.viewer import Deed, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aaa_server.cli.output import Row
    from aaa_server.config import SmtpConfig
    from aaa_server.storage.invoice_draft import Buyer
    from aaa_server.storage.invoice_issue import Issued
    from aaa_server.storage.invoice_mails import Mailed
    from aaa_server.storage.invoices import Invoice, Outcome
    from web_reports.dunning import Reminded

COLUMNS = ("number", "kind", "issuer", "account", "period", "issued", "due", "status", "currency",
           "total", "open")  # fmt: skip
RUN_COLUMNS = ("account", "what", "number", "lines", "currency", "net", "tax", "total")
STATUSES = ("draft", "issued", "part-paid", "paid", "void")


@click.group()
def invoice() -> None:
    """Invoices: run a period, look, write documents, credit, pay, send."""


def span_of(work: Work, name: str) -> Span:
    """The named period in the time zone of who runs the command."""
    from web_reports.period import named

    zone = accounts.find(work.cursor, work.viewer, work.viewer.code).time_zone
    period = named(name, ZoneInfo(zone), datetime.now(UTC))
    return Span(name, period.begin, period.end, zone)


# ------------------------------------------------------------------ run


@invoice.command()
@click.option("--period", required=True, metavar="PERIOD", help="2026-11, 2026-Q4, last-month …")
@click.option("--account", "code", metavar="CODE", help="Only this one.")
@click.option("--draft", "drafts", is_flag=True, help="Without numbers: look first, issue later.")
@click.option("--dry-run", is_flag=True, help="Say what would be invoiced; change nothing.")
@output_option
@pass_session
def run(session: Session, period: str, code: str | None, drafts: bool, dry_run: bool) -> None:
    """Invoice all direct accounts for a period that is over. Again: only what is missing."""
    with session.connection() as connection:
        with session.transaction(connection) as work:
            span = span_of(work, period)
            account = accounts.find(work.cursor, work.viewer, code) if code else None
            found = invoices.to_bill(work.cursor, work.viewer, span, account, datetime.now(UTC))
        rows = []
        with _progress(len(found)) as step:
            for buyer in found:
                with session.transaction(connection) as work:
                    outcome = _bill(work, buyer, span, drafts=drafts, dry_run=dry_run)
                step()
                if outcome.what != "nothing to bill":
                    rows.append(_outcome(outcome))
    show_rows(session, RUN_COLUMNS, rows)
    if dry_run:
        click.echo("nothing was changed: this was a dry run", err=True)


def _bill(work: Work, buyer: Buyer, span: Span, *, drafts: bool, dry_run: bool) -> Outcome:
    from web_reports import invoice_run

    if dry_run:
        return invoices.rehearse(work.cursor, work.viewer, buyer, span)
    now = datetime.now(UTC)
    return invoice_run.bill(
        work.cursor, work.viewer, buyer, span, now, actor=work.actor, issue=not drafts
    )


def _outcome(one: Outcome) -> Row:
    return {
        "account": one.code,
        "what": one.what,
        "number": one.number,
        "lines": one.lines,
        "currency": one.currency,
        "net": amount(one.net_micros),
        "tax": amount(one.tax_micros),
        "total": amount(one.total_micros),
    }


@contextlib.contextmanager
def _progress(count: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; elsewhere silence."""
    if not sys.stderr.isatty() or not count:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("invoices", total=count)
        yield lambda: bar.advance(task)


# ------------------------------------------------------------------ look


@invoice.command("list")
@click.option("--account", "code", metavar="CODE")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--period", default="", help="As the run named it: 2026-11.")
@click.option("--overdue", is_flag=True, help="Due before today, and not paid.")
@click.option("--limit", type=click.IntRange(1, invoices.LIST_MAX), default=1000, show_default=True)
@output_option
@pass_session
def list_(
    session: Session,
    code: str | None,
    status: str | None,
    period: str,
    overdue: bool,
    limit: int,
) -> None:
    """Invoices and credit notes, the oldest first, drafts at the end."""
    with session.transaction() as work:
        account_id = accounts.find(work.cursor, work.viewer, code).account_id if code else None
        wanted = invoices.Filter(
            account_id=account_id,
            status=status or "",
            period=period,
            overdue_on=datetime.now(UTC).date() if overdue else None,
            limit=limit,
        )
        found = invoices.list_invoices(work.cursor, work.viewer, wanted)
    show_rows(session, COLUMNS, [_row(one) for one in found])


def _row(one: Invoice) -> Row:
    return {
        "number": one.name,
        "kind": one.kind,
        "issuer": one.issuer_code or "operator",
        "account": one.account_code,
        "period": one.period_name,
        "issued": None if one.issue_date is None else one.issue_date.isoformat(),
        "due": None if one.due_date is None else one.due_date.isoformat(),
        "status": one.status,
        "currency": one.currency,
        "total": amount(one.total_micros),
        "open": amount(one.open_micros),
    }


def _name_options(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option(
        "--issuer", default="", metavar="CODE", help="Where two have the number."
    )(command)
    return click.argument("number")(command)


_reason_option = click.option("--reason", required=True, help="Stands on the credit note.")


@invoice.command()
@_name_options
@output_option
@pass_session
def show(session: Session, number: str, issuer: str) -> None:
    """One invoice with its lines; a draft by the name that `list` has."""
    with session.transaction() as work:
        one = invoices.find(work.cursor, work.viewer, number, issuer=issuer)
        totals = invoices.totals(work.cursor, one)
    lines = [
        {
            "kind": line.item.kind,
            "description": line.item.description,
            "calls": line.item.calls,
            "seconds": line.item.billed_seconds,
            "exact": amount(line.item.raw_micros),
            "amount": amount(line.amount_micros),
        }
        for line in totals.lines
    ]
    taxes = [
        {
            "tax": f"{taxed.tax.name} {percent(taxed.tax.rate_ppm)} %",
            "category": taxed.tax.category,
            "base": amount(taxed.base_micros),
            "amount": amount(taxed.tax_micros),
            "note": taxed.tax.note,
        }
        for taxed in totals.taxes
    ]
    show_record(
        session,
        {
            **_row(one),
            "net": amount(one.net_micros),
            "tax": amount(one.tax_micros),
            "rounding": amount(totals.residue_micros),
            "previous_balance": amount(one.previous_micros),
            "amount_due": amount(one.due_micros),
            "paid": amount(one.paid_micros),
            "credited": amount(one.credited_micros),
            "corrects": one.corrects,
            "reason": one.reason,
            "lines": Things(lines),
            "taxes": Things(taxes),
        },
    )


# ------------------------------------------------------------------ documents


@invoice.command()
@_name_options
@click.option("--out", metavar="FILE", help="[default: NUMBER.pdf]")
@pass_session
def pdf(session: Session, number: str, issuer: str, out: str | None) -> None:
    """Write the invoice as PDF/A-3 with the e-invoice in it."""
    from web_reports import invoice_document

    _write(session, number, issuer, out, "pdf", invoice_document.pdf)


@invoice.command()
@_name_options
@click.option("--out", metavar="FILE", help="[default: NUMBER.html]")
@pass_session
def html(session: Session, number: str, issuer: str, out: str | None) -> None:
    """Write the invoice as a page."""
    from web_reports import invoice_document

    _write(session, number, issuer, out, "html", invoice_document.html)


@invoice.command()
@_name_options
@click.option("--syntax", type=click.Choice(["cii", "ubl"]), default="cii", show_default=True)
@click.option("--out", metavar="FILE", help="[default: NUMBER.xml]")
@pass_session
def xml(session: Session, number: str, issuer: str, syntax: str, out: str | None) -> None:
    """Write the e-invoice (EN 16931), by itself."""
    from web_reports import invoice_document

    makers = {"cii": invoice_document.cii, "ubl": invoice_document.ubl}
    _write(session, number, issuer, out, f"xml-{syntax}", makers[syntax])


def _write(
    session: Session, number: str, issuer: str, out: str | None, kind: str, make: Any
) -> None:
    import hashlib

    from web_reports import invoice as view

    with session.transaction() as work:
        one = invoices.find(work.cursor, work.viewer, number, issuer=issuer)
        content = make(view.load(work.cursor, work.viewer, one))
        changed = False
        if one.number and kind != "html":
            digest = hashlib.sha256(content).digest()
            kept = invoices.note_document(work.cursor, work.viewer, one, kind, digest)
            changed = kept != digest
    if out == "-":
        sys.stdout.buffer.write(content)
        return
    suffix = kind.partition("-")[0]
    path = Path(out or f"{one.name.replace('/', '_')}.{suffix}")
    path.write_bytes(content)
    click.echo(str(path))
    if changed:
        click.echo(
            f"{one.name}: the same invoice, but not the bytes of the first time: this program or "
            "its fonts have changed since",
            err=True,
        )


@invoice.command()
@click.option("--period", default="", help="As the run named it: 2026-11.")
@click.option("--account", "code", metavar="CODE")
@click.option("--folder", default=".", metavar="FOLDER", show_default=True)
@click.option("--processes", type=click.IntRange(1, 64), default=2, show_default=True)
@pass_session
def pdfs(session: Session, period: str, code: str | None, folder: str, processes: int) -> None:
    """Write the PDFs of all issued invoices of a period; those that are there are left."""
    from aaa_server.storage.embedded import open_database
    from web_reports.invoice_batch import write_all

    Path(folder).mkdir(parents=True, exist_ok=True)
    with open_database(session.config) as database:
        with session.transaction() as work:
            account_id = accounts.find(work.cursor, work.viewer, code).account_id if code else None
            wanted = invoices.Filter(account_id=account_id, period=period)
            found = invoices.list_invoices(work.cursor, work.viewer, wanted)
        ids = [one.invoice_id for one in found if one.number]
        made = write_all(
            database.url, session.as_code, ids, Path(folder), processes=processes, step=_progress
        )
    click.echo(f"{made} of {len(ids)} written to {folder}, the others were there", err=True)


# ------------------------------------------------------------------ change


@invoice.command()
@_name_options
@output_option
@pass_session
def issue(session: Session, number: str, issuer: str) -> None:
    """Give the draft NUMBER its number."""
    _change(session, number, issuer, "issue", lambda work, one, now: invoices.issue_draft(
        work.cursor, work.viewer, one, now))  # fmt: skip


@invoice.command()
@_name_options
@pass_session
def discard(session: Session, number: str, issuer: str) -> None:
    """Take the draft NUMBER away: what it bills is free again."""
    with session.transaction() as work:
        one = invoices.find(work.cursor, work.viewer, number, issuer=issuer)
        invoices.discard_draft(work.cursor, work.viewer, one)
        work.note("invoice discard", one.name, before=_row(one), acting_as_id=one.issuer_id)


@invoice.command()
@_name_options
@click.argument("amount_", metavar="AMOUNT", type=AMOUNT)
@_reason_option
@click.option("--rate", type=PERCENT, help="Of which tax, where the invoice has several: 21.")
@output_option
@pass_session
def credit(
    session: Session, number: str, issuer: str, amount_: int, reason: str, rate: int | None
) -> None:
    """Give AMOUNT of invoice NUMBER back by a credit note, with the tax that goes with it."""
    _change(session, number, issuer, "credit", lambda work, one, now: invoices.credit(
        work.cursor, work.viewer, one, amount_, reason, now, rate_ppm=rate))  # fmt: skip


@invoice.command()
@_name_options
@_reason_option
@output_option
@pass_session
def void(session: Session, number: str, issuer: str, reason: str) -> None:
    """Take invoice NUMBER back by a credit note; its calls are invoiced by the next run."""
    _change(session, number, issuer, "void", lambda work, one, now: invoices.void(
        work.cursor, work.viewer, one, reason, now))  # fmt: skip


def _change(
    session: Session,
    number: str,
    issuer: str,
    deed: str,
    do: Callable[[Work, Invoice, datetime], Issued],
) -> None:
    """Do it, write it into the audit log under the invoice's number, and show what came of it."""
    with session.transaction() as work:
        one = invoices.find(work.cursor, work.viewer, number, issuer=issuer)
        done = do(work, one, datetime.now(UTC))
        record = _issued(one, done)
        if one.number:
            record["corrects"] = one.number
        subject = one.number or done.number
        work.note(f"invoice {deed}", subject, after=record, acting_as_id=one.issuer_id)
    show_record(session, record)


def _issued(one: Invoice, done: Issued) -> dict[str, Any]:
    return {
        "number": done.number,
        "account": one.account_code,
        "period": one.period_name,
        "currency": done.currency,
        "total": amount(done.total_micros),
        "amount_due": amount(done.due_micros),
    }


@invoice.command()
@_name_options
@click.argument("amount_", metavar="AMOUNT", type=AMOUNT)
@click.option("--method", default="bank-transfer", show_default=True)
@click.option("--reference", required=True, help="Unique by method: again changes nothing.")
@click.option("--at", type=WHEN, help="When it was paid.  [default: now]")
@output_option
@pass_session
def pay(
    session: Session,
    number: str,
    issuer: str,
    amount_: int,
    method: str,
    reference: str,
    at: datetime | None,
) -> None:
    """Enter that AMOUNT was paid for invoice NUMBER; too much pays the oldest other ones."""
    with session.transaction() as work:
        one = invoices.find(work.cursor, work.viewer, number, issuer=issuer)
        payer = accounts.find(work.cursor, work.viewer, one.account_code)
        new = payments.NewPayment(amount_, method, reference, at, f"for {one.number}")
        paid = invoices.pay(work.cursor, work.viewer, one, payer, new)
        after = invoices.find(work.cursor, work.viewer, number, issuer=one.issuer_code)
        record = {
            "number": one.number,
            "account": one.account_code,
            "posted": not paid.again,
            "amount": amount(amount_),
            "currency": one.currency,
            "status": after.status,
            "open": amount(after.open_micros),
            "balance": amount(paid.balance_micros),
        }
        if not paid.again:
            work.note("invoice pay", one.number, after=record, acting_as_id=one.issuer_id)
    if paid.again:
        click.echo(f"reference {reference} was posted before: nothing was changed", err=True)
    show_record(session, record)


# ------------------------------------------------------------------ mail


@invoice.command()
@_name_options
@click.option("--to", default="", metavar="ADDRESS", help="[default: the buyer's of then]")
@click.option("--again", is_flag=True, help="Although it was sent before.")
@output_option
@pass_session
def send(session: Session, number: str, issuer: str, to: str, again: bool) -> None:
    """Mail invoice NUMBER to its buyer, with the PDF; each try is logged."""
    from web_reports import invoice as view
    from web_reports import invoice_mail

    smtp = _smtp(session)
    with session.connection() as connection:
        with session.transaction(connection) as work:
            one = invoices.find(work.cursor, work.viewer, number, issuer=issuer)
            require(work.viewer, Deed.BILL, one.account_chain, one.account_code)
            if one.status == "draft":
                raise Failure(f"{one.name} is a draft: it is sent when it is issued")
        with invoice_mails.alone(connection, one.invoice_id):
            with session.transaction(connection) as work:
                if not again and invoice_mails.sent_before(work.cursor, one, "invoice"):
                    raise Failure(f"{one.number} was sent before: --again sends it once more")
                loaded = view.load(work.cursor, work.viewer, one)
                now = datetime.now(UTC)
                letter = invoice_mail.letter(
                    smtp, loaded, step=0, recipient=to, now=now, again=again
                )
            # No transaction is open while a mail server thinks.
            mailed = invoice_mail.send_once(smtp, letter)
            with session.transaction(connection) as work:
                invoice_mails.note(work.cursor, work.viewer, one, mailed)
                after = _mailed(mailed)
                work.note("invoice send", one.number, after=after, acting_as_id=one.issuer_id)
    if mailed.problem:
        raise Failure(f"{one.number} to {mailed.recipient}: {mailed.problem}")
    show_record(session, _mailed(mailed))


@invoice.command()
@_name_options
@output_option
@pass_session
def mails(session: Session, number: str, issuer: str) -> None:
    """What was mailed about invoice NUMBER, and what became of it."""
    with session.transaction() as work:
        one = invoices.find(work.cursor, work.viewer, number, issuer=issuer)
        found = invoice_mails.log_of(work.cursor, one)
    columns = ("at", "kind", "recipient", "subject", "problem")
    show_rows(session, columns, [_mailed(mailed) for mailed in found])


def _mailed(one: Mailed) -> Row:
    return {
        "at": one.at,
        "kind": one.kind,
        "recipient": one.recipient,
        "subject": one.subject,
        "message_id": one.message_id,
        "problem": one.problem,
    }


def _smtp(session: Session) -> SmtpConfig:
    smtp = session.config.smtp
    if not smtp.host:
        raise BadData("no mail server is configured: [smtp] host, and see docs/operations.md")
    return smtp


@invoice.command()
@click.option("--dry-run", is_flag=True, help="Say who would be reminded; change nothing.")
@output_option
@pass_session
def remind(session: Session, dry_run: bool) -> None:
    """Take the next dunning step of each overdue invoice whose day has come, once."""
    from web_reports.dunning import remind as take

    session.operator_only("reminding")
    with session.connection() as connection:
        with session.transaction(connection) as work:
            operator = work.viewer
        done = take(connection, operator, session.config.smtp, datetime.now(UTC), dry_run=dry_run)
    columns = ("number", "account", "step", "fee", "suspended", "mailed")
    show_rows(session, columns, [_reminded(one) for one in done])


def _reminded(one: Reminded) -> Row:
    return {
        "number": one.number,
        "account": one.account_code,
        "step": one.step,
        "fee": amount(one.fee_micros),
        "suspended": one.suspended,
        "mailed": one.mailed,
    }


invoice.add_command(schedule)
