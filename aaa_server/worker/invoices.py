"""Jobs about invoices: periods that have ended, their PDFs, reminders that are due."""

from __future__ import annotations

import hashlib
import re
import time
from datetime import datetime, timedelta
from datetime import time as clock
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from aaa_server.storage import (
    closed_periods,
    invoice_mails,
    invoice_schedules,
    invoices,
    viewer,
)
from aaa_server.storage.database import transaction
from aaa_server.storage.invoice_draft import Span
from aaa_server.storage.invoice_schedules import DAYS_BACK_MAX, LETTERS_AT_ONCE
from aaa_server.storage.problem import Conflict, Problem
from aaa_server.worker.hindrance import Place, hindrance, mail_server
from aaa_server.worker.job import More
from web_reports import invoice_document, invoice_run
from web_reports.invoice import load
from web_reports.period import named

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.config import SmtpConfig
    from aaa_server.storage.invoice_draft import Buyer
    from aaa_server.storage.invoice_schedules import InvoiceSchedule, Paper
    from aaa_server.storage.viewer import Viewer
    from aaa_server.worker.job import Work

ACTOR = "worker"  # in the audit log
OBSTACLES_SHOWN_MAX = 20
# After so long a job lets the others have a turn.
PORTION_SECONDS = 30.0


# ------------------------------------------------------------------ runs


def invoice_runs(connection: Connection, now: datetime) -> str:
    """Invoices each period that has ended, and whose issuer wants it, once its grace is over.

    An account is a transaction, so a run that is killed is gone on with, and a period is left
    behind only when all of it is invoiced.
    """
    with transaction(connection) as cursor:
        wanted = invoice_schedules.every(cursor)
    issued = 0
    hindered: list[str] = []
    for one in wanted:
        with hindrance(connection, Place("invoice-run", one.issuer_id, now), hindered):
            issued += _run_issuer(connection, one, now)
    return _told(f"{issued} invoices issued", hindered)


def _told(result: str, hindered: list[str]) -> str:
    return f"{result}, hindered for {len(hindered)}: see events" if hindered else result


def _run_issuer(connection: Connection, one: InvoiceSchedule, now: datetime) -> int:
    """All periods of the issuer that are due; how many invoices were issued."""
    issued = 0
    next_from = one.next_from
    while True:
        span = span_of(one, next_from)
        if span.end + timedelta(hours=one.grace_hours) > now:
            return issued
        with transaction(connection) as cursor:
            is_closed = any(
                closed.begins < span.end and closed.ends > span.begin
                for closed in closed_periods.list_closed(cursor, one.issuer_id)
            )
        # Closed by hand: what came late is the next one's.
        if not is_closed:
            issued += _run(connection, one, span, now)
        following = span.end.astimezone(ZoneInfo(span.time_zone)).date()
        with transaction(connection) as cursor:
            invoice_schedules.go_on(cursor, one.issuer_id, next_from, following)
        next_from = following


def span_of(one: InvoiceSchedule, first: date) -> Span:
    """The period of the schedule's unit that `first` lies in, as a run by hand would name it."""
    name = {
        "month": f"{first:%Y-%m}",
        "quarter": f"{first:%Y}-Q{(first.month + 2) // 3}",
        "year": f"{first:%Y}",
    }[one.unit]
    zone = ZoneInfo(one.time_zone)
    # A dated period is the same, whenever it is asked for.
    period = named(name, zone, datetime.combine(first, clock.min, tzinfo=zone))
    return Span(name, period.begin, period.end, one.time_zone)


def _run(connection: Connection, one: InvoiceSchedule, span: Span, now: datetime) -> int:
    with transaction(connection) as cursor:
        found = invoices.to_bill(cursor, _enter(cursor, one), span, None, now)
    issued = 0
    problems = []
    for buyer in found:
        try:
            issued += _bill(connection, one, buyer, span, now)
        except Problem as problem:
            problems.append(f"{buyer.code}: {problem}")
    if problems:
        shown = "; ".join(problems[:OBSTACLES_SHOWN_MAX])
        raise Conflict(f"{span.name}: {len(problems)} accounts were not invoiced: {shown}")
    return issued


