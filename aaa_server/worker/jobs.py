"""All jobs, in one table: a new one is a function in a module of its family and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.worker import alerts, fees, rollups, routes, tables
from aaa_server.worker.job import Job

if TYPE_CHECKING:
    from aaa_server.config import SmtpConfig, WorkerConfig


def jobs_of(config: WorkerConfig, smtp: SmtpConfig) -> list[Job]:
    """The jobs with the intervals that the configuration gives them."""
    return [*_quick(config), *_slow(config, smtp)]


def _quick(config: WorkerConfig) -> list[Job]:
    return [
        Job(
            "fees",
            config.fees_seconds,
            fees.fees,
            "Charges subscriptions, packages and DIDs that are due.",
        ),
        Job(
            "low-balance",
            config.low_balance_seconds,
            alerts.low_balance,
            "An event for each balance that fell below its threshold.",
        ),
        Job(
            "expiry",
            config.expiry_seconds,
            alerts.expiry,
            "An event for each account and card that came to its end.",
        ),
        Job(
            "route-quality",
            config.route_quality_seconds,
            routes.quality(config.route_quality_hours),
            "Counts answers and lengths of calls, for routes by quality.",
        ),
        Job(
            "call-records",
            config.call_records_seconds,
            tables.call_records(config.call_record_months),
            "Makes the coming months of the call records; detaches old ones.",
        ),
        Job(
            "rollups",
            config.rollups_seconds,
            rollups.refresh_rollups,
            "Adds up the calls and charges of each hour, for reports.",
        ),
        Job(
            "housekeeping",
            config.housekeeping_seconds,
            tables.housekeeping(config.event_days),
            "Forgets old events and what was used of limits long ago.",
        ),
    ]


def _slow(config: WorkerConfig, smtp: SmtpConfig) -> list[Job]:
    """Those that write whole months or wait for the mail server, in the order of a month's end."""
    # Documents take many modules: only the process that makes them has them.
    from aaa_server.worker import invoices
    from aaa_server.worker.mails import InvoiceMail
    from aaa_server.worker.reports import ScheduledReports

    invoice_mail = InvoiceMail(smtp, config.mail_tries_max)
    reports = ScheduledReports(smtp, config)
    return [
        Job(
            "invoice-run",
            config.invoice_run_seconds,
            invoices.invoice_runs,
            "Invoices periods that have ended, where `sky-aaa invoice schedule` says so.",
            slow=True,
        ),
        Job(
            "invoice-documents",
            config.invoice_documents_seconds,
            invoices.documents(config.invoice_folder),
            "Writes the PDFs of new invoices into a folder, where the schedule says so.",
            slow=True,
        ),
        Job(
            "reminders",
            config.reminders_seconds,
            invoices.reminders(smtp),
            "Takes dunning steps that are due, where the schedule says so.",
            slow=True,
        ),
        Job(
            "invoice-mail",
            config.invoice_mail_seconds,
            invoice_mail,
            "Mails new invoices and reminders, where the schedule says so.",
            slow=True,
            interrupt=invoice_mail.outbox.interrupt,
        ),
        Job(
            "scheduled-reports",
            config.scheduled_reports_seconds,
            reports,
            "Mails the reports of `sky-aaa report schedule`.",
            slow=True,
            interrupt=reports.outbox.interrupt,
        ),
    ]
