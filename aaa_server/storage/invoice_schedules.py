"""Which issuers' periods are invoiced, written, mailed and reminded of by the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.problem import BadValue
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require, require_operator

if TYPE_CHECKING:
    from datetime import date, datetime

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account

UNITS = ("month", "quarter", "year")
# What was issued earlier is left to commands: a job never looks through years of invoices.
DAYS_BACK_MAX = 62
LETTERS_AT_ONCE = 200
# Between the tries of one mail: doubled from the first to the last.
RETRY_MINUTES_MIN = 5
RETRY_MINUTES_MAX = 240


class InvoiceSchedule(NamedTuple):
    """`next_from` is the first day of the next period, on the issuer's clock.

    None of the three instants: that is not done.
    """

    issuer_id: int
    issuer_code: str
    issuer_chain: tuple[int, ...]
    time_zone: str
    unit: str
    next_from: date
    grace_hours: int
    documents_since: datetime | None
    mail_since: datetime | None
    remind_since: datetime | None


class Letter(NamedTuple):
    """A mail that is due: about an invoice (`step` 0), or a reminder of it."""

    invoice_id: int
    issuer_id: int
    step: int
    tries: int

    @property
    def kind(self) -> str:
        """As the log of mails names it."""
        return f"reminder-{self.step}" if self.step else "invoice"


class Paper(NamedTuple):
    """An invoice whose PDF is to be written, and whose it is."""

    invoice_id: int
    issuer_id: int
    issuer_code: str


_SELECT = """
SELECT invoice_schedule.issuer_id,
       account.code,
       account.chain,
       account.time_zone,
       invoice_schedule.unit,
       invoice_schedule.next_from,
       invoice_schedule.grace_hours,
       invoice_schedule.documents_since,
       invoice_schedule.mail_since,
       invoice_schedule.remind_since
  FROM invoice_schedule
  JOIN account ON account.account_id = invoice_schedule.issuer_id"""


def list_schedules(cursor: Cursor, viewer: Viewer) -> list[InvoiceSchedule]:
    """Those of the viewer's tree, by number of the account."""
    return [one for one in every(cursor) if may(viewer, Deed.SEE, one.issuer_chain)]


def every(cursor: Cursor) -> list[InvoiceSchedule]:
    """All that the database's role sees: for the worker, which asks as the owner."""
    cursor.execute(_SELECT + "\n ORDER BY invoice_schedule.issuer_id")
    return [InvoiceSchedule(*row)._replace(issuer_chain=tuple(row[2])) for row in cursor]


def find(cursor: Cursor, account_id: int) -> InvoiceSchedule | None:
    """The issuer's; None where nobody has asked for one."""
    cursor.execute(_SELECT + "\n WHERE invoice_schedule.issuer_id = %s", (account_id,))
    row = cursor.fetchone()
    return None if row is None else InvoiceSchedule(*row)._replace(issuer_chain=tuple(row[2]))


def keep(cursor: Cursor, viewer: Viewer, account: Account, wanted: InvoiceSchedule) -> None:
    """Have it so from now on. Raises `BadValue`, and `NotAllowed` for another's invoices."""
    require(viewer, Deed.BILL_AS, account.chain, account.code)
    if account.kind not in ("admin", "reseller"):
        raise BadValue(f"{account.code} is a {account.kind}: the operator and resellers issue")
    before = find(cursor, account.account_id)
    if wanted.documents_since != (before.documents_since if before else None):
        require_operator(viewer, "documents on the server's disk")
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            INSERT INTO invoice_schedule (
                       issuer_id, unit, next_from, grace_hours, documents_since, mail_since,
                       remind_since)
            VALUES (%(issuer_id)s, %(unit)s, %(next_from)s, %(grace_hours)s, %(documents_since)s,
                    %(mail_since)s, %(remind_since)s)
                ON CONFLICT (issuer_id) DO UPDATE
               SET unit = excluded.unit,
                   next_from = excluded.next_from,
                   grace_hours = excluded.grace_hours,
                   documents_since = excluded.documents_since,
                   mail_since = excluded.mail_since,
                   remind_since = excluded.remind_since
            """,
            wanted._asdict(),
        )


def remove(cursor: Cursor, viewer: Viewer, account: Account) -> bool:
    """Nothing of this issuer's is done by itself any more; False when nothing was."""
    require(viewer, Deed.BILL_AS, account.chain, account.code)
    with as_owner(cursor, viewer):
        cursor.execute("DELETE FROM invoice_schedule WHERE issuer_id = %s", (account.account_id,))
        return cursor.rowcount > 0