def _bill(
    connection: Connection, one: InvoiceSchedule, buyer: Buyer, span: Span, now: datetime
) -> bool:
    with transaction(connection) as cursor:
        eyes = _enter(cursor, one)
        outcome = invoice_run.bill(cursor, eyes, buyer, span, now, actor=ACTOR)
    return outcome.what == "issued"


def _enter(cursor: Cursor, one: InvoiceSchedule) -> Viewer:
    """The issuer's own eyes and rights: a run sees what its command would."""
    return viewer.enter(cursor, one.issuer_code)


# ------------------------------------------------------------------ documents


def documents(folder: Path) -> Work:
    """Writes the PDFs of what was issued into `folder`, a folder an issuer in it."""

    def work(connection: Connection, now: datetime) -> str:
        with transaction(connection) as cursor:
            waiting = invoice_schedules.papers(cursor, now - timedelta(days=DAYS_BACK_MAX))
        until = time.monotonic() + PORTION_SECONDS
        written = 0
        hindered: list[str] = []
        for issuer_id in dict.fromkeys(one.issuer_id for one in waiting):
            with hindrance(connection, Place("invoice-documents", issuer_id, now), hindered):
                for one in waiting:
                    if one.issuer_id == issuer_id and time.monotonic() < until:
                        _write(connection, folder, one, now)
                        written += 1
        result = _told(f"{written} PDFs written", hindered)
        left = written < len(waiting) or len(waiting) == LETTERS_AT_ONCE
        return More(result) if left and not hindered else result

    return work


def _write(connection: Connection, folder: Path, one: Paper, now: datetime) -> None:
    with transaction(connection) as cursor:
        operator = viewer.operator(cursor)
        found = invoices.get(cursor, operator, one.invoice_id)
        content = invoice_document.pdf(load(cursor, operator, found))
        invoices.note_document(cursor, operator, found, "pdf", hashlib.sha256(content).digest())
    # The number of the account before its code: whatever that is, the path stays inside.
    place = folder / f"{one.issuer_id}-{_name(one.issuer_code)}"
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{_name(found.number)}.pdf"
    # Under its name only when it is whole: a run that was killed writes it again.
    half = path.with_name(f".{path.name}.part")
    half.write_bytes(content)
    half.replace(path)
    with transaction(connection) as cursor:
        invoice_schedules.written(cursor, one.invoice_id, now)


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)


# ------------------------------------------------------------------ reminders


def reminders(smtp: SmtpConfig) -> Work:
    """Takes the dunning steps that are due, where the issuer wants it; `invoice-mail` mails them.

    Without a mail server none is taken: nobody pays for a reminder that is never sent.
    """

    def work(connection: Connection, now: datetime) -> str:
        with transaction(connection) as cursor:
            found = invoice_schedules.every(cursor)
        wanted = [one for one in found if one.remind_since is not None]
        if not wanted:
            return "no issuer wants it"
        if not mail_server(connection, smtp.host, now):
            return "no mail server is configured: [smtp] host"
        taken = 0
        hindered: list[str] = []
        for one in wanted:
            with hindrance(connection, Place("reminders", one.issuer_id, now), hindered):
                taken += _take(connection, one, now)
        return _told(f"{taken} dunning steps taken", hindered)

    return work


def _take(connection: Connection, one: InvoiceSchedule, now: datetime) -> int:
    today = now.astimezone(ZoneInfo(one.time_zone)).date()
    with transaction(connection) as cursor:
        due = invoice_mails.due_reminders(cursor, today, issuer_id=one.issuer_id, spaced=True)
    taken = 0
    for reminder in due:
        with transaction(connection) as cursor:
            taken += invoice_mails.take_step(cursor, reminder, now)
    return taken
