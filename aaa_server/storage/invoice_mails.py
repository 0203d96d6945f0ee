"""What was mailed about invoices, and which reminders are due."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.money import format_micros
from aaa_server.storage import accounts, invoice_payments, movements
from aaa_server.storage.database import transaction
from aaa_server.storage.movements import Posting
from aaa_server.storage.viewer import Viewer, as_owner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.invoices import Invoice

MAILS_AT_ONCE = 500
MAIL_LOCK = 0x4D41494C  # pg_advisory_lock(int, int) with a number of the invoice


class Mailed(NamedTuple):
    """One line of the log; `problem` '' when the mail server took it.

    `final`: the worker does not try it again.
    """

    at: datetime
    kind: str
    recipient: str
    subject: str
    message_id: str
    problem: str
    final: bool = False


class Reminder(NamedTuple):
    """An invoice that is overdue by so much that the next step is taken."""

    invoice_id: int
    account_id: int
    issuer_id: int
    number: str
    step: int
    fee_micros: int
    suspend: bool


def note(cursor: Cursor, viewer: Viewer, one: Invoice, mailed: Mailed) -> None:
    """One line of the log."""
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            INSERT INTO invoice_mail (
                       invoice_id, kind, recipient, subject, at, message_id, problem, final)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
            """,
            (
                one.invoice_id,
                mailed.kind,
                mailed.recipient,
                mailed.subject,
                mailed.at,
                mailed.message_id,
                mailed.problem,
                mailed.final,
            ),
        )


def log_of(cursor: Cursor, one: Invoice) -> list[Mailed]:
    """All mails about the invoice, the oldest first."""
    cursor.execute(
        """
        SELECT at, kind, recipient, subject, message_id, problem, final
          FROM invoice_mail
         WHERE invoice_id = %s
         ORDER BY at, invoice_mail_id
        """,
        (one.invoice_id,),
    )
    return [Mailed(*row) for row in cursor.fetchall()]


@contextlib.contextmanager
def alone(connection: Connection, invoice_id: int) -> Iterator[None]:
    """While the block lasts nobody else mails anything about this invoice.

    A lock of the session: it also ends with the process, and holds over commits.
    """
    key = (MAIL_LOCK, f"invoice/{invoice_id}")
    with transaction(connection) as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", key)
    try:
        yield
    finally:
        if not connection.closed:
            connection.rollback()
            with transaction(connection) as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", key)


def sent_before(cursor: Cursor, one: Invoice, kind: str) -> bool:
    """Whether the mail server has taken such a mail already."""
    return any(mailed.kind == kind and not mailed.problem for mailed in log_of(cursor, one))


def due_reminders(
    cursor: Cursor, today: date, *, issuer_id: int | None = None, spaced: bool = False
) -> list[Reminder]:
    """The next step of each overdue invoice whose day has come, after its issuer's steps.

    `spaced`: as many days after the step before as the issuer has put between them, however
    late that one was taken. Payments that nobody has assigned yet pay first. Runs as the owner.
    """
    cursor.execute(
        """
        SELECT DISTINCT account_id
          FROM invoice
         WHERE status IN ('issued', 'part-paid')
           AND kind = 'invoice'
           AND due_date < %(today)s
           AND (%(issuer_id)s::bigint IS NULL OR issuer_id = %(issuer_id)s)
         ORDER BY account_id
        """,
        {"today": today, "issuer_id": issuer_id},
    )
    for (account_id,) in cursor.fetchall():
        accounts.lock(cursor, [account_id])
        invoice_payments.allocate(cursor, account_id)
    cursor.execute(
        """
        SELECT invoice.invoice_id,
               invoice.account_id,
               invoice.issuer_id,
               invoice.number,
               dunning_step.step,
               dunning_step.fee_micros,
               dunning_step.suspend
          FROM invoice
          JOIN dunning_step
            ON dunning_step.issuer_id = invoice.issuer_id
           AND dunning_step.step = invoice.dunning_step + 1
         WHERE invoice.status IN ('issued', 'part-paid')
           AND invoice.kind = 'invoice'
           AND invoice.due_date + dunning_step.days <= %(today)s
           AND (%(issuer_id)s::bigint IS NULL OR invoice.issuer_id = %(issuer_id)s)
           AND (NOT %(spaced)s
                OR invoice.dunned_at IS NULL
                OR (invoice.dunned_at AT TIME ZONE invoice.time_zone)::date + dunning_step.days
                   - coalesce((SELECT before.days
                                 FROM dunning_step AS before
                                WHERE before.issuer_id = invoice.issuer_id
                                  AND before.step = invoice.dunning_step),
                              dunning_step.days) <= %(today)s)
         ORDER BY invoice.invoice_id
         LIMIT %(most)s
        """,
        {"today": today, "issuer_id": issuer_id, "spaced": spaced, "most": MAILS_AT_ONCE},
    )
    return [Reminder(*row) for row in cursor.fetchall()]


def take_step(cursor: Cursor, one: Reminder, now: datetime) -> bool:
    """Take the step once: its fee, the suspension, an event; False when somebody else has.

    The fee is posted like any other, and stands on the next invoice.
    """
    if one.suspend:
        # Before its row is locked: while an import holds the catalogue's, calls need not wait.
        accounts.have_numbers_read_again(cursor, one.account_id)
    accounts.lock(cursor, [one.account_id])
    cursor.execute(
        """
        UPDATE invoice
           SET dunning_step = %s,
               dunned_at = %s
         WHERE invoice_id = %s
           AND dunning_step = %s
           AND status IN ('issued', 'part-paid')
        """,
        (one.step, now, one.invoice_id, one.step - 1),
    )
    if not cursor.rowcount:
        return False
    account = movements.standing(cursor, one.account_id)
    if one.fee_micros:
        movements.post(
            cursor,
            kind="fee",
            reference=f"reminder/{one.invoice_id}/{one.step}",
            at=now,
            note=f"Reminder {one.step}, {one.number}",
            author_id=None,
            postings=[
                Posting(
                    one.account_id, -one.fee_micros, account.currency, account.seller_id, "fees"
                )
            ],
        )
    if one.suspend:
        cursor.execute(
            "UPDATE account SET status = 'suspended' WHERE account_id = %s AND status = 'active'",
            (one.account_id,),
        )
    detail = {"invoice": one.number, "step": str(one.step), "fee": format_micros(one.fee_micros)}
    movements.note_event(cursor, "invoice-overdue", one.account_id, now, detail)
    return True