def go_on(cursor: Cursor, issuer_id: int, ended: date, next_from: date) -> None:
    """The period from `ended` on is invoiced; the next one begins on `next_from`.

    Runs as the owner. Nothing when somebody has changed the schedule meanwhile.
    """
    cursor.execute(
        """
        UPDATE invoice_schedule
           SET next_from = %s
         WHERE issuer_id = %s
           AND next_from = %s
        """,
        (next_from, issuer_id, ended),
    )


# ------------------------------------------------------------------ what is due


_LETTERS = """
WITH wanted AS (
    SELECT invoice.invoice_id,
           invoice.issuer_id,
           0 AS step,
           'invoice' AS kind,
           invoice.issued_at AS since
      FROM invoice_schedule
      JOIN invoice USING (issuer_id)
     WHERE invoice.issued_at >= greatest(invoice_schedule.mail_since, %(oldest)s)
       AND invoice_schedule.mail_since IS NOT NULL
       AND invoice.status NOT IN ('draft', 'void')
       -- Who never got the invoice has no use for the note that takes it back.
       AND NOT EXISTS (SELECT
                         FROM invoice AS corrected
                        WHERE corrected.invoice_id = invoice.corrects_id
                          AND corrected.status = 'void'
                          AND NOT EXISTS (SELECT
                                            FROM invoice_mail
                                           WHERE invoice_mail.invoice_id = corrected.invoice_id
                                             AND invoice_mail.problem = ''))
     UNION ALL
    SELECT invoice.invoice_id,
           invoice.issuer_id,
           invoice.dunning_step,
           'reminder-' || invoice.dunning_step,
           invoice.dunned_at
      FROM invoice_schedule
      JOIN invoice USING (issuer_id)
     WHERE invoice.status IN ('issued', 'part-paid')
       AND invoice.dunning_step > 0
       AND invoice.dunned_at >= greatest(invoice_schedule.remind_since, %(oldest)s)
       AND invoice_schedule.remind_since IS NOT NULL
)
SELECT wanted.invoice_id,
       wanted.issuer_id,
       wanted.step,
       tried.tries
  FROM wanted
 CROSS JOIN LATERAL (
       SELECT count(*) AS tries,
              max(invoice_mail.at) AS last,
              coalesce(bool_or(invoice_mail.problem = '' OR invoice_mail.final), false) AS settled
         FROM invoice_mail
        WHERE invoice_mail.invoice_id = wanted.invoice_id
          AND invoice_mail.kind = wanted.kind) AS tried
 WHERE NOT tried.settled
   AND (tried.tries = 0
        OR tried.last + make_interval(mins => least(%(retry_max)s,
               %(retry_min)s * 2 ^ least(tried.tries - 1, 20))::integer) <= %(now)s)
 ORDER BY wanted.since, wanted.invoice_id
 LIMIT %(letters_max)s"""


def letters(cursor: Cursor, now: datetime, oldest: datetime) -> list[Letter]:
    """The mails that wait, the oldest first; what was issued before `oldest` is left out."""
    cursor.execute(
        _LETTERS,
        {
            "now": now,
            "oldest": oldest,
            "retry_min": RETRY_MINUTES_MIN,
            "retry_max": RETRY_MINUTES_MAX,
            "letters_max": LETTERS_AT_ONCE,
        },
    )
    return [Letter(*row) for row in cursor.fetchall()]


def papers(cursor: Cursor, oldest: datetime) -> list[Paper]:
    """The invoices whose PDF has not been written yet, the oldest first."""
    cursor.execute(
        """
        SELECT invoice.invoice_id,
               invoice.issuer_id,
               account.code
          FROM invoice_schedule
          JOIN invoice USING (issuer_id)
          JOIN account ON account.account_id = invoice.issuer_id
         WHERE invoice_schedule.documents_since IS NOT NULL
           AND invoice.issued_at >= greatest(invoice_schedule.documents_since, %s)
           AND invoice.status <> 'draft'
           AND NOT EXISTS (SELECT
                             FROM invoice_document
                            WHERE invoice_document.invoice_id = invoice.invoice_id
                              AND invoice_document.kind = 'pdf'
                              AND invoice_document.written_at IS NOT NULL)
         ORDER BY invoice.issued_at, invoice.invoice_id
         LIMIT %s
        """,
        (oldest, LETTERS_AT_ONCE),
    )
    return [Paper(*row) for row in cursor.fetchall()]


def written(cursor: Cursor, invoice_id: int, at: datetime) -> None:
    """The PDF is in its folder. Runs as the owner, once its hash is kept."""
    cursor.execute(
        "UPDATE invoice_document SET written_at = %s WHERE invoice_id = %s AND kind = 'pdf'",
        (at, invoice_id),
    )
