"""The job that mails scheduled reports.

A run is in its log, and the next one planned, once the mail server has taken it: a worker that
is killed between the two sends it a second time, under the same Message-ID. Runs that were
missed are made up once, as of the last of them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from twisted.logger import Logger

from aaa_server.storage import job_problems, report_schedules, viewer
from aaa_server.storage.database import reason_of, transaction
from aaa_server.storage.invoice_schedules import RETRY_MINUTES_MAX, RETRY_MINUTES_MIN
from aaa_server.storage.problem import Problem
from aaa_server.storage.report_schedules import Delivery
from aaa_server.worker.hindrance import mail_server
from aaa_server.worker.invoices import PORTION_SECONDS
from aaa_server.worker.job import More
from web_reports import report_mail
from web_reports.outbox import Outbox, SenderRefused, Sent, ServerTrouble
from web_reports.report_mail import MEGABYTE

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from aaa_server.config import SmtpConfig, WorkerConfig
    from aaa_server.storage.report_schedules import Schedule

log = Logger()


class ScheduledReports:
    """The job's work, with the session to the mail server that it sends over."""

    def __init__(self, smtp: SmtpConfig, config: WorkerConfig) -> None:
        self.outbox = Outbox(smtp)
        self._smtp = smtp
        self._tries_max = config.mail_tries_max
        self._octets_max = config.mail_megabytes_max * MEGABYTE

    def __call__(self, connection: Connection, now: datetime) -> str:
        with transaction(connection) as cursor:
            due = report_schedules.due(cursor, now)
        if not due:
            return "none is due"
        if not mail_server(connection, self._smtp.host, now):
            return f"{len(due)} reports wait: no mail server is configured: [smtp] host"
        until = time.monotonic() + PORTION_SECONDS
        done = 0
        try:
            for one in due:
                if time.monotonic() >= until:
                    return More(f"{done} of {len(due)} reports tried")
                self._run(connection, one, now)
                done += 1
        finally:
            self.outbox.close()
        return f"{done} reports tried"

    def _run(self, connection: Connection, one: Schedule, now: datetime) -> None:
        if one.closed:
            self._stop(connection, one, now)
            return
        due_at = max(one.wish.when.before(now, one.zone), one.due_at)
        # A newer run takes the place of one that is still being tried.
        fresh = due_at != one.due_at or not one.tries
        waiting = one.wish.recipients if fresh else one.waiting
        tries = 1 if fresh else one.tries + 1
        try:
            delivery, sent = report_mail.send(
                connection,
                self.outbox,
                self._smtp,
                one,
                due_at=due_at,
                recipients=waiting,
                octets_max=self._octets_max,
            )
        except ServerTrouble:
            raise
        except SenderRefused as problem:
            delivery, sent = _unsent(due_at, str(problem)), None
        except Exception as error:
            if connection.closed:
                raise
            connection.rollback()
            if not isinstance(error, Problem):
                log.failure("Scheduled report {number} failed", number=one.schedule_id)
            text = str(error) if isinstance(error, Problem) else reason_of(error)
            self._end(connection, one, _unsent(due_at, text), text, now)
            return
        later = waiting if sent is None else _later(sent)
        # What was for good with other recipients in an earlier try of this run.
        before = "" if fresh else one.problem
        for_good = "; ".join(filter(None, (before, "" if sent is None else _for_good(sent))))
        if later and tries < self._tries_max:
            self._try_later(connection, one, delivery, later, tries, for_good, now)
        else:
            whole = "; ".join(filter(None, (before, delivery.problem)))
            self._end(connection, one, delivery, whole, now)

    def _try_later(
        self,
        connection: Connection,
        one: Schedule,
        delivery: Delivery,
        later: tuple[str, ...],
        tries: int,
        for_good: str,
        now: datetime,
    ) -> None:
        minutes = min(RETRY_MINUTES_MIN << min(tries - 1, 16), RETRY_MINUTES_MAX)
        with transaction(connection) as cursor:
            report_schedules.note(cursor, viewer.operator(cursor), one, delivery)
            if report_schedules.try_later(
                cursor,
                one,
                delivery.due_at,
                waiting=later,
                tries=tries,
                try_at=now + timedelta(minutes=minutes),
                problem=for_good,
            ):
                _tell(connection, one, for_good, now)

    def _end(
        self,
        connection: Connection,
        one: Schedule,
        delivery: Delivery,
        problem: str,
        now: datetime,
    ) -> None:
        """No other try of this run follows; a problem is told when it is a new one."""
        with transaction(connection) as cursor:
            report_schedules.note(cursor, viewer.operator(cursor), one, delivery)
            next_due = one.wish.when.after(max(now, delivery.due_at), one.zone)
            if report_schedules.go_on(cursor, one, next_due, problem):
                _tell(connection, one, problem, now)

    def _stop(self, connection: Connection, one: Schedule, now: datetime) -> None:
        problem = f"{one.owner_code} is closed: nothing is sent any more"
        with transaction(connection) as cursor:
            report_schedules.note(
                cursor, viewer.operator(cursor), one, _unsent(one.due_at, problem)
            )
            report_schedules.stop(cursor, one, problem)
            _tell(connection, one, problem, now)


def _tell(connection: Connection, one: Schedule, problem: str, now: datetime) -> None:
    """An event, in the transaction that is open, and a line of the log."""
    detail = {
        "schedule": one.schedule_id,
        "report": one.wish.report,
        "reason": problem,
        "do": f"sky-aaa report schedule show {one.schedule_id}",
    }
    with connection.cursor() as cursor:
        job_problems.tell(cursor, "report-not-sent", one.owner_id, now, detail)
    log.warn(
        "Scheduled report {number} ({report}): {problem}",
        number=one.schedule_id,
        report=one.wish.report,
        problem=problem,
    )


def _later(sent: Sent) -> tuple[str, ...]:
    return tuple(one.recipient for one in sent.refused if not one.final)


def _for_good(sent: Sent) -> str:
    return "; ".join(dict.fromkeys(one.text for one in sent.refused if one.final))


def _unsent(due_at: datetime, problem: str) -> Delivery:
    return Delivery(due_at, datetime.now(UTC), (), "", 0, "", problem)
