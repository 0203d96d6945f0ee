"""The job that mails invoices and reminders; what was sent, and what is tried again.

The log of mails decides. A mail is in it once the server has taken it, so a worker that is
killed between the two sends it a second time, under the same Message-ID: at least once, for
an invoice that never comes is worse than one that comes twice. One session at a time mails
about an invoice, commands too.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from aaa_server.storage import invoice_mails, invoice_schedules, invoices, job_problems, viewer
from aaa_server.storage.database import reason_of, transaction
from aaa_server.storage.invoice_schedules import DAYS_BACK_MAX, LETTERS_AT_ONCE
from aaa_server.storage.problem import BadValue, Problem
from aaa_server.worker.hindrance import Place, hindrance, mail_server
from aaa_server.worker.invoices import PORTION_SECONDS
from aaa_server.worker.job import More
from web_reports import invoice_mail
from web_reports.invoice import load
from web_reports.invoice_mail import NoRecipient
from web_reports.outbox import Outbox
from web_reports.report_page import TemplateProblem

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.config import SmtpConfig
    from aaa_server.storage.invoice_mails import Mailed
    from aaa_server.storage.invoice_schedules import Letter
    from aaa_server.storage.invoices import Invoice

# Documents of one issuer that cannot be made: then it is not about one of them.
SPOILT_MAX = 3


class InvoiceMail:
    """The job's work, with the session to the mail server that it sends over."""

    def __init__(self, smtp: SmtpConfig, tries_max: int) -> None:
        self.outbox = Outbox(smtp)
        self._smtp = smtp
        self._tries_max = tries_max

    def __call__(self, connection: Connection, now: datetime) -> str:
        oldest = now - timedelta(days=DAYS_BACK_MAX)
        with transaction(connection) as cursor:
            waiting = invoice_schedules.letters(cursor, now, oldest)
        if not waiting:
            return "no mail waits"
        if not mail_server(connection, self._smtp.host, now):
            return f"{len(waiting)} mails wait: no mail server is configured: [smtp] host"
        until = time.monotonic() + PORTION_SECONDS
        tried = 0
        hindered: list[str] = []
        try:
            for issuer_id in dict.fromkeys(one.issuer_id for one in waiting):
                place = Place("invoice-mail", issuer_id, now)
                with hindrance(connection, place, hindered):
                    own = [one for one in waiting if one.issuer_id == issuer_id]
                    tried += self._send_all(connection, own, now, until)
        finally:
            self.outbox.close()
        result = f"{tried} of {len(waiting)} mails tried"
        if hindered:
            return f"{result}, hindered for {len(hindered)}: see events"
        left = tried < len(waiting) or len(waiting) == LETTERS_AT_ONCE
        return More(result) if left else result

    def _send_all(
        self, connection: Connection, waiting: list[Letter], now: datetime, until: float
    ) -> int:
        """How many were tried. Raises what is wrong with more than one of them."""
        tried = 0
        spoilt = 0
        for one in waiting:
            if time.monotonic() >= until:
                break
            try:
                with invoice_mails.alone(connection, one.invoice_id):
                    self._send(connection, one, now)
            except TemplateProblem:
                spoilt += 1
                if spoilt == SPOILT_MAX or len(waiting) == spoilt:
                    raise
            tried += 1
        return tried

    def _send(self, connection: Connection, one: Letter, now: datetime) -> None:
        with transaction(connection) as cursor:
            found = invoices.get(cursor, viewer.operator(cursor), one.invoice_id)
            if _is_idle(cursor, found, one):
                return
        last = one.tries + 1 >= self._tries_max
        try:
            with transaction(connection) as cursor:
                loaded = load(cursor, viewer.operator(cursor), found)
            letter = invoice_mail.letter(self._smtp, loaded, step=one.step, recipient="", now=now)
        except NoRecipient as problem:
            self._note(connection, found, _never_sent(one, now, str(problem), final=True))
            return
        except BadValue:
            raise
        except Exception as error:
            # It is tried as seldom as a mail that is refused; others are not held up by it.
            if connection.closed:
                raise
            text = str(error) if isinstance(error, Problem) else reason_of(error)
            self._note(connection, found, _never_sent(one, now, text, final=last))
            raise
        mailed = invoice_mail.send(self.outbox, letter)
        final = bool(mailed.problem) and (mailed.final or last)
        self._note(connection, found, mailed._replace(at=now, final=final))

    def _note(self, connection: Connection, one: Invoice, mailed: Mailed) -> None:
        """The log's line, and an event when no other try follows."""
        with transaction(connection) as cursor:
            operator = viewer.operator(cursor)
            invoice_mails.note(cursor, operator, one, mailed)
            if mailed.final:
                detail = {
                    "invoice": one.number,
                    "mail": mailed.kind,
                    "to": mailed.recipient,
                    "reason": mailed.problem,
                    "do": f"sky-aaa invoice send {one.number} --to ADDRESS",
                }
                job_problems.tell(cursor, "mail-given-up", one.issuer_id, mailed.at, detail)


def _is_idle(cursor: Cursor, found: Invoice, one: Letter) -> bool:
    """Whether somebody else has sent it meanwhile, or it is not wanted any more."""
    if invoice_mails.sent_before(cursor, found, one.kind) or found.status == "void":
        return True
    return bool(one.step) and (
        found.dunning_step != one.step or found.status not in ("issued", "part-paid")
    )


def _never_sent(one: Letter, now: datetime, problem: str, *, final: bool) -> Mailed:
    return invoice_mails.Mailed(now, one.kind, "", "", "", problem, final)
