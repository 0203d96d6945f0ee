"""Invoices and reminders by e-mail: a text in the buyer's language, the PDF attached.

What became of each is in the log, also a refusal. A mail that is sent anew because nobody
knows whether it arrived has the Message-ID of the first: most mailboxes then show one.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, formataddr, make_msgid
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.invoice_mails import Mailed
from aaa_server.storage.problem import BadValue
from web_reports import invoice_document
from web_reports.invoice import Loaded, Writer, to_pay_micros
from web_reports.outbox import Outbox, SenderRefused, ServerTrouble
from web_reports.report_page import environment

if TYPE_CHECKING:
    from aaa_server.config import SmtpConfig
    from aaa_server.storage.invoices import Invoice


class NoRecipient(BadValue):
    """The buyer has no address that a mail could go to."""


class Letter(NamedTuple):
    """A mail before it is sent; `kind` is `invoice`, or `reminder-` and the step."""

    kind: str
    recipient: str
    message: EmailMessage


def letter(
    config: SmtpConfig,
    loaded: Loaded,
    *,
    step: int,
    recipient: str,
    now: datetime,
    again: bool = False,
) -> Letter:
    """The mail about an invoice; `step` 0: the invoice itself.

    `again` makes another mail of it, that no mailbox takes for the one that it has. Raises
    `NoRecipient`, and `BadValue` when nobody says from whom it is.
    """
    one = loaded.invoice
    to = recipient or one.buyer.get("email", "")
    if "@" not in to or any(character in to for character in "\r\n"):
        raise NoRecipient(
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
    domain = sender.rpartition("@")[2]
    kind = f"reminder-{step}" if step else "invoice"
    message["Message-ID"] = make_msgid(domain=domain) if again else _message_id(one, kind, domain)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer from who is on holiday
    if one.seller.get("email") and one.seller["email"] != sender:
        message["Reply-To"] = one.seller["email"]
    message.set_content(body.strip() + "\n")
    message.add_attachment(
        invoice_document.pdf(loaded),
        maintype="application",
        subtype="pdf",
        filename=f"{one.name.replace('/', '_')}.pdf",
    )
    return Letter(kind, to, message)


def _message_id(one: Invoice, kind: str, domain: str) -> str:
    """The same for the same mail; another installation's invoice was issued at another instant."""
    assert one.issued_at is not None
    known = f"{one.invoice_id} {one.number} {one.issued_at.timestamp()} {kind}"
    return f"<{hashlib.sha256(known.encode()).hexdigest()[:32]}.{kind}@{domain}>"


def send(outbox: Outbox, one: Letter) -> Mailed:
    """Give the mail to the server; what it says of it stands in the answer.

    Raises `ServerTrouble` and `SenderRefused`, which are not about this mail alone.
    """
    sent = outbox.send(one.message, [one.recipient])
    return logged(one, sent.problem, final=any(refusal.final for refusal in sent.refused))


def logged(one: Letter, problem: str, *, final: bool = False) -> Mailed:
    """A line for the log of mails."""
    return Mailed(
        at=datetime.now(UTC),
        kind=one.kind,
        recipient=one.recipient,
        subject=str(one.message["Subject"]),
        message_id=str(one.message["Message-ID"]),
        problem=problem,
        final=final,
    )


def send_once(config: SmtpConfig, one: Letter) -> Mailed:
    """As `send`, over a session of its own; nothing is raised."""
    outbox = Outbox(config)
    try:
        return send(outbox, one)
    except (ServerTrouble, SenderRefused) as problem:
        return logged(one, str(problem))
    finally:
        outbox.close()
