"""Reports by e-mail: made with the eyes of their owner, attached, or the mail's own page.

What a mail server will not take is not made: a report ends where it is larger than allowed.
"""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, formataddr
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage import issuers, viewer
from aaa_server.storage.database import transaction
from aaa_server.storage.problem import BadValue
from aaa_server.storage.report_schedules import Delivery
from web_reports import report_files, report_page
from web_reports.cells import Speaker
from web_reports.report import find
from web_reports.report_run import Question, check, running
from web_reports.words import spoken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import ReadableBuffer
    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.config import SmtpConfig
    from aaa_server.storage.report_schedules import Schedule, Wish
    from aaa_server.storage.viewer import Viewer
    from web_reports.outbox import Outbox, Sent
    from web_reports.report_run import Result

# Larger pages are attached: mail programs cut a message short at about that.
PAGE_OCTETS_MAX = 100_000
MEGABYTE = 1_000_000
FOOTER = "Scheduled report {number} of {owner}. To stop receiving it, ask there."
TYPES = {
    "html": ("text", "html"),
    "pdf": ("application", "pdf"),
    "csv": ("text", "csv"),
    "json": ("application", "json"),
    "xlsx": ("application", "vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
}


class Made(NamedTuple):
    """A report ready to be sent, and what the mail says of it; `file` '': it is the mail's page."""

    content: bytes
    file: str
    subject: str
    text: str


class Sender(NamedTuple):
    """Whom the mails come from, as their readers see it."""

    name: str
    address: str


class _Limited(io.BytesIO):
    """Octets in memory, so many and no more."""

    def __init__(self, most: int, name: str) -> None:
        super().__init__()
        self._most = most
        self._name = name
        self._is_full = False

    def write(self, octets: ReadableBuffer, /) -> int:
        count = len(memoryview(octets))
        if self._is_full:
            # What is left in the buffer before this one, when that is thrown away.
            return count
        if self.tell() + count > self._most:
            self._is_full = True
            raise BadValue(
                f"{self._name} is larger than {self._most // MEGABYTE} MB, which a mail may have "
                "(worker.mail_megabytes_max): ask for a shorter period, fewer columns, or less "
                "by its parameters"
            )
        return super().write(octets)


def check_wish(cursor: Cursor, eyes: Viewer, wish: Wish, now: datetime) -> None:
    """Raises what a run of it would: an unknown report, a wrong parameter, another's account."""
    report = find(wish.report, operator=eyes.is_operator)
    check(cursor, eyes, report, _question(wish, now), now)


def _question(wish: Wish, due_at: datetime) -> Question:
    return Question(
        period=wish.period,
        group_by=wish.group_by,
        values=wish.parameters,
        language=wish.language,
        time_zone=wish.time_zone,
        at=due_at,
    )


def make(connection: Connection, one: Schedule, due_at: datetime, *, octets_max: int) -> Made:
    """The report as of the run that was planned for `due_at`.

    Raises `Problem`: there is no such report any more, a parameter has become wrong, it is too
    large; psycopg2's errors, also for one that takes too long.
    """
    wish = one.wish
    with transaction(connection) as cursor:
        operator = viewer.operator(cursor)
    is_operators = one.owner_id == operator.account_id
    report = find(wish.report, operator=is_operators)
    question = _question(wish, due_at)
    as_code = "" if is_operators else one.owner_code
    with running(connection, report, question, as_code=as_code) as result:
        speaker = Speaker(result.language, result.zone)
        footer = speaker.say(FOOTER).format(number=one.schedule_id, owner=one.owner_code)
        content = _written(result, wish.format, footer, octets_max)
        local = due_at.astimezone(result.zone)
        file = f"{report.name}-{local:%Y-%m-%d}.{wish.format}"
        if wish.format == "html" and len(content) <= PAGE_OCTETS_MAX:
            file = ""
        text = _text(result, speaker, file, footer)
    subject, _, body = text.partition("\n")
    return Made(content, file, subject.strip(), body.strip("\n") + "\n")


def _text(result: Result, speaker: Speaker, file: str, footer: str) -> str:
    """The mail's first line is its subject."""
    template = report_page.environment().get_template("report-mail.txt.jinja")
    return template.render(
        language=spoken(result.language),
        title=speaker.say(result.report.title),
        period=result.period and report_files.period_text(result.period, speaker),
        about=speaker.say(result.report.about),
        described=report_files.describe(result, speaker),
        file=file,
        # A file of rows has no place for it.
        ties=report_files.tie_texts(result, speaker) if file.endswith(".csv") else [],
        footer=footer,
    )


def _written(result: Result, form: str, footer: str, octets_max: int) -> bytes:
    octets = _Limited(octets_max, result.report.name)
    if form == "xlsx":
        report_files.write_xlsx(result, octets, ties=True)
    elif form == "pdf":
        report_page.write_pdf(result, octets, ties=True)
    else:
        file = io.TextIOWrapper(octets, encoding="utf-8", newline="")
        if form == "csv":
            report_files.write_csv(result, file)
        elif form == "json":
            report_files.write_json(result, file, ties=True)
        else:
            report_page.write_html(result, file, ties=True, footer=footer)
        file.flush()
        file.detach()
    return octets.getvalue()


def sender_of(cursor: Cursor, config: SmtpConfig, one: Schedule, operator: Viewer) -> Sender:
    """The owner, where it issues invoices, or the nearest one above it that does."""
    known = [
        issuers.issuer(cursor, account_id) for account_id in (*one.owner_chain, operator.account_id)
    ]
    name = next((found.name for found in known if found.name), "Sky AAA")
    address = config.sender or next((found.email for found in known if found.email), "")
    if "@" not in address:
        raise BadValue("say from whom: [smtp] sender, or `sky-aaa issuer set … --email`")
    return Sender(name, address)


def message_of(one: Schedule, made: Made, sender: Sender, due_at: datetime) -> EmailMessage:
    """The mail; the same run has the same Message-ID, however often it is tried."""
    message = EmailMessage()
    message["Subject"] = made.subject
    message["From"] = formataddr((sender.name, sender.address))
    message["To"] = ", ".join(one.wish.recipients)
    message["Date"] = format_datetime(datetime.now(UTC))
    known = f"{one.schedule_id} {one.created_at.timestamp()} {due_at.timestamp()}"
    digest = hashlib.sha256(known.encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}.report@{sender.address.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer from who is on holiday
    message.set_content(made.text)
    if not made.file:
        message.add_alternative(made.content.decode(), subtype="html")
        return message
    main, sub = TYPES[one.wish.format]
    if main == "text":
        message.add_attachment(made.content.decode(), subtype=sub, filename=made.file)
    else:
        message.add_attachment(made.content, maintype=main, subtype=sub, filename=made.file)
    return message


def send(
    connection: Connection,
    outbox: Outbox,
    config: SmtpConfig,
    one: Schedule,
    *,
    due_at: datetime,
    recipients: Sequence[str],
    octets_max: int,
) -> tuple[Delivery, Sent]:
    """Make the report of that run and give it to the mail server, for these recipients.

    The first is for the log, which the caller writes. Raises what `make` does, and
    `ServerTrouble` and `SenderRefused`.
    """
    with transaction(connection) as cursor:
        sender = sender_of(cursor, config, one, viewer.operator(cursor))
    made = make(connection, one, due_at, octets_max=octets_max)
    message = message_of(one, made, sender, due_at)
    sent = outbox.send(message, recipients)
    delivery = Delivery(
        due_at=due_at,
        at=datetime.now(UTC),
        recipients=sent.taken,
        subject=made.subject,
        octets=len(made.content),
        message_id=str(message["Message-ID"]),
        problem=sent.problem,
    )
    return delivery, sent
