"""Reminders: each step of an overdue invoice is taken once, and mailed where it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage import invoice_mails, invoices
from aaa_server.storage.database import transaction
from aaa_server.storage.problem import BadValue
from web_reports import invoice_mail
from web_reports.invoice import load

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import connection as Connection

    from aaa_server.config import SmtpConfig
    from aaa_server.storage.invoice_mails import Reminder
    from aaa_server.storage.viewer import Viewer


class Reminded(NamedTuple):
    """One step that was taken; `mailed` says to whom, or why not."""

    number: str
    account_code: str
    step: int
    fee_micros: int
    suspended: bool
    mailed: str


def remind(
    connection: Connection, operator: Viewer, smtp: SmtpConfig, now: datetime, *, dry_run: bool
) -> list[Reminded]:
    """Take what is due; a transaction a step, so that one which is killed is gone on with."""
    with transaction(connection) as cursor:
        due = invoice_mails.due_reminders(cursor, now.date())
    done = []
    for one in due:
        with transaction(connection) as cursor:
            found = invoices.get(cursor, operator, one.invoice_id)
            if not dry_run and not invoice_mails.take_step(cursor, one, now):
                continue
        mailed = "" if dry_run else _mail(connection, operator, smtp, one, now)
        done.append(
            Reminded(
                found.number, found.account_code, one.step, one.fee_micros, one.suspend, mailed
            )
        )
    return done


def _mail(
    connection: Connection, operator: Viewer, smtp: SmtpConfig, one: Reminder, now: datetime
) -> str:
    """To whom the reminder went, or why it did not: the step is taken all the same."""
    if not smtp.host:
        return "no mail server is configured"
    with invoice_mails.alone(connection, one.invoice_id):
        with transaction(connection) as cursor:
            loaded = load(cursor, operator, invoices.get(cursor, operator, one.invoice_id))
            if invoice_mails.sent_before(cursor, loaded.invoice, f"reminder-{one.step}"):
                return "the worker has mailed it"
        try:
            letter = invoice_mail.letter(smtp, loaded, step=one.step, recipient="", now=now)
        except BadValue as problem:
            return str(problem)
        mailed = invoice_mail.send_once(smtp, letter)
        with transaction(connection) as cursor:
            invoice_mails.note(cursor, operator, loaded.invoice, mailed)
    return mailed.problem or mailed.recipient
