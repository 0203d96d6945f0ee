"""Invoices and reminders by e-mail: a text in the buyer's language, the PDF attached.

One connection to the mail server (SMTP, RFC 5321) a message. What became of each is in the
log, also a refusal.
"""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, formataddr, make_msgid
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.invoice_mails import Mailed
from aaa_server.storage.problem import BadValue
from web_reports import invoice_document
from web_reports.invoice import Loaded, Writer, to_pay_micros
from web_reports.report_page import environment

if TYPE_CHECKING:
    from aaa_server.config import SmtpConfig

SECONDS_MAX = 30.0


class Letter(NamedTuple):
    """A mail before it is sent; `kind` is `invoice`, or `reminder-` and the step."""

    kind: str
    recipient: str
    message: EmailMessage


def letter(
    config: SmtpConfig, loaded: Loaded, *, step: int, recipient: str, now: datetime
) -> Letter:
    """The mail about an invoice; `step` 0: the invoice itself. Raises `BadValue` for no address."""
    one = loaded.invoice
    to = recipient or one.buyer.get("email", "")
    if "@" not in to or any(character in to for character in "\r\n"):
        raise BadValue(
            f"{one.name}: {one.account_code} has no e-mail address: "
            f"`sky-aaa billing set {one.account_code} --email …`"
        )
    sender = config.sender or one.seller.get("email", "")
    if "@" not in sender:
        raise BadValue("say from whom: [smtp] sender, or `sky-aaa issuer set … --email`")
    writer = Writer(one)
    data = {
        "language": writer.language,
        "is_credit": one.kind == "credit-note",
        "is_prepaid": one.prepaid,
        "is_settled": not to_pay_micros(one),
        "number": one.number,
        "seller": one.seller.get("name", ""),
        "buyer": one.buyer.get("name", ""),
        "total": writer.money(one.total_micros),
        "due": writer.money(to_pay_micros(one) if step == 0 else one.open_micros),
        "due_date": writer.day(one.due_date),
        "step": step,
    }
    text = environment().get_template("invoice-mail.txt.jinja").render(**data)
    subject, _, body = text.partition("\n")
    message = EmailMessage()
    message["Subject"] = subject.strip()
    message["From"] = formataddr((one.seller.get("name", ""), sender))
    message["To"] = to
    message["Date"] = format_datetime(now.astimezone(UTC))
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    if one.seller.get("email") and one.seller["email"] != sender:
        message["Reply-To"] = one.seller["email"]
    message.set_content(body.strip() + "\n")
    message.add_attachment(
        invoice_document.pdf(loaded),
        maintype="application",
        subtype="pdf",
        filename=f"{one.name.replace('/', '_')}.pdf",
    )
    kind = f"reminder-{step}" if step else "invoice"
    return Letter(kind, to, message)


def send(config: SmtpConfig, one: Letter) -> Mailed:
    """Give the mail to the server; what it says stands in the answer, nothing is raised."""
    problem = ""
    try:
        with _connected(config) as server:
            server.send_message(one.message)
    except (OSError, smtplib.SMTPException) as error:
        problem = str(error) or type(error).__name__
    return Mailed(
        at=datetime.now(UTC),
        kind=one.kind,
        recipient=one.recipient,
        subject=str(one.message["Subject"]),
        message_id=str(one.message["Message-ID"]),
        problem=problem,
    )


@contextlib.contextmanager
def _connected(config: SmtpConfig):  # type: ignore[no-untyped-def] # of either class
    """A session with the mail server, encrypted as the configuration wants it."""
    if config.encryption == "tls":
        context = ssl.create_default_context()
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            config.host, config.port, timeout=SECONDS_MAX, context=context
        )
    else:
        server = smtplib.SMTP(config.host, config.port, timeout=SECONDS_MAX)
    with server:
        if config.encryption == "starttls":
            server.starttls(context=ssl.create_default_context())
        if config.user:
            server.login(config.user, config.password)
        yield server
